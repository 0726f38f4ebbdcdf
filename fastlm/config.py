"""Configuration as plain dataclasses: one declaration gives the default, the flag, its help and its TOML key.

A field made by :func:`option` carries its help text, unit and choices as metadata. `fastlm.cli` turns fields into
flags, :func:`update` applies flags and TOML keys with the same checks, and unknown names are refused with the nearest
match. Nothing here imports torch, so that ``--help`` is instant.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fastlm.errors import ConfigError

C = TypeVar("C")


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    choices: Sequence[str] = (),
    flag: str = "",
    minimum: float = -math.inf,
    maximum: float = math.inf,
    below: float | None = None,
    harmless: bool = False,
) -> Any:
    """A dataclass field that is also a flag.

    Args:
        default: value when neither flag nor file names it; its type is the option's type.
        help: one line for ``--help``.
        unit: what the number counts, shown as the flag's metavar.
        choices: the strings allowed, empty for any.
        flag: name without dashes where it differs from the field's.
        minimum: smallest number allowed.
        maximum: largest number allowed.
        below: instead of it, a number that is just too large.
        harmless: may differ when a run is resumed (it does not change what is learnt).
    """
    meta = {
        "help": help,
        "unit": unit,
        "choices": tuple(choices),
        "flag": flag,
        "bounds": (minimum, maximum, below),
        "harmless": harmless,
    }
    return dataclasses.field(default=default, metadata=meta)


def flag_name(field: dataclasses.Field[Any]) -> str:
    """The flag of a field, without its dashes: ``d_model`` -> ``d-model``."""
    return field.metadata["flag"] or field.name.replace("_", "-")


def field_type(owner: type, field: dataclasses.Field[Any]) -> tuple[type, bool]:
    """The scalar type of a field and whether it takes several values."""
    hint = typing.get_type_hints(owner)[field.name]
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for the closest known name, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else ""


def convert(owner: type, field: dataclasses.Field[Any], value: Any, source: str) -> Any:
    """``value`` as the field's type, within its choices and bounds.

    Raises:
        ConfigError: naming ``source`` (a flag, or a file and key), the value and what is allowed.
    """
    kind, several = field_type(owner, field)
    if several:
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_scalar(kind, field, v, source) for v in values)
    return _scalar(kind, field, value, source)


def _scalar(kind: type, field: dataclasses.Field[Any], value: Any, source: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, str) and kind in (int, float):
        try:
            value = kind(value.replace("_", ""))
        except ValueError:
            raise ConfigError(f"{source}: {value!r} is not {_article(kind)}") from None
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{source}: {value!r} is not {_article(kind)}")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(f"{source}: {value!r} is not one of {', '.join(choices)}{nearest(str(value), choices)}")
    low, high, below = field.metadata["bounds"]
    if kind in (int, float) and (not low <= value <= high or (below is not None and value >= below)):
        raise ConfigError(f"{source}: {value} is outside the allowed range: {_span(low, high, below)}")
    return value


def _article(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]


def _span(low: float, high: float, below: float | None) -> str:
    if below is not None:
        return f"{low:g} or more and below {below:g}"
    return f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"


def sections(config_type: type) -> dict[str, type]:
    """The nested sections of a run's config: ``{"model": ModelConfig, ...}``."""
    hints = typing.get_type_hints(config_type)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_type)}


def update(config: C, values: Mapping[str, Any], source: str = "") -> C:
    """A copy of a sectioned config with ``values`` applied.

    ``values`` maps a field name or flag name (dashes or underscores) to its value, or a section name to such a
    mapping, as a TOML file does.

    Raises:
        ConfigError: unknown key, with the nearest known one; a value of the wrong type, choice or range.
    """
    parts = sections(type(config))
    owner_of: dict[str, str] = {}
    names: dict[str, dataclasses.Field[Any]] = {}
    for section, kind in parts.items():
        for field in dataclasses.fields(kind):
            for name in {field.name, flag_name(field).replace("-", "_")}:
                owner_of[name], names[name] = section, field
    changes: dict[str, dict[str, Any]] = {section: {} for section in parts}

    def put(key: str, value: Any, inside: str = "") -> None:
        name = key.replace("-", "_")
        if name not in names or (inside and owner_of[name] != inside):
            where = f" in [{inside}]" if inside else ""
            raise ConfigError(f"{source}unknown key {key!r}{where}{nearest(name, names)}")
        section, field = owner_of[name], names[name]
        changes[section][field.name] = convert(parts[section], field, value, f"{source}{key}")

    for key, value in values.items():
        if key in parts and isinstance(value, Mapping):
            for inner, inner_value in value.items():
                put(inner, inner_value, inside=key)
        else:
            put(key, value)
    new = {s: dataclasses.replace(getattr(config, s), **changed) for s, changed in changes.items()}
    return dataclasses.replace(config, **new)  # type: ignore[type-var]


def as_dict(config: Any) -> dict[str, Any]:
    """Sections as nested dictionaries of JSON values (tuples become lists)."""
    plain = dataclasses.asdict(config)
    return {s: {k: list(v) if isinstance(v, tuple) else v for k, v in part.items()} for s, part in plain.items()}


def differences(old: Any, new: Any) -> list[tuple[str, Any, Any, bool]]:
    """Every field in which two sectioned configs differ: (section.field, old, new, harmless)."""
    found = []
    for section, kind in sections(type(old)).items():
        for field in dataclasses.fields(kind):
            before, after = getattr(getattr(old, section), field.name), getattr(getattr(new, section), field.name)
            if before != after:
                found.append((f"{section}.{field.name}", before, after, field.metadata["harmless"]))
    return found
