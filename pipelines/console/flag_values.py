"""What values of flags must be, for configs, which processes load that parse no flags."""

from sentiment.errors import InputError


def require(holds: bool, flag: str, value: object, wanted: str) -> None:
    """Raise an InputError that names the flag, its value and valid values, unless it holds."""
    if not holds:
        raise InputError(f"--{flag} is {value}; it must be {wanted}")


def rejected_limit(max_rejected: str, rows: int) -> float:
    """Rows that may be rejected, by `--max_rejected`, of `rows`; inf: any number.

    Raises InputError unless the flag is a number or a percentage.
    """
    is_percentage = max_rejected.endswith("%")
    try:
        limit = float(max_rejected.removesuffix("%"))
    except ValueError:
        limit = -1.0
    require(0 <= limit < float("inf"), "max_rejected", max_rejected, "a number or a share (1%)")
    if not is_percentage:
        return limit
    return limit * rows / 100 if limit < 100 else float("inf")
