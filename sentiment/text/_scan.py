"""Folded texts -> tokens: the rules that say where a token begins and ends.

`sentiment.text.tokenizer` lists the rules. Compiled by Numba, whose cache sees changes of one file
only. So the functions call none of other files.

All functions take `text: uint8[bytes]`, folded texts, `kinds: uint8[bytes]`, the kinds of its bytes
(`sentiment.text._unicode`), and places in them. `glued` means that the character before is part of
a word.
"""

import numpy as np
from numba import njit

from sentiment.numba_cache import cached_njit
from sentiment.text._unicode import (
    ATTACHED,
    BLANK,
    COMMA,
    ELLIPSIS,
    EMOJI,
    IDEOGRAPH,
    KEYCAP,
    MODIFIER,
    OTHER,
    REGIONAL,
    REPEAT,
    SIGN,
    STOP,
    TAG,
)

URL, USER = b"<url>", b"<user>"
"""Tokens that stand for other text. They are at the beginning of `text`."""

PUNCTUATION = b"..,"
"""After them: `.` and `..` for full stops and `,` for commas, of any script."""

_STOPS = len(URL) + len(USER)
_COMMA = _STOPS + 2

_0, _1, _3, _7, _56, _63 = (np.uint64(number) for number in (0, 1, 3, 7, 56, 63))
_ONES = np.uint64(0x0101_0101_0101_0101)
_OUTSIDE = np.uint64(0xFE) * _ONES  # all kinds except WORD and REPEAT have one of these bits


def _bits(characters):
    """A set of ASCII characters as two uint64: bit c of the first, or c - 64 of the second."""
    number = sum(1 << ord(character) for character in characters)
    return np.uint64(number & 0xFFFF_FFFF_FFFF_FFFF), np.uint64(number >> 64)


_EYES = _bits(":;=")
_NOSES = _bits("-^o")
_ROUND = _bits("()")
_SLASHES = _bits("/\\")
_MOUTHS = _bits("[]{}|*")
_COLON_MOUTHS = _bits("@$#>")
_LETTERS = _bits("dpo")
_COLON_LETTERS = _bits("bsxc3")
_ANY_MOUTH = _bits("()/\\[]{}|*@$#>dpobsxc3")
_SMILEYS = _bits(":;=>")
_BETWEEN_CARETS = _bits("_.-o")
_FACES = _bits("-=;*@$~.>")
_DOTTED_FACES = _bits(">-")
_BRACKETS = _bits("()[]")
_TURNED_NOSES = _bits("-'")
_RAISED = _bits("om")
_TWIN_LETTERS = _bits("tuxnqvy")
_WIDE_EYES = _bits("o0")
_URL_ENDS = _bits('"<>')
_AFTER_URL = _bits(".,:;!?'()[]{}*_~-&")


@njit(forceinline=True)
def is_in(byte, characters):
    """Whether a byte is one of the ASCII characters of a set from `_bits`."""
    low, high = characters
    half = high if byte & 64 else low
    return byte < 128 and (half >> np.uint64(byte & 63)) & np.uint64(1) != 0


@njit(forceinline=True)
def eight(words, at):
    """Eight bytes from byte `at` of `words: uint64[...]` as one uint64, the first the lowest."""
    place = np.uint64(at)
    shift = (place & _7) << _3
    word = place >> _3
    return (words[word] >> shift) | ((words[word + _1] << _1) << (_63 - shift))


@njit(forceinline=True)
def first_byte(word):
    """The place, 0 to 7, of the lowest byte that is not zero, in a uint64 of even bytes.

    lowest - 1 has the lowest bit of that byte and of all bytes below it: their number is the place
    plus one.
    """
    lowest = word & (~word + _1)
    return np.int64((((lowest - _1) & _ONES) * _ONES) >> _56) - 1


@njit(forceinline=True)
def run(text, at):
    """Where the run of bytes equal to the one at `at` ends."""
    stop = at + 1
    while text[stop] == text[at]:
        stop += 1
    return stop


@njit
def smiley(text, kinds, at, glued):
    """Where the emoticon of eyes, nose and mouth at `at` ends; `at` if there is none."""
    eyes = at + (text[at] == ord(">"))
    if not is_in(text[eyes], _EYES):
        return at
    colon = text[eyes] == ord(":")
    for nose in range(2):
        mouth = eyes + 1
        if nose == 0:  # with a nose or tear
            if is_in(text[mouth], _NOSES):
                mouth += 1
            elif text[mouth] == ord("'"):
                mouth += 1 + (text[mouth + 1] == ord("-"))
            else:
                continue
        byte = text[mouth]
        if not is_in(byte, _ANY_MOUTH):  # a run of blanks might pass the margin
            continue
        stop = run(text, mouth)
        free = kinds[stop] > REPEAT
        if is_in(byte, _ROUND):
            return stop
        if is_in(byte, _SLASHES):
            if stop == mouth + 1 and free and not is_in(text[stop], _SLASHES):
                return stop
        elif is_in(byte, _MOUTHS) or (colon and is_in(byte, _COLON_MOUTHS)):
            if free:
                return stop
        elif is_in(byte, _LETTERS) or (colon and is_in(byte, _COLON_LETTERS)):
            letter_nose = nose == 0 and text[mouth - 1] == ord("o")
            if free and not glued and not letter_nose:
                return stop
    return at


@njit
def emoticon(text, kinds, at, glued):
    """Where the emoticon that begins with the sign at `at` ends; `at` if there is none."""
    byte = text[at]
    after = text[at + 1]
    if is_in(byte, _SMILEYS):
        stop = smiley(text, kinds, at, glued)
        if stop > at:
            return stop
    if byte == ord("<"):
        stop = at + 1 + (after == ord("/"))
        number = glued and ord("0") <= text[at - 1] <= ord("9")
        if text[stop] == ord("3") and not number:
            stop = run(text, stop)
            if not ord("0") <= text[stop] <= ord("9"):
                return stop
    elif byte == ord("^"):
        if after == ord("^"):
            return at + 2
        stop = run(text, at + 1) if after == ord("_") else at + 2
        if is_in(after, _BETWEEN_CARETS) and text[stop] == ord("^"):
            return stop + 1
    elif is_in(byte, _FACES):
        stop = at
        if after == ord("_"):
            stop = run(text, at + 1)
        elif (after == ord(".") and is_in(byte, _DOTTED_FACES)) or (
            after == ord("-") and byte == ord("*")
        ):
            stop = at + 2
        other = ord("<") if byte == ord(">") else byte
        if stop > at and text[stop] == other and kinds[stop + 1] > REPEAT:
            return stop + 1
    elif is_in(byte, _BRACKETS):  # turned round
        stop = at + 1 + is_in(after, _TURNED_NOSES)
        if kinds[at - 1] == BLANK and is_in(text[stop], _EYES) and kinds[stop + 1] > REPEAT:
            return stop + 1
    elif byte == ord("\\") and is_in(after, _RAISED) and text[at + 2] == ord("/"):
        return at + 3 if not glued and kinds[at + 3] > REPEAT else at
    return at


@njit
def letter_face(text, kinds, at, brackets):
    """Where the emoticon or keycap that begins with the word `text[at]` ends; `at` if none."""
    byte = text[at]
    if kinds[at + 1] == KEYCAP:
        return at + 4 if ord("0") <= byte <= ord("9") else at
    if byte == ord("8"):
        stop = at + 1 + (text[at + 1] == ord("-"))
        if kinds[at - 1] == BLANK and text[stop] == ord(")") and brackets == 0:
            stop = run(text, stop)
            if kinds[stop] == BLANK:
                return stop
        return at
    if text[at + 1] != ord("_") and text[at + 1] != ord("."):
        return at
    stop = run(text, at + 1)
    if kinds[stop] > REPEAT or kinds[stop + 1] <= REPEAT:
        return at
    same = is_in(byte, _TWIN_LETTERS) and text[at + 1] == ord("_") and text[stop] == byte
    wide = is_in(byte, _WIDE_EYES) and is_in(text[stop], _WIDE_EYES)
    # 0.0 is a number.
    dotted = stop == at + 2 and (byte == ord("o") or text[stop] == ord("o"))
    if same or (wide and (text[at + 1] == ord("_") or dotted)):
        return stop + 1
    return at


@njit
def url(text, kinds, at, stop):
    """Where the URL that begins with the word `text[at:stop]` ends; `at` if there is none."""
    place = stop
    if text[stop] == ord(":"):
        secure = stop == at + 5 and text[at + 4] == ord("s")
        http = text[at] == ord("h") and text[at + 1] == text[at + 2] == ord("t")
        if not http or text[at + 3] != ord("p") or (stop != at + 4 and not secure):
            return at
        if text[stop + 1] != ord("/") or text[stop + 2] != ord("/"):
            return at
        place = stop + 3
    elif text[stop] == ord(".") and stop == at + 3 and text[at] == ord("w"):
        if text[at + 1] != ord("w") or text[at + 2] != ord("w"):
            return at
        place = stop + 1
    else:
        return at
    first = place
    while kinds[place] <= REPEAT or (
        ord(" ") < text[place] < 127 and kinds[place] != BLANK and not is_in(text[place], _URL_ENDS)
    ):
        place += 1
    while place > first and is_in(text[place - 1], _AFTER_URL):
        place -= 1
    return place if place > first else at


@njit
def name(text, kinds, at, ideographs):
    """Where the run of letters, digits and underscores at `at` ends."""
    while (
        kinds[at] <= REPEAT
        or text[at] == ord("_")
        or (ideographs and kinds[at] in (IDEOGRAPH, ATTACHED))
    ):
        at += 1
    return at


@njit
def hashtag(text, kinds, at, glued):
    """Where the hashtag that begins with the # at `at` ends; `at` if there is none."""
    stop = name(text, kinds, at + 1, True)
    place = at + 1
    while place < stop and (ord("0") <= text[place] <= ord("9") or text[place] == ord("_")):
        place += 1
    return stop if place < stop and not glued else at


@njit
def user(text, kinds, at, glued):
    """Where the mention that begins with the @ at `at` ends; `at` if there is none."""
    stop = name(text, kinds, at + 1, False)
    return at if glued or text[at - 1] == ord("_") or stop == at + 1 else stop


@njit
def sign(text, kinds, at, glued):
    """Where the token that begins with the sign at `at` ends; `at` if there is none."""
    byte = text[at]
    if byte == ord("!") or byte == ord("?"):
        return at + 1
    if kinds[at + 1] == KEYCAP and (byte == ord("#") or byte == ord("*")):
        return at + 4
    return emoticon(text, kinds, at, glued)


@njit
def punctuation(text, kinds, at, glued):
    """Where the full stops or the comma at `at` end, and where their token begins and ends.

    The token is in PUNCTUATION. All three are `at` if there is no token.
    """
    spaced = text[at] < 0x80  # the ASCII ones need a blank after them
    one = at + (1 if spaced else 2 if text[at] < 0xE0 else 3)
    if kinds[at] == COMMA:
        if spaced and kinds[one] != BLANK:
            return at, at, at
        return one, _COMMA, _COMMA + 1
    stop = one
    while kinds[stop] in (STOP, ELLIPSIS):
        stop += 1
    if text[stop] == ord("_") and emoticon(text, kinds, stop - 1, False) >= stop:  # ._.
        stop -= 1
    if stop > one or kinds[at] == ELLIPSIS:
        return stop, _STOPS, _STOPS + 2
    word = glued or kinds[at - 1] in (IDEOGRAPH, ATTACHED)
    if spaced and (kinds[one] != BLANK or not word):
        return at, at, at
    return one, _STOPS, _STOPS + 1


@njit
def ideograph(text, kinds, at):
    """Where the ideograph at `at` and the marks on it end."""
    at += 4 if text[at] >= 0xF0 else 3
    while kinds[at] == ATTACHED:
        at += 1
    return at


@njit
def emoji(text, kinds, at):
    """Where the emoji sequence at `at` ends (Unicode Technical Standard 51)."""
    if kinds[at] == REGIONAL:
        return at + (8 if kinds[at + 4] == REGIONAL else 4)
    if kinds[at] == MODIFIER:
        return at + 4
    while True:
        at += 4 if text[at] >= 0xF0 else 3
        if kinds[at] == MODIFIER:
            at += 4
        while kinds[at] == TAG:
            at += 4
        joined = text[at] == 0xE2 and text[at + 1] == 0x80 and text[at + 2] == 0x8D
        if not joined or kinds[at + 3] != EMOJI:
            return at
        at += 3


@njit
def squeeze(text, kinds, at, stop, is_emoticon):
    """Remove the repeats from the token `text[at:stop]`, in place. Returns its new end."""
    end = at
    for place in range(at, stop):
        if is_emoticon:
            repeat = end >= at + 2 and text[place] == text[end - 1] == text[end - 2]
        else:
            repeat = kinds[place] == REPEAT
        if not repeat:
            text[end] = text[place]
            end += 1
    return end


@cached_njit(nogil=True)
def scan(text, kinds, kind_words, spans, tokens, counts):
    """Find the tokens of folded texts.

    Args:
        text: uint8[bytes], the folded texts, with URL, USER and PUNCTUATION at its beginning.
            Repeats are removed from it in place.
        kinds: uint8[bytes], the kinds of its bytes.
        kind_words: uint64[bytes / 8], a view of `kinds`.
        spans: int64[rows, 2], where each text begins and ends. An end below the beginning means
            that there is no text.
        tokens: int64[upper bound of the tokens, 2], gets where each token begins and ends in
            `text`.
        counts: int64[rows], gets the number of tokens of each text.
    """
    count = 0
    for row in range(len(spans)):
        at, end = spans[row]
        before = count
        brackets = 0  # open brackets
        alike, alike_at, alike_stop, alike_next = (
            0,
            0,
            0,
            -1,
        )  # the last symbol and how often it occurred in a row
        while True:
            while (kinds[at] == BLANK or kinds[at] == OTHER) and at < end:
                at += 1
            if at >= end:
                break
            start = at
            if kinds[at] <= REPEAT:
                # For words of up to seven bytes, no branch depends on the length.
                repeats = _0
                ahead = eight(kind_words, at)
                while ahead & _OUTSIDE == 0:
                    repeats |= ahead
                    at += 8
                    ahead = eight(kind_words, at)
                rest = first_byte(ahead & _OUTSIDE)
                repeats |= ahead & ((_1 << np.uint64(8 * rest)) - _1)
                at += rest
                stop = at
                symbol = False
                if kinds[at] > OTHER:
                    if at == start + 1:
                        at = max(stop, letter_face(text, kinds, start, brackets))
                        symbol = at > stop
                        stop = squeeze(text, kinds, start, at, True)
                    else:
                        at = max(stop, url(text, kinds, start, stop))
                        if at > stop:
                            start, stop = 0, len(URL)
                            repeats = _0
                if repeats & _ONES:
                    stop = squeeze(text, kinds, start, stop, False)
            else:
                kind, byte = kinds[at], text[at]
                # A letter or digit of an emoticon is not part of a word.
                glued = kinds[at - 1] <= REPEAT and at != alike_next
                if kind == SIGN or (kind == STOP and text[at + 1] == ord("_")):
                    at = sign(text, kinds, at, glued)
                elif kind == IDEOGRAPH:
                    at = ideograph(text, kinds, at)
                elif kind in (EMOJI, MODIFIER, REGIONAL):
                    at = emoji(text, kinds, at)
                stop = at
                symbol = at > start
                if not symbol and kind in (STOP, ELLIPSIS, COMMA):
                    at, start, stop = punctuation(text, kinds, at, glued)
                elif symbol:
                    if kind in (SIGN, STOP):
                        stop = squeeze(text, kinds, start, stop, True)
                elif byte == ord("#"):
                    at = hashtag(text, kinds, at, glued)
                    stop = squeeze(text, kinds, start, at, False)
                elif byte == ord("@"):
                    at = user(text, kinds, at, glued)
                    if at > start:
                        start, stop = len(URL), len(URL) + len(USER)
                if start == stop:
                    if byte == ord("("):
                        brackets += 1
                    elif byte == ord(")"):
                        brackets = max(0, brackets - 1)
                    at += 1
                    continue
            if symbol:
                same = start == alike_next and stop - start == alike_stop - alike_at
                if same:
                    for place in range(stop - start):
                        same &= text[start + place] == text[alike_at + place]
                alike = alike + 1 if same else 1
                alike_at, alike_stop, alike_next = start, stop, at
                if alike > 2:
                    continue
            tokens[count, 0] = start
            tokens[count, 1] = stop
            count += 1
        counts[row] = count - before
