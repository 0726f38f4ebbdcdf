"""Flags as a TOML file for ``fastlm train --config``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from fastlm.config import sections
from fastlm.train.config import RunConfig


def of_config(config: RunConfig) -> str:
    """The settings in which ``config`` differs from the defaults, in sections."""
    lines = []
    for name, kind in sections(RunConfig).items():
        part, default = getattr(config, name), kind()
        changed = {
            field.name: getattr(part, field.name)
            for field in dataclasses.fields(kind)
            if getattr(part, field.name) != getattr(default, field.name)
        }
        if changed:
            lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in changed.items()), ""]
    return "\n".join(lines)


def _value(value: Any) -> str:
    """A TOML value; JSON's strings, numbers, booleans and lists are TOML's, too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
