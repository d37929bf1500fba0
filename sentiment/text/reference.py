"""The tokenizer in plain Python, one text after another: slow, and easy to read or to translate.

    from tokenizer import Tokenizer

    ids = Tokenizer("tokenizer.json").ids(["what a day :)", "oh no"])

This file needs Python's standard library only. An exported model comes with a copy of it,
`tokenizer.py`, and `tokenizer.json`, which has what each character is. The compiled tokenizer,
`sentiment.text.tokenizer`, is tested against it, and states the rules in words.
"""

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PADDING, UNKNOWN = 0, 1

# Rules are regular expressions over shapes: one ASCII character for each character of a folded
# text. Printable ASCII is its own shape; as folded text has none of A to Z, they stand for others:
# W letter, N digit, M mark, J zero-width joiner, H zero-width non-joiner, I ideograph, A mark on
# an ideograph, E emoji, S skin tone, T tag, R half a flag, K keycap, P full stop, Z ellipsis,
# C comma, X anything else; and a blank.
WORD = "a-z0-9WN"
IN_WORD = re.compile(f"[{WORD}](?:[{WORD}M]|['JH](?=[{WORD}]))*")

# What must stand around an emoticon.
ALONE, WORD_END = f"(?<![{WORD}])", f"(?![{WORD}])"
BLANK_BEFORE, BLANK_AFTER = "(?<![^ ])", "(?![^ ])"


def _run(signs: str) -> str:
    """One of the signs, as often as it is repeated."""
    return "(?:" + "|".join(f"{re.escape(s)}+(?!{re.escape(s)})" for s in signs) + ")"


def _around(signs: str) -> str:
    """One of the signs, underscores, and the same sign: `-_-`."""
    return "(?:" + "|".join(f"{re.escape(s)}_+{re.escape(s)}" for s in signs) + ")"


EYES, NOSE, OTHER_NOSE = ">?[:;=]", r"(?:-|\^|o|'-|')", r"(?:-|\^|'-|')"
FACES = [
    pattern
    for nose, nose_of_letters in ((NOSE, OTHER_NOSE), ("", ""))
    for pattern in (
        rf"{EYES}{nose}(?:\)+|\(+)",
        rf"{EYES}{nose}[/\\](?![/\\]){WORD_END}",
        rf"{EYES}{nose}{_run('][{}|*')}{WORD_END}",
        rf">?:{nose}{_run('@$#>')}{WORD_END}",
        rf"{ALONE}{EYES}{nose_of_letters}{_run('dpo')}{WORD_END}",
        rf"{ALONE}>?:{nose_of_letters}{_run('bsxc3')}{WORD_END}",
    )
]
FACES += [
    r"(?<![0-9])</?3+(?![0-9])",
    r"\^\^|\^_+\^|\^[-.o]\^",
    rf"(?:{_around('-=;*@$~.')}|>_+<|>\.<|-\.-|\*-\*){WORD_END}",
    rf"{BLANK_BEFORE}[][()][-']?[:;=]{WORD_END}",
    rf"{ALONE}\\[om]/{WORD_END}",
    rf"{ALONE}(?:{_around('tuxnqvy')}|[o0]_+[o0]|o\.[o0]|0\.o){WORD_END}",
]
STOP = rf"(?:(?!\._+\.{WORD_END})[.PZ])"
RULES = {
    "emoticon": "|".join(FACES),
    "keycap": "[0-9#*]K",
    "url": r"(?:https?://|www\.)[!#-;=?@[-~WN]*[#$%+/0-9=@a-z\\^`|WN]",
    "word": f"[{WORD}]+",
    "user": f"(?<![{WORD}_])@[{WORD}_]+",
    "hashtag": f"{ALONE}#(?=[0-9_]*[a-zWNIA])[{WORD}IA_]+",
    "sign": "[!?]",
    "stops": f"{STOP}{{2,}}|Z",
    "stop": rf"P|(?<=[{WORD}IA])\.{BLANK_AFTER}",
    "comma": f"C|,{BLANK_AFTER}",
    "ideograph": "IA*",
    "emoji": "RR?|S|ES?T*(?:JES?T*)*",
    "other": ".",
}
"""At each place the first rule that applies takes what it can."""
IN_BRACKETS = re.compile("|".join(f"(?P<{name}>{rule})" for name, rule in RULES.items()))
EIGHT = rf"(?P<eight>{BLANK_BEFORE}8-?\)+{BLANK_AFTER})"
ANYWHERE = re.compile(f"{EIGHT}|{IN_BRACKETS.pattern}")
SYMBOLS = ("eight", "emoticon", "keycap", "sign", "ideograph", "emoji")
TOKENS = {"url": "<url>", "user": "<user>", "stops": "..", "stop": ".", "comma": ","}


class Tokenizer:
    """Texts -> token ids, as a `tokenizer.json` says."""

    def __init__(self, path: str) -> None:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        self.max_tokens: int = settings["max_tokens"]
        self.stop_words = frozenset(settings["stop_words"])
        self.id_of = {token: number for number, token in enumerate(settings["vocabulary"])}
        self.folds: dict[int, str] = str.maketrans(settings["folds"])
        self.composed: dict[str, str] = settings["composed"]
        self.shapes = defaultdict(lambda: "X", {code: chr(code) for code in range(33, 127)})
        for shape, ranges in settings["shapes"].items():
            for first, last in ranges:
                self.shapes |= dict.fromkeys(range(first, last + 1), shape)

    def ids(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of n texts: int64[n, length], padded on the right with PADDING."""
        rows = []
        for text in texts:
            tokens = (token for token in self.tokens(text) if token not in self.stop_words)
            rows.append([self.id_of.get(token, UNKNOWN) for token in tokens][: self.max_tokens])
        length = max(map(len, rows), default=0)
        return [row + [PADDING] * (length - len(row)) for row in rows]

    def tokens(self, text: str) -> list[str]:
        """The tokens of one text, stop words included."""
        text, shapes = self._folded(text)
        found, at, open_brackets, last, times = [], 0, 0, "", 0
        while match := (IN_BRACKETS if open_brackets else ANYWHERE).match(shapes, at):
            rule, piece = str(match.lastgroup), text[at : match.end()]
            token = TOKENS.get(rule, piece)
            if rule in ("word", "hashtag"):
                token = re.sub(r"(.)\1\1+", self._twice, piece, flags=re.DOTALL)
            if rule in ("eight", "emoticon"):
                token = re.sub(r"(.)\1\1+", r"\1\1", piece)
                # Its letters are no word to what comes after it.
                shapes = shapes[:at] + "X" * len(piece) + shapes[match.end() :]
            times = times + 1 if rule in SYMBOLS and token == last else 1
            last = token if rule in SYMBOLS else ""
            if rule != "other" and times <= 2:
                found.append(token)
            if rule == "other":
                open_brackets = max(0, open_brackets + {"(": 1, ")": -1}.get(piece, 0))
            at = match.end()
        return found

    def _folded(self, text: str) -> tuple[str, str]:
        """The text in lower case, without entities and invisible characters; and its shapes."""
        kept = ""
        for character in html.unescape(text).translate(self.folds):
            together = self.composed.get(kept[-1:] + character)
            kept = kept[:-1] + together if together else kept + character
        shapes = kept.translate(self.shapes)
        # Marks, joiners and apostrophes in words are letters; other marks are on ideographs.
        shapes = IN_WORD.sub(lambda word: re.sub("[MJH']", "W", word[0]), shapes)
        shapes = re.sub("IM+", lambda marked: "I" + "A" * (len(marked[0]) - 1), shapes)
        shapes = shapes.replace("M", "X")
        for run in reversed([*re.finditer(r"(.)\1\1+", kept, re.DOTALL)]):
            if shapes[run.start()] in "IA":
                kept = kept[: run.start() + 2] + kept[run.end() :]
                shapes = shapes[: run.start() + 2] + shapes[run.end() :]
        return kept, shapes

    def _twice(self, run: re.Match[str]) -> str:
        """Two of a letter or mark that stands three times or more in a row; digits as they are."""
        return run[0] if self.shapes[ord(run[1])] in "0123456789N_" else run[1] * 2
