"""Conditions on the values of `key=value` directories: which shards are read."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.sources.names import partitions, require_keys
from pipelines.sources.shard import Shard
from sentiment.errors import InputError

_COMPARE: dict[str, Callable[[float | str, float | str], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"\s*([^=<>!]+?)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@dataclass(frozen=True)
class Where:
    """Conditions that must all hold."""

    conditions: tuple[tuple[str, str, str], ...]
    """Of each: the key, the comparison, and the value."""

    @staticmethod
    def parse(texts: Sequence[str]) -> "Where":
        """Conditions such as "year=2024" or "month>=3". Raises InputError."""
        conditions = []
        for text in texts:
            match = _CONDITION.fullmatch(text)
            if match is None:
                raise InputError(
                    f"--where {text!r} is no condition: write it like 'year=2024' or 'month>=3' "
                    "(=, !=, <, <=, >, >=)"
                )
            conditions.append((match[1], match[2], match[3]))
        return Where(tuple(conditions))

    def chosen(self, shards: list[Shard]) -> list[Shard]:
        """The shards for which all conditions hold. No comparison holds for a value that is null.

        Raises InputError if a condition names a key that no shard's directories have, or if no
        shard is left.
        """
        if not self.conditions:
            return shards
        require_keys(
            [shard.path for shard in shards], [key for key, _, _ in self.conditions], "--where"
        )
        values = [partitions(shard.path) for shard in shards]
        chosen = [shard for shard, each in zip(shards, values, strict=True) if self._holds(each)]
        if not chosen:
            said = " and ".join(f"{key}{sign}{value}" for key, sign, value in self.conditions)
            raise InputError(f"--where {said}: none of {len(shards):,} shards is so")
        return chosen

    def _holds(self, values: dict[str, str | None]) -> bool:
        for key, sign, value in self.conditions:
            found = values.get(key)
            if found is None or not _compared(found, sign, value):
                return False
        return True


def _compared(one: str, sign: str, other: str) -> bool:
    """Compare as numbers if both are numbers, else as texts."""
    if _NUMBER.fullmatch(one) and _NUMBER.fullmatch(other):
        return _COMPARE[sign](float(one), float(other))
    return _COMPARE[sign](one, other)
