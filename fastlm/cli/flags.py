"""Flags generated from config dataclasses: one declaration is the flag, its help and its TOML key."""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from fastlm.config import convert, field_type, flag_name, nearest, sections, update
from fastlm.errors import ConfigError

C = TypeVar("C")


def add_config_flags(
    parser: argparse.ArgumentParser,
    config_type: type,
    only: Collection[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """One flag per field of ``config_type`` (or of those in ``only``); a flag not given leaves no trace.

    ``defaults`` are shown in place of the fields' own, where a command begins with others.
    """
    title = config_type.__name__.removesuffix("Config").lower()
    group = parser.add_argument_group(title)
    for field in dataclasses.fields(config_type):
        if not only or field.name in only:
            _add_flag(group, config_type, field, defaults.get(field.name, field.default))


def _add_flag(group: argparse._ArgumentGroup, owner: type, field: dataclasses.Field[Any], default: Any) -> None:
    kind, several = field_type(owner, field)
    text = field.metadata["help"].replace("%", "%%")
    common: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
    if kind is bool:
        group.add_argument(f"--{flag_name(field)}", action=argparse.BooleanOptionalAction, help=text, **common)
        return
    choices = field.metadata["choices"]
    metavar = field.metadata["unit"] or ("{" + ",".join(choices) + "}" if choices else kind.__name__.upper())
    if default not in ("", ()):
        text += f" (default {default})"
    if several:
        common["nargs"] = "+"
    group.add_argument(f"--{flag_name(field)}", metavar=metavar, help=text, **common)


def given_flags(args: argparse.Namespace, config_type: type) -> dict[str, Any]:
    """The flags of ``config_type`` that the command line named, converted and checked.

    Raises:
        ConfigError: naming the flag and what it accepts.
    """
    return {
        f.name: convert(config_type, f, getattr(args, f.name), f"--{flag_name(f)}")
        for f in dataclasses.fields(config_type)
        if hasattr(args, f.name)
    }


def config_from_args(args: argparse.Namespace, base: C) -> C:
    """``base`` (one config section) with the given flags applied."""
    return dataclasses.replace(base, **given_flags(args, type(base)))  # type: ignore[type-var]


def run_config_from_args(args: argparse.Namespace, base: C, config_file: str = "") -> C:
    """A sectioned config from, in rising order: ``base``, a TOML file, the flags.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest known one), a value that cannot be used.
    """
    if config_file:
        base = update(base, _read_toml(Path(config_file)), source=f"{config_file}: ")
    flags = {section: given_flags(args, kind) for section, kind in sections(type(base)).items()}
    return update(base, flags)


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not TOML: {error}") from None


class Parser(argparse.ArgumentParser):
    """An argument parser that never abbreviates and refuses unknown flags with the nearest known one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # type: ignore[override]
        """As argparse, but an unknown flag is refused here, where this (sub)command's own flags are known."""
        known, rest = super().parse_known_args(args, namespace)
        for word in rest:
            name = word.split("=")[0]
            raise ConfigError(f"{self.prog}: unknown argument {word}{nearest(name, self._option_string_actions)}")
        return known, rest

    def error(self, message: str) -> Any:
        """One line, without the usage text."""
        if "invalid choice" in message and self._subparsers is not None:
            word = message.split("'")[1]
            commands = [c for a in self._subparsers._group_actions for c in (a.choices or ())]
            message = f"unknown command {word!r}{nearest(word, commands)}; see {self.prog} --help"
        raise ConfigError(f"{self.prog}: {message}")


class HelpFormatter(argparse.HelpFormatter):
    """Help in one aligned column, wide enough for the flags."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)
