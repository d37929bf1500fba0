"""The tokenizer in plain Python, one text after another: slow, and easy to read or to translate.

    from tokenizer import Tokenizer

    ids = Tokenizer("tokenizer.json").ids(["what a day :)", "oh no"])

This file needs Python's standard library only. An exported model comes with a copy of it,
`tokenizer.py`. The compiled tokenizer, `sentiment.text.tokenizer`, is tested against it, and states
the rules in words.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

PADDING, UNKNOWN = 0, 1


class Tokenizer:
    """Texts -> token ids, as a `tokenizer.json` says."""

    def __init__(self, path: str) -> None:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        self.rules: int = settings["rules"]
        self.max_tokens: int = settings["max_tokens"]
        self.stop_words = frozenset(settings["stop_words"])
        self.id_of = {token: number for number, token in enumerate(settings["vocabulary"])}

    def ids(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of n texts: int64[n, length], padded on the right with PADDING."""
        rows = []
        for text in texts:
            tokens = (token for token in tokenize(text, self.rules) if token not in self.stop_words)
            rows.append([self.id_of.get(token, UNKNOWN) for token in tokens][: self.max_tokens])
        length = max(map(len, rows), default=0)
        return [row + [PADDING] * (length - len(row)) for row in rows]


# Rules 1; from rules 2 on also other apostrophes, and other forms of letters and digits.
SAME = str.maketrans({"’": "'", "！": "!", "？": "?", "؟": "?", "＃": "#", "＠": "@"})
IGNORED = re.compile(
    "[\u00ad\u061c\u180b-\u180f\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069"
    "\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
)
SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3000-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)
PICTOGRAPH = re.compile(
    "[\u203c\u2049\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u24c2"
    "\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2767\u2794-\u27bf\u2934\u2935\u2b05-\u2b07"
    "\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f0ff\U0001f170\U0001f171"
    "\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a\U0001f201\U0001f202\U0001f21a\U0001f22f"
    "\U0001f232-\U0001f23a\U0001f250\U0001f251\U0001f300-\U0001f64f\U0001f680-\U0001f6ff"
    "\U0001f7e0-\U0001f7ff\U0001f900-\U0001f9ff\U0001fa70-\U0001faff]"
)

# One letter for what a character is: L letter, D digit, M mark, I ideograph, J joiner, E emoji,
# S skin tone, R regional indicator, T tag, K keycap, blank, and . for all the rest. A letter,
# digit, mark or joiner inside a word becomes w.
EMOJI = re.compile(r"RR|R|S|ES?T*(?:\u200dES?T*)*")


def _shape_of(character: str) -> str:
    """The letter, of those above, for a character by itself."""
    category = unicodedata.category(character)
    if character <= " " or character.isspace() or category[0] == "Z":
        return " "
    if character in "'\u200c\u200d":
        return "J"
    if character == "\u20e3":
        return "K"
    if "\U0001f3fb" <= character <= "\U0001f3ff":
        return "S"
    if "\U0001f1e6" <= character <= "\U0001f1ff":
        return "R"
    if "\U000e0020" <= character <= "\U000e007f":
        return "T"
    if PICTOGRAPH.match(character):
        return "E"
    if SPACELESS.match(character) and (
        category[0] == "L" or category == "Nl" or character >= "\U00020000"
    ):
        return "I"
    return {"L": "L", "N": "D", "M": "M"}.get(category[0], ".")


APOSTROPHES = dict.fromkeys(map(ord, "`\u00b4\u02bc\u2018\u2032\uff07"), "'")
FORMS = re.compile("[\u2100-\u2138\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\U0001d400-\U0001d7ff]")


def _plain_form(character: str) -> str:
    """The plain letter or digit of a full-width, mathematical or letterlike one."""
    plain = unicodedata.normalize("NFKC", character)
    is_one = len(plain) == 1 and unicodedata.category(character)[0] in "LN"
    return plain if is_one and FORMS.match(character) else character


def _composed(text: str) -> str:
    """Each mark composed with the letter before it, where that makes a lower-case letter."""
    kept = ""
    for character in text:
        together = unicodedata.normalize("NFC", kept[-1:] + character)
        if (
            _shape_of(character) == "M"
            and unicodedata.normalize("NFC", character) == character
            and kept
            and _shape_of(kept[-1]) == "L"
            and len(together) == 1
            and _shape_of(together) == "L"
            and together == together.lower()
        ):
            kept = kept[:-1] + together
        else:
            kept += character
    return kept


def _fold(text: str, rules: int) -> str:
    """The text in lower case, without entities, variants of signs and invisible characters."""
    text = IGNORED.sub("", html.unescape(text))
    if rules > 1:
        text = "".join(map(_plain_form, text)).translate(APOSTROPHES)
    text = "".join(character.lower()[0] for character in text).translate(SAME)
    if rules > 1:
        text = _composed(text)
    # Repeated ideographs and marks on them go here; words are squeezed later.
    kept, shapes = "", ""
    for character in text:
        shape = _shape_of(character)
        if shape == "M" and shapes.endswith(("I", "A")):
            shape = "A"
        if shape not in ("I", "A") or kept[-2:] != character * 2:
            kept += character
            shapes += shape
    return kept


def _shape(text: str) -> str:
    """The letter for each character of a folded text, which may depend on its neighbours."""
    raw = [_shape_of(character) for character in text]
    shapes = ""
    for place, kind in enumerate(raw):
        before = shapes[-1:]
        if kind in ("L", "D"):
            kind = "w"
        elif kind == "M":
            kind = "w" if before == "w" else "A" if before in ("I", "A") and before else "."
        elif kind == "J" and before == "w" and raw[place + 1 : place + 2] in (["L"], ["D"]):
            kind = "w"
        shapes += kind
    return shapes


# Emoticons, and what must stand around them: anything; no digit before; no word after; no word on
# either side; a blank before and no word after. The first that fits counts.
FREE, NO_DIGIT, WORD_END, ALONE, TURNED = range(5)
EMOTICONS = [
    (re.compile(pattern), needs)
    for pattern, needs in [
        (r">?[:;=](?:-|\^|o|'-|')(?:\)+|\(+)", FREE),
        (r">?[:;=](?:-|\^|o|'-|')[/\\](?![/\\])", WORD_END),
        (r">?[:;=](?:-|\^|o|'-|')([][{}|*])\1*", WORD_END),
        (r">?:(?:-|\^|o|'-|')([@$#>])\1*", WORD_END),
        (r">?[:;=](?:-|\^|'-|')([dpo])\1*", ALONE),
        (r">?:(?:-|\^|'-|')([bsxc3])\1*", ALONE),
        (r">?[:;=](?:\)+|\(+)", FREE),
        (r">?[:;=][/\\](?![/\\])", WORD_END),
        (r">?[:;=]([][{}|*])\1*", WORD_END),
        (r">?:([@$#>])\1*", WORD_END),
        (r">?[:;=]([dpo])\1*", ALONE),
        (r">?:([bsxc3])\1*", ALONE),
        (r"</?3+(?![0-9])", NO_DIGIT),
        (r"\^\^|\^_+\^|\^[-.o]\^", FREE),
        (r"([-=;*@$~.])_+\1|>_+<|>\.<|-\.-|\*-\*", WORD_END),
        (r"[][()][-']?[:;=]", TURNED),
        (r"\\[om]/", ALONE),
        (r"([tuxnqvy])_+\1|[o0]_+[o0]|o\.[o0]|0\.o", ALONE),
    ]
]
EIGHT = re.compile(r"8-?\)+")
URL = re.compile(r"https?://|www\.")
ADDRESS_END = ".,:;!?'()[]{}*_~-&"
STOPS, ELLIPSIS, COMMAS = ".。｡।۔", "…", ",，、､،"
DOTTED = re.compile(r"\._+\.")


def tokenize(text: str, rules: int = 2) -> list[str]:
    """The tokens of one text, stop words included."""
    text = _fold(text, rules)
    return _Scanner(text, _shape(text)).tokens()


class _Scanner:
    """The state of reading one folded text from left to right."""

    def __init__(self, text: str, shapes: str) -> None:
        self.text, self.shapes = text, shapes
        self.emoji_shapes = "".join(
            "\u200d" if character == "\u200d" else kind
            for character, kind in zip(text, shapes, strict=True)
        )
        self.at = 0
        self.open_brackets = 0
        self.found: list[str] = []
        self.symbol = ("", 0, -1)  # the last one, how often in a row, where it ended

    def is_word(self, place: int) -> bool:
        return 0 <= place < len(self.text) and self.shapes[place] == "w"

    def is_blank(self, place: int) -> bool:
        return not 0 <= place < len(self.text) or self.shapes[place] == " "

    def after_word(self) -> bool:
        return self.is_word(self.at - 1) and self.symbol[2] != self.at

    def tokens(self) -> list[str]:
        """The tokens: at each place the first rule that applies takes what it can."""
        rules = [self.emoticon, self.keycap, self.url, self.word, self.user, self.hashtag]
        rules += [self.exclamation, self.stops, self.comma, self.ideograph, self.emoji]
        while self.at < len(self.text):
            if not any(rule() for rule in rules):
                if self.text[self.at] in "()":
                    change = 1 if self.text[self.at] == "(" else -1
                    self.open_brackets = max(0, self.open_brackets + change)
                self.at += 1
        return self.found

    def add(self, token: str, stop: int) -> bool:
        self.found.append(token)
        self.at = stop
        return True

    def add_symbol(self, token: str, stop: int) -> bool:
        last, times, ended = self.symbol
        times = times + 1 if token == last and ended == self.at else 1
        self.symbol = token, times, stop
        if times <= 2:
            self.found.append(token)
        self.at = stop
        return True

    def emoticon(self) -> bool:
        stop = self.emoticon_end()
        if stop == self.at:
            return False
        return self.add_symbol(re.sub(r"(.)\1{2,}", r"\1\1", self.text[self.at : stop]), stop)

    def emoticon_end(self) -> int:
        at = self.at
        eight = EIGHT.match(self.text, at)
        if eight and not self.open_brackets and self.is_blank(at - 1):
            return eight.end() if self.is_blank(eight.end()) else at
        for pattern, needs in EMOTICONS:
            match = pattern.match(self.text, at)
            if not match:
                continue
            if needs == NO_DIGIT and self.after_word() and self.text[at - 1] in "0123456789":
                continue
            if needs == ALONE and self.after_word():
                continue
            if needs == TURNED and not self.is_blank(at - 1):
                continue
            if needs in (FREE, NO_DIGIT) or not self.is_word(match.end()):
                return match.end()
        return at

    def keycap(self) -> bool:
        one = self.text[self.at] in "0123456789#*" and self.shapes[self.at + 1 : self.at + 2] == "K"
        return one and self.add_symbol(self.text[self.at : self.at + 2], self.at + 2)

    def url(self) -> bool:
        match = URL.match(self.text, self.at)
        if not match:
            return False
        stop = match.end()
        while stop < len(self.text) and (
            self.is_word(stop) or ("!" <= self.text[stop] <= "~" and self.text[stop] not in '"<>')
        ):
            stop += 1
        stop = match.end() + len(self.text[match.end() : stop].rstrip(ADDRESS_END))
        return stop > match.end() and self.add("<url>", stop)

    def word(self) -> bool:
        stop = self.at
        while self.is_word(stop):
            stop += 1
        return stop > self.at and self.add(_squeeze(self.text[self.at : stop]), stop)

    def user(self) -> bool:
        before = self.text[self.at - 1 : self.at]
        if self.text[self.at] != "@" or self.after_word() or before == "_":
            return False
        stop = self.at + 1
        while self.is_word(stop) or self.text[stop : stop + 1] == "_":
            stop += 1
        return stop > self.at + 1 and self.add("<user>", stop)

    def hashtag(self) -> bool:
        if self.text[self.at] != "#" or self.after_word():
            return False
        stop = self.at + 1
        while self.shapes[stop : stop + 1] in ("w", "I", "A") or self.text[stop : stop + 1] == "_":
            stop += 1
        if not self.text[self.at + 1 : stop].strip("0123456789_"):
            return False
        pieces = re.split("(_+)", self.text[self.at : stop])
        return self.add("".join(p if p[:1] == "_" else _squeeze(p) for p in pieces), stop)

    def exclamation(self) -> bool:
        one = self.text[self.at] in "!?"
        return one and self.add_symbol(self.text[self.at], self.at + 1)

    def stops(self) -> bool:
        stop = self.at
        while self.text[stop : stop + 1] in (*STOPS, ELLIPSIS):
            face = DOTTED.match(self.text, stop)
            if face and not self.is_word(face.end()):
                break
            stop += 1
        run = self.text[self.at : stop]
        if len(run) > 1 or run == ELLIPSIS:
            return self.add("..", stop)
        after_word = self.after_word() or self.shapes[self.at - 1 : self.at] in ("I", "A")
        if run == "." and not (after_word and self.is_blank(stop)):
            return False
        return run != "" and self.add(".", stop)

    def comma(self) -> bool:
        comma = self.text[self.at]
        if comma not in COMMAS or (comma == "," and not self.is_blank(self.at + 1)):
            return False
        return self.add(",", self.at + 1)

    def ideograph(self) -> bool:
        if self.shapes[self.at] != "I":
            return False
        stop = self.at + 1
        while self.shapes[stop : stop + 1] == "A":
            stop += 1
        return self.add_symbol(self.text[self.at : stop], stop)

    def emoji(self) -> bool:
        match = EMOJI.match(self.emoji_shapes, self.at)
        return match is not None and self.add_symbol(self.text[self.at : match.end()], match.end())


def _squeeze(word: str) -> str:
    """Letters and marks that stand three times or more in a row, twice."""
    return re.sub(
        r"(.)\1{2,}",
        lambda match: match[0] if unicodedata.category(match[1])[0] == "N" else match[1] * 2,
        word,
        flags=re.DOTALL,
    )
