"""The tokenizer: readable examples, and equality with a plain reference on all kinds of text."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from random import Random
from tempfile import NamedTemporaryFile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sentiment.errors import InputError
from sentiment.text import _fold, _lookup, _scan, reference
from sentiment.text.character_tables import character_tables
from sentiment.text.tokenizer import PADDING, SPECIALS, UNKNOWN, TokenIds, Tokenizer, mix
from testing.properties import examples

EXAMPLES = {
    "words": ("A well-made film", ["a", "well", "made", "film"]),
    "apostrophes": ("Don't 'quote' rock’n’roll rockin'", [
        "don't", "quote", "rock'n'roll", "rockin",
    ]),
    "digits": ("10/10 in 1080p, $1000", ["10", "10", "in", "1080p", ",", "1000"]),
    "repeats": ("sooooo Loooove aa 10000", ["soo", "loove", "aa", "10000"]),
    "entities": ("Tom &amp; Jerry &lt;3 &#39;&#x41;&eacute;", ["tom", "jerry", "<3", "aé"]),
    "entities, once": ("&amp;lt;3 &amp;amp;", ["lt", "3", "amp"]),
    "entities, no semicolon": ("1 &lt3 &notit", ["1", "<3", "it"]),
    "urls": ("see http://t.co/aB1?x=1; (WWW.X.org/) HTTPS://a", ["see", "<url>", "<url>", "<url>"]),
    "no urls": ("http:// www. xhttp://y awww.", [
        "http", "ww", ".", "xhttp", "y", "aww", ".",
    ]),
    "url ends": ("http://a.b/c!!! www.a.b:) www.a<b", [
        "<url>", "!", "!", "<url>", ":)", "<url>", "b",
    ]),
    "users": ("@bob: .@Al_1 b@x.com @ @é", ["<user>", "<user>", "b", "x", "com", "<user>"]),
    "hashtags": ("#Good #sooo_1 #1 c#d ＃日本", ["#good", "#soo_1", "1", "c", "d", "#日本"]),
    "hashtags, long": ("#it's_哈哈哈 #a___b3000", ["#it's_哈哈", "#a___b3000"]),
    "lower case": ("ÀÉ ΣΑΣ İß ǅ", ["àé", "σασ", "iß", "ǆ"]),
    "full stops": ("A film. e.g. Mr. X #b. x\u0301.\r\n@me.", [
        "a", "film", ".", "e", "g", ".", "mr", ".", "x", "#b", ".", "x\u0301", ".", "<user>", ".",
    ]),
    "no full stops": ("a . b .5 3.14 .net a.b :). :D. x_. 😀. (a.) .", [
        "a", "b", "5", "3", "14", "net", "a", "b", ":)", ":d", "x", "😀", "a",
    ]),
    "more full stops": ("a.. b... .... c....d :.. ...:) ..!", [
        "a", "..", "b", "..", "..", "c", "..", "d", "..", "..", ":)", "..", "!",
    ]),
    "ellipses": ("a… …b …… .…. &hellip;", ["a", "..", "..", "b", "..", "..", ".."]),
    "commas": ("a, b , c,d 1,000 , , :), e,,, ,", [
        "a", ",", "b", ",", "c", "d", "1", "000", ",", ",", ":)", ",", "e", ",", ",",
    ]),
    "dotted faces": ("._. ..._. ._... …._. -.-. o.o. ._.a", [
        "._.", "..", "._.", "._.", "..", "..", "._.", "-.-", "o.o", "a",
    ]),
    "urls and full stops": ("www.a.b. www.a.b/. www.a.b... www.a.b, http://a…b.", [
        "<url>", ".", "<url>", "<url>", "..", "<url>", ",", "<url>", "..", "b", ".",
    ]),
    "entities and punctuation": ("a&period; b&#46;&#46; c&comma;&nbsp;d.&nbsp;e.&amp; f.&gt;", [
        "a", ".", "b", "..", "c", ",", "d", ".", "e", "f",
    ]),
    "other full stops": ("好。我，你、他……「好」。 好. 好.x है। ॥ ہے۔ نعم،لا", [
        "好", ".", "我", ",", "你", ",", "他", "..", "好", ".", "好", ".", "好", "x", "है", ".",
        "ہے", ".", "نعم", ",", "لا",
    ]),
    "signs": ("Wow!!!! Why?!? no ！", ["wow", "!", "!", "why", "?", "!", "?", "no", "!"]),
    "smileys": (":) :-( ;D =P :'( >:( :o) :* x:/", [
        ":)", ":-(", ";d", "=p", ":'(", ">:(", ":o)", ":*", "x", ":/",
    ]),
    "long smileys": ("ok:))))) :DDDD :)):))", ["ok", ":))", ":dd", ":))", ":))"]),
    "turned smileys": ("(: (-; f(a): b", ["(:", "(-;", "f", "a", "b"]),
    "faces": ("^^ ^_^ -__- >_< o_O T_T xD \\o/ -_____-", [
        "^^", "^_^", "-__-", ">_<", "o_o", "t_t", "xd", "\\o/", "-__-",
    ]),
    "hearts": ("<3 <3333 </3 <3<3<3 2<3 <35", ["<3", "<33", "</3", "<3", "<3", "2", "3", "35"]),
    "no smileys": ("at 10:30 a:b :people ftp://x c:/d 0.0", [
        "at", "10", "30", "a", "b", "people", "ftp", "x", "c", "d", "0", "0",
    ]),
    "eight": ("8) cool (18) (or 8) 8)x", ["8)", "cool", "18", "or", "8", "8", "x"]),
    "emoji": ("ok😀👍🏽❤️👩🏽‍🚀", ["ok", "😀", "👍🏽", "❤", "👩🏽‍🚀"]),
    "emoji, many": ("😂😂😂😂 😂", ["😂", "😂", "😂"]),
    "emoji, not joined": ("👩\u200da 👩\u200d哈 \u200d👩🏽🏽", [
        "👩", "a", "👩", "哈", "👩🏽", "🏽",
    ]),
    "flags": ("🇫🇷🇩🇪 🏴󠁧󠁢󠁳󠁣󠁴󠁿", ["🇫🇷", "🇩🇪", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"]),
    "keycaps": ("1️⃣ #⃣", ["1⃣", "#⃣"]),
    "han": ("很好! 哈哈哈哈", ["很", "好", "!", "哈", "哈"]),
    "kana": ("かわいい デス", ["か", "わ", "い", "い", "デ", "ス"]),
    "thai": ("ดีมาก", ["ดี", "ม", "า", "ก"]),
    "devanagari": ("हिन्दी अच्छा", ["हिन्दी", "अच्छा"]),
    "arabic": ("مَرحَبًا؟", ["مَرحَبًا", "?"]),
    "persian": ("می\u200cخواهم", ["می\u200cخواهم"]),
    "hangul": ("정말 좋아요", ["정말", "좋아요"]),
    "decomposed, in another order than Unicode's": ("a\u0302\u0323", ["â\u0323"]),
    "decomposed": ("Cafe\u0301 E\u0301e\u0301e\u0301\u0301 x\u0301 e\u0323\u0302 \u0301e", [
        "café", "éé\u0301", "x\u0301", "ệ", "e",
    ]),
    "other apostrophes": ("don`t don´t don＇t don‘t donʼt don′t `quote` :`(", [
        *["don't"] * 6, "quote", ":'(",
    ]),
    "full-width and mathematical": ("ＧＯＯＤ 𝗴𝗼𝗼𝗱 𝓖𝓸𝓸𝓭 ℌ𝔢ℓ𝔩ℴ ２０𝟙𝟚 №", [
        "good", "good", "good", "hello", "2012",
    ]),
    "invisible": ("so\u00adft \ufeffx\u200ey", ["soft", "xy"]),
    "nothing": (" \t\n\x00.—\u200b\u0301", []),
    "special tokens": ("<pad> <unk>", ["pad", "unk"]),
}  # fmt: skip

FRAGMENTS = [
    *"@#_'’:;=-^<>()[]{}\\/|*$~.,!?& \n\t\0abox dps3801é＃＠！？؟哈かกﾊßİΣ½Ⅷ〇२２ａ♯©★❤😀👩🇫🇷🏽🏴",
    "&amp;", "&amp", "&lt;", "&#39;", "&#x1F600;", "&nGt;", "&notit;", "&fjlig;", "&#0;", "&#x80;",
    "&#xd800;", "&#xfdd0;", "&#x110000;", "&#9999999999999999999;", "&#;", "&#x;", "&quot",
    "&nbsp", "&CounterClockwiseContourIntegral;",
    ":)", ":(", ":-)", ":'(", ":d", ";p", "=)", ":/", ">:(", "(:", "<3", "</3", "^_^", "-_-", "o_o",
    "t_t", "\\o/", "8)", "://", "http://", "HTTPS://", "http", "www.", "@user", "#tag",
    "\u00a0", "\u0301", "\u200b", "\u200c", "\u200d", "\ufe0f", "\u00ad", "\u20e3", "\u3099",
    "\u0e35", "न्", "\U000e0067", "\U000e007f", "\ufffd", "\x7f", "\x85", "don't", "sooo", "1000",
    "e", "e", "\u0302", "\u0323", "\u0307", "`", "´", "＇", "ʼ", "‘", "′", "Ｇ", "𝗴", "ℌ", "ℎ", "𝟙",
    "\r\n", "…", "...", "._.", ". ", ", ", "。", "۔", "，", "،", "&hellip;", "&period;", "&comma;",
]  # fmt: skip

TRICKY = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.builds(lambda part, times: part * times, st.sampled_from(FRAGMENTS), st.integers(2, 5)),
    ),
    max_size=12,
).map("".join)
PLAIN = st.lists(
    st.sampled_from([f for f in FRAGMENTS if f.isascii() and "&" not in f])
    | st.text([chr(code) for code in range(128) if code != ord("&")], max_size=3),
    max_size=12,
).map("".join)
TEXTS = st.one_of(TRICKY, st.text(max_size=40))
COLUMNS = st.lists(TEXTS, max_size=6)
VOCABULARY = [*SPECIALS, *"ab!.,哈😀", "..", "<url>", "<user>", ":)", "soo", "don't", "http"]
MANY = examples(600)
SOME = examples(100)


@cache
def plain_tokenizer(rules: int) -> reference.Tokenizer:
    """The reference, as an exported model has it."""
    settings = {"max_tokens": 512, "stop_words": [], "vocabulary": []}
    with NamedTemporaryFile("w", encoding="utf-8") as file:
        json.dump(settings | character_tables(rules), file)
        file.flush()
        return reference.Tokenizer(file.name)


def tokenize(text: str, rules: int = 2) -> list[str]:
    return plain_tokenizer(rules).tokens(text)


def tokens_of(texts, stop_words=()):
    return Tokenizer(stop_words).tokens(pa.array(texts, pa.string())).tokens.to_pylist()


@pytest.mark.parametrize(("text", "tokens"), EXAMPLES.values(), ids=EXAMPLES)
def test_examples(text, tokens):
    assert tokens_of([text]) == [tokens]
    assert tokenize(text) == tokens


@MANY
@given(COLUMNS)
def test_tokens_equal_the_reference(texts):
    assert tokens_of(texts) == [tokenize(text) for text in texts]


ASCII = [chr(code) for code in range(128) if code != ord("&")]
PLAIN_FRAGMENTS = [f for f in FRAGMENTS if f.isascii() and "&" not in f]


@SOME
@given(st.lists(PLAIN, max_size=8))
def test_tokens_equal_the_reference_on_ascii(texts):
    # Plain ASCII is folded by other code, if what follows it is plain as well.
    assert tokens_of([*texts, " " * 64]) == [*(tokenize(text) for text in texts), []]


def test_tokens_of_many_ascii_texts_equal_the_reference():
    random = Random(0)
    texts = []
    for _ in range(8_000):
        fragments = random.choices(PLAIN_FRAGMENTS, k=random.randrange(8))
        fragments += random.choices(ASCII, k=random.randrange(12))
        random.shuffle(fragments)
        texts.append("".join(fragments))
    for text, tokens in zip(texts, tokens_of([*texts, " " * 64]), strict=False):
        assert tokens == tokenize(text), text


def test_triples_of_ascii_equal_the_reference():
    texts = [f"{a}{b}{c}" for a in ASCII for b in ASCII for c in "aA0'_-.:;)o/ "]
    texts += [f"x{a}{b}{a}x {a * 4}" for a in ASCII for b in ASCII]
    assert tokens_of([*texts, " " * 64])[:-1] == [tokenize(text) for text in texts]


def test_characters_equal_the_reference():
    # All where each differs from the next, a sample where they are alike.
    codes = [*range(0x3400), *range(0xF900, 0x10000), *range(0x1F000, 0x1FB00)]
    codes += [*range(0xE0000, 0xE01F8)]
    codes += [code for code in range(0x110000) if code % (7 if code < 0x20000 else 251) == 0]
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    texts = [f"a{c}{c}{c}{c}b {c}哈{c}#{c}'{c}" for c in characters]
    for text, tokens in zip(texts, tokens_of(texts), strict=True):
        assert tokens == tokenize(text), text


def test_every_entity_is_restored_as_the_standard_library_does():
    from html.entities import html5

    texts = [f"a&{name}b &{name[:-1]}1" for name in html5]
    texts += [f"a&#{n};b &#x{n:X}g" for n in [*range(0x3000), *range(0xD700, 0xE100), 0x10FFFF]]
    assert tokens_of(texts) == [tokenize(text) for text in texts]


def test_a_number_of_any_length_is_no_character():
    assert tokens_of(["a&#" + "9" * 5000 + ";b"]) == [["a", "b"]]


BYTES = st.one_of(
    st.binary(max_size=30),
    st.lists(
        st.sampled_from(
            [
                b"a", b" ", b"\xc3\xa9", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\xa0\x80",
                b"\xed\x9f\xbf", b"\xed\xa0\x80", b"\xef\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xc3",
                b"\xe2\x82", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80",
                b"\xf5\x80\x80\x80", b"\xf0\x9f\x98", b"\x80", b"\xff", b"\xfe", b"&#",
                b".", b",", b"\xe2\x80\xa6", b"\xe2\x80", b"\xa6",
            ]
        ),
        max_size=6,
    ).map(b"".join),
    TRICKY.map(str.encode),
)  # fmt: skip


@MANY
@given(st.lists(BYTES, max_size=6))
def test_invalid_is_what_python_cannot_decode(values):
    expected, invalid = [], []
    for row, value in enumerate(values):
        try:
            expected.append(tokenize(value.decode("utf-8")))
        except UnicodeDecodeError:
            expected.append([])
            invalid.append(row)
    binary = pa.array(values, pa.binary())
    strings = pa.Array.from_buffers(pa.string(), len(values), binary.buffers())
    for column in (binary, strings):
        found = Tokenizer().tokens(column)
        assert found.tokens.to_pylist() == expected
        assert found.invalid.tolist() == invalid
        assert found.invalid.dtype == np.int64


def test_every_sequence_of_two_bytes_and_every_lead_byte():
    values = [bytes([a, b]) for a in range(256) for b in range(256)]
    values += [bytes([lead, b, 0x80, 0x80]) for lead in range(0xE0, 256) for b in range(256)]
    values += [value[:3] for value in values[-8192:]]
    values += [bytes([lead, b, 0xBF, 0xBF]) for lead in range(0xE0, 256) for b in range(256)]
    values += [value[:3] for value in values[-8192:]]
    # Each cut where its neighbour would complete it.
    values += [b"\xc3", b"\xa9", b"\xe2\x82", b"\xac", b"\xf0\x9f\x98", b"\x80", b"\xf0", b"\x9f"]

    def is_invalid(value):
        try:
            value.decode()
        except UnicodeDecodeError:
            return True
        return False

    found = Tokenizer().tokens(pa.array(values, pa.binary()))
    assert found.invalid.tolist() == [row for row, v in enumerate(values) if is_invalid(v)]


LAYOUTS = [
    pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view(),
    pa.binary_view(), pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


@SOME
@given(st.lists(st.none() | TEXTS, max_size=10), st.sampled_from(LAYOUTS), st.data())
def test_the_layout_of_the_column_does_not_matter(texts, layout, data):
    plain = pa.array(texts, pa.string())
    # Texts before and after the slice that would join theirs, if they were read.
    padded = pa.array(["http://a", *texts, "a://b)))"], pa.string())
    values = padded.cast(layout).slice(1, len(texts))
    cut = data.draw(st.integers(0, len(texts)))
    chunked = pa.chunked_array([values.slice(0, cut), values.slice(cut)], layout)
    tokenizer = Tokenizer(["a", "!"])
    encoder = tokenizer.encoder(VOCABULARY)
    expected, ids = tokenizer.tokens(plain), encoder(plain)
    assert expected.invalid.tolist() == [row for row, text in enumerate(texts) if text is None]
    for column in (values, chunked):
        found = tokenizer.tokens(column)
        assert found.tokens.to_pylist() == expected.tokens.to_pylist()
        assert found.tokens.type == pa.list_(pa.string())
        found.tokens.validate(full=True)
        for other in (found, encoder(column)):
            assert other.hashes.tolist() == expected.hashes.tolist()
            assert other.invalid.tolist() == expected.invalid.tolist()
        assert encoder(column).ids.tolist() == ids.ids.tolist()
        assert encoder(column).offsets.tolist() == ids.offsets.tolist()


@SOME
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_neighbours_do_not_matter(texts):
    assert tokens_of(texts) == [tokens_of([text])[0] for text in texts]


@SOME
@given(
    st.lists(st.none() | TEXTS, max_size=8), st.sets(st.sampled_from(VOCABULARY[2:]), max_size=4)
)
def test_ids_are_the_tokens_looked_up(texts, stop_words):
    tokenizer = Tokenizer(stop_words)
    column = pa.array(texts, pa.string())
    tokens, ids = tokenizer.tokens(column), tokenizer.encoder(VOCABULARY)(column)
    place = {token: number for number, token in enumerate(VOCABULARY)}
    expected = [[place.get(t, UNKNOWN) for t in row] for row in tokens.tokens.to_pylist()]
    assert ids.ids.tolist() == [number for row in expected for number in row]
    assert ids.offsets.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    assert (ids.ids.dtype, ids.offsets.dtype) == (np.int32, np.int64)
    assert PADDING not in ids.ids


@SOME
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_heads_are_the_first_ids_of_each_text(sizes):
    ids = [[*range(10 * row, 10 * row + size)] for row, (size, _) in enumerate(sizes)]
    lengths = [min(size, most) for size, most in sizes]
    flat = np.array([number for row in ids for number in row], np.int32)
    offsets = np.cumsum([0, *map(len, ids)])
    heads = TokenIds(flat, offsets, None, None).heads(np.array(lengths, np.int64))
    assert heads.tolist() == [n for row, last in zip(ids, lengths, strict=True) for n in row[:last]]
    assert heads.dtype == np.int32


@SOME
@given(st.lists(st.text("abcdefgh", min_size=6, max_size=40), unique=True, min_size=1, max_size=60))
def test_look_up_is_exact(words):
    # Half of the words are known; many share their first eight bytes with the others.
    words = [w for word in words for w in (word + "ij", word + "ik", "abcdefgh" + word + "i")]
    words = list(dict.fromkeys(w for w in words if tokenize(w) == [w]))
    known = words[::2]
    assume(known)
    found = Tokenizer().encoder([*SPECIALS, *known])(pa.array(words))
    assert found.ids[::2].tolist() == list(range(2, 2 + len(known)))
    assert set(found.ids[1::2].tolist()) <= {UNKNOWN}


def test_long_words_are_looked_up_exactly():
    words = ["ab" * n for n in (1, 4, 8, 127, 128, 129, 4000)]
    near = [w[:-1] + "c" for w in words] + [w + "a" for w in words]
    encoder = Tokenizer().encoder([*SPECIALS, *words])
    assert encoder(pa.array(words)).ids.tolist() == list(range(2, 9))
    assert set(encoder(pa.array(near)).ids.tolist()) == {UNKNOWN}


@SOME
@given(TEXTS, st.lists(st.sampled_from(VOCABULARY[2:]), max_size=4))
def test_stop_words_are_dropped_and_nothing_else(text, stop_words):
    expected = [token for token in tokenize(text) if token not in stop_words]
    assert tokens_of([text], stop_words) == [expected]


@pytest.mark.parametrize(
    "word", ["The", "<pad>", "two words", "", "a.", "...", "…", "，", "sooo", "(", "\n"]
)
def test_a_stop_word_that_no_token_equals_is_refused(word):
    with pytest.raises(InputError, match="stop word"):
        Tokenizer(["the", word])


@SOME
@given(st.lists(TEXTS, min_size=2, max_size=30))
@example(["ab c", "a bc", "abc", "a b c", "", "c ab", "AB  c!", "ab c."])
@example(["a" * 7 + "b", "a" * 8, "a b", "aab", "aa b b", "ab b a"])
def test_hashes_are_equal_where_the_tokens_are(texts):
    column = pa.array(texts, pa.string())
    found = Tokenizer().tokens(column)
    with_stop_words = Tokenizer(["a", "!", ":)"])
    assert found.hashes.dtype == np.uint64
    assert with_stop_words.tokens(column).hashes.tolist() == found.hashes.tolist()
    assert with_stop_words.encoder(VOCABULARY)(column).hashes.tolist() == found.hashes.tolist()
    by_tokens = {tuple(tokenize(text)): h for text, h in zip(texts, found.hashes, strict=True)}
    for text, h in zip(texts, found.hashes, strict=True):
        assert by_tokens[tuple(tokenize(text))] == h
    assert len(set(by_tokens.values())) == len(by_tokens)


def many_hashes():
    texts = [f"{first} {second}" for first in range(300) for second in range(300)]
    return Tokenizer().tokens(pa.array(texts)).hashes


def test_hashes_stay_the_same():
    # Splits depend on them: a change here deals texts anew between training and test.
    found = Tokenizer().tokens(pa.array(["", "good", "Don't be SAD :(", "日本 😀", "x" * 100]))
    assert found.hashes.tolist() == [
        16294208416658607535,
        10588979285691686188,
        2820351085122218146,
        1894743762103167456,
        10893502493165507553,
    ]
    assert mix(found.hashes, 7).tolist() == [
        5802186646602307193,
        14664629397914924653,
        10249002758283968895,
        215387815751623207,
        5437931984761378145,
    ]


@pytest.mark.parametrize("seed", [None, 0, 1, 42, -1, 2**64 + 5])
def test_hashes_are_spread_evenly_in_every_bit(seed):
    hashes = many_hashes()
    assert len(np.unique(hashes)) == len(hashes)
    if seed is not None:
        hashes = mix(hashes, seed)
    bits = np.unpackbits(hashes[:, None].view(np.uint8), axis=1)
    # Six standard deviations of a mean of fair coins; the second for pairs of bits.
    limit = 6 * 0.5 / np.sqrt(len(hashes))
    assert np.abs(bits.mean(axis=0) - 0.5).max() < limit
    assert np.abs(np.corrcoef(bits.T) - np.eye(64)).max() < 2 * limit


def test_mixing_keeps_hashes_distinct_and_tells_seeds_apart():
    hashes = many_hashes()
    zero, one = mix(hashes, 0), mix(hashes, 1)
    assert zero.dtype == np.uint64
    assert len(np.unique(zero)) == len(hashes)
    both = ((zero < 2**63) & (one < 2**63)).mean()
    assert abs(both - 0.25) < 6 * 0.44 / np.sqrt(len(hashes))
    assert mix(hashes, 0).tolist() == zero.tolist()


def test_an_encoder_survives_pickling_and_threads():
    encoder = Tokenizer(["the"]).encoder(VOCABULARY)
    texts = pa.array([f"a the {n} don't :) http://x" * 3 for n in range(3000)])
    expected = encoder(texts)
    content = pickle.dumps(encoder)
    assert len(content) < 2000
    again = pickle.loads(content)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(again, [texts] * 8):
            assert found.ids.tolist() == expected.ids.tolist()
            assert found.hashes.tolist() == expected.hashes.tolist()


@pytest.mark.parametrize("piece", [
    "a", "a ", "a. ", ", ", ".", ",", "…", "，", ".._", "@a!", "Ⱥ ", ":)", ":", "&nGt;", "&nGtb",
    "(", "8) ", "<3", "www.", "#", "#1", "-_", "é", "😀", "\u200d", "哈", "&", "&#", " ",
])  # fmt: skip
def test_long_texts(piece):
    text = piece * (300_000 // len(piece))
    assert tokens_of(["x", text, "y"])[::2] == [["x"], ["y"]]
    short = piece * 400
    assert tokens_of([short]) == [tokenize(short)]


def test_more_than_int32_can_count_is_large(monkeypatch):
    monkeypatch.setattr("sentiment.text.tokenizer._INT32_MAX", 4)
    found = Tokenizer().tokens(pa.array(["so good", None, "yes"])).tokens
    assert found.type == pa.large_list(pa.large_string())
    assert found.to_pylist() == [["so", "good"], [], ["yes"]]


def test_nothing_compiles_twice():
    # Arrays that are writable or not, as pickles and Arrow give them, would be types of their own.
    texts = pa.array(["a b", None])
    encoder = Tokenizer(["a"]).encoder(VOCABULARY)
    buffers = [b if b is None else pa.py_buffer(bytearray(b)) for b in texts.buffers()]
    for column in (texts, pa.Array.from_buffers(pa.string(), 2, buffers)):
        pickle.loads(pickle.dumps(encoder))(column)
        Tokenizer().tokens(column)
    for function in (_fold.fold, _scan.scan, _lookup.look_up, _lookup.fill):
        assert len(function.signatures) == 1


def test_punctuation_where_a_block_ends():
    # Texts of a block's bytes, more or less; their one word is squeezed to two letters.
    for mark in (".", "...", "…", ",", "，", "._.", "\r\n"):
        sizes = range((1 << 16) - 2 * len(mark.encode()) - 4, (1 << 16) + 2)
        texts = [text for n in sizes for text in (f"{mark}{'a' * n}{mark}", mark, f"b{mark}")]
        short = [tokenize(text) for text in (f"{mark}aaa{mark}", mark, f"b{mark}")]
        assert tokens_of(texts) == short * len(sizes)


def test_a_column_of_many_blocks():
    texts = [f"{'good ' * (n % 50)}{n}" for n in range(20_000)] + ["b " * 200_000] + ["c"] * 10
    found = tokens_of(texts)
    assert found == [text.split() for text in texts]


def test_empty_columns():
    for column in (pa.array([], pa.string()), pa.chunked_array([], pa.string()), pa.nulls(0)):
        found = Tokenizer().tokens(column)
        assert found.tokens.to_pylist() == []
        ids = Tokenizer().encoder(VOCABULARY)(column)
        assert (ids.ids.tolist(), ids.offsets.tolist()) == ([], [0])
    nulls = Tokenizer().tokens(pa.nulls(3))
    assert nulls.tokens.to_pylist() == [[], [], []]
    assert nulls.invalid.tolist() == [0, 1, 2]


@pytest.mark.parametrize("texts", [["a"], pa.array([1]), pa.chunked_array([], pa.int64()), None])
def test_what_is_no_text_is_refused(texts):
    with pytest.raises(InputError, match="texts are"):
        Tokenizer().tokens(texts)


@pytest.mark.parametrize("vocabulary", [[], ["good"], ["<unk>", "<pad>"], [*SPECIALS, "a", "a"]])
def test_a_vocabulary_without_its_form_is_refused(vocabulary):
    with pytest.raises(InputError, match="vocabulary"):
        Tokenizer().encoder(vocabulary)


RULES_1 = {
    "don`t don´t don’t": ["don", "t", "don", "t", "don't"],
    "ＧＯＯＤ 𝗴𝗼𝗼𝗱": ["ｇｏｏｄ", "𝗴𝗼𝗼𝗱"],
    "Cafe\u0301 cafés": ["cafe\u0301", "cafés"],
}


@pytest.mark.parametrize("text", RULES_1)
def test_models_of_the_first_rules_are_tokenized_with_them(text):
    tokenizer = Tokenizer(rules=1)
    assert tokenizer.tokens(pa.array([text])).tokens.to_pylist() == [RULES_1[text]]
    encoder = tokenizer.encoder([*SPECIALS, *dict.fromkeys(RULES_1[text])])
    assert UNKNOWN not in encoder(pa.array([text])).ids
    assert UNKNOWN in Tokenizer().encoder([*SPECIALS, *RULES_1[text]][:3])(pa.array([text])).ids


@examples(300)
@given(st.lists(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=2)).map("".join)))
def test_the_first_rules_are_those_of_the_reference(texts):
    found = Tokenizer(rules=1).tokens(pa.array(texts)).tokens.to_pylist()
    assert found == [tokenize(text, rules=1) for text in texts]
