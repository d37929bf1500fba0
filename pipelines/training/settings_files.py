"""Flags out of YAML files: the presets of this package, a file of one's own, a finished run's."""

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from importlib import resources
from typing import Any, get_type_hints

import yaml

from sentiment import storage
from sentiment.errors import InputError, on_one_line

PRESETS = ("best", "small", "quick")

SMALL_ROWS = 3_000
"""Rows to train on below which the preset `small` learns more than `best`."""

OF_ONE_RUN = ("preset", "config", "run_name", "verbose")
"""Flags that no file may set, and that a run's config.yaml leaves out."""

MAX_BYTES = 2**20


def values_of_files(config: type, preset: str | None, path: str | None) -> dict[str, Any]:
    """The flags that a preset sets, and over them those of a file; by name.

    Args:
        config: Dataclass of the flags.
        preset: One of PRESETS; None: no preset.
        path: Path or URI of a YAML file; None: no file.

    Raises InputError that names the file and the line or flag that cannot be used.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise InputError(f"--preset is {preset}; it must be one of {', '.join(PRESETS)}")
        values = parsed(config, _preset(preset), f"preset {preset}")
    if path is not None:
        try:
            content = storage.read(path, MAX_BYTES)
        except (OSError, InputError) as error:
            raise InputError(f"--config {path} cannot be read: {on_one_line(error)}") from error
        values |= parsed(config, content, f"--config {path}")
    return values


def parsed(config: type, content: bytes, name: str) -> dict[str, Any]:
    """The flags of a YAML file, checked by name and type; InputError that begins with `name`."""
    # Not needed for `--help`, which works without the extra `train`.
    from pydantic import TypeAdapter, ValidationError

    try:
        values = yaml.safe_load(content)
    # PyYAML raises ValueError for a date that no calendar has.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is not YAML: {on_one_line(error)[:300]}") from error
    if not isinstance(values, dict):
        raise InputError(f"{name} is not a YAML mapping of flags, such as `epochs: 3`")
    _require_no_repeats(content, name)
    types = get_type_hints(config)
    names = [each.name for each in fields(config) if each.name not in OF_ONE_RUN]
    for flag, value in values.items():
        if flag not in names:
            near = get_close_matches(str(flag), names, 1)
            hint = f"did you mean {near[0]}?" if near else "--help lists the flags, without dashes"
            raise InputError(f"{name} sets {flag!s:.60}, which no file may: {hint}")
        try:
            as_given = tuple(value) if isinstance(value, list) else value
            # YAML reads 1e-3 as text, so text may be a number. A number is no boolean.
            is_strict = not isinstance(value, str)
            values[flag] = TypeAdapter(types[flag]).validate_python(as_given, strict=is_strict)
        except ValidationError as error:
            reason = error.errors(include_url=False)[-1]["msg"]
            raise InputError(f"{name}: {flag} is {value!r:.60}: {on_one_line(reason)}") from error
    return values


def preset_hint(preset: str | None, rows: int) -> str:
    """A line that names the preset for so many rows to train on, if it is another one; else ""."""
    fitting = "small" if rows < SMALL_ROWS else "best"
    if preset not in ("best", "small") or preset == fitting:
        return ""
    return f"--preset {fitting} is made for {rows:,} rows to train on; this is {preset}"


def written(config: Any, run_name: str, is_another_from_scratch: bool = False) -> bytes:
    """The content of the config.yaml that a finished run leaves: it trains the same model again,
    or says that it may not."""
    flags = {name: value for name, value in asdict(config).items() if name not in OF_ONE_RUN}
    lists = {name: list(v) if isinstance(v, tuple) else v for name, v in flags.items()}
    same = "the same model again"
    if is_another_from_scratch:
        same = "with them (maybe another model: this run went on with more steps or other patience)"
    header = (
        f"# The flags of run {run_name}. To train {same}:\n"
        "# python -m pipelines.train --config THIS_FILE --run_name ANOTHER_NAME\n"
    )
    text: str = yaml.safe_dump(lists, sort_keys=False, allow_unicode=True)
    return (header + text).encode()


def presets_help(width: int) -> str:
    """What each preset sets, for `--help`, in lines of that width."""
    lines = ["Presets, which flags override:"]
    for name in PRESETS:
        values: Mapping[str, Any] = yaml.safe_load(_preset(name))
        flags = " ".join(_as_flag(flag, value) for flag, value in values.items())
        lines += textwrap.wrap(
            f"{name}: {flags}",
            width,
            initial_indent="    ",
            subsequent_indent=" " * 8,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _as_flag(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no_{name}"
    return f"--{name} {value}"


def _preset(name: str) -> bytes:
    return resources.files("pipelines.training").joinpath(f"presets/{name}.yaml").read_bytes()


def _require_no_repeats(content: bytes, name: str) -> None:
    """Raise an InputError for a flag that is set twice, of which PyYAML would take the last."""
    mapping = yaml.compose(content, yaml.SafeLoader)
    flags = [key.value for key, _ in getattr(mapping, "value", ()) if isinstance(key.value, str)]
    for number, flag in enumerate(flags):
        if flag in flags[:number]:
            line = mapping.value[number][0].start_mark.line + 1
            raise InputError(f"{name}, line {line} sets {flag:.60} again")
