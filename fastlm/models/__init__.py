"""The language models and their configuration; importing the package imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlm.models.factory import Model as Model
    from fastlm.models.factory import build as build
    from fastlm.models.language_model import LanguageModel as LanguageModel

_HOMES = {
    "build": "fastlm.models.factory",
    "Model": "fastlm.models.factory",
    "LanguageModel": "fastlm.models.language_model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
