"""What a store is made from: the options that decide its contents, and the state of its sources."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastlm.config import flag_name
from fastlm.data.config import READING, DataConfig
from fastlm.data.store import FORMAT, file_sha256
from fastlm.errors import ConfigError, DataError

TOKENIZER_KINDS = ("byte", "char")
# The fields of DataConfig that decide a store's contents, besides `data` and `tokenizer`.
OPTIONS = (*READING, "valid_fraction", "split_seed")


def recipe_of(config: DataConfig, vocab_size: int) -> dict[str, Any]:
    """Everything but the sources' contents that decides a store, as JSON values.

    Raises:
        ConfigError: ``--tokenizer`` is neither a kind nor a readable file.
    """
    options = {name: getattr(config, name) for name in OPTIONS}
    # Only where it is given: stores from before there was such an option stay what they are.
    chosen = {"vocab_languages": sorted(config.vocab_languages)} if config.vocab_languages else {}
    return {
        "format": FORMAT,
        "data": [_absolute(entry) for entry in config.data],
        "tokenizer": _tokenizer_identity(config.tokenizer),
        "vocab_size": vocab_size,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        **chosen,
    }


def key_of(recipe: dict[str, Any]) -> str:
    """A short name for a recipe."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:20]


def _absolute(entry: str) -> str:
    prefix, path = _tagged(entry)
    return prefix + os.path.abspath(path)


def _tagged(entry: str) -> tuple[str, str]:
    """``LANG=`` (or nothing) and the path of an entry of ``--data``."""
    language, separator, path = entry.partition("=")
    return (language + separator, path) if separator and not os.path.exists(entry) else ("", entry)


def listing(config: DataConfig) -> list[list[Any]]:
    """[path, size, modification time in ns] of every file the user's paths lead to, read by fastlm or not.

    While it is the same, so are the sources, and nothing has to be looked into.
    """
    found: list[list[Any]] = []
    for entry in config.data:
        path = Path(_tagged(entry)[1])
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            try:
                found.append(list(_quick_stamp(member).values()))
            except OSError:
                found.append([os.path.abspath(member), -1, 0])  # find_sources says what is wrong with it
    return found


def _tokenizer_identity(tokenizer: str) -> str:
    if tokenizer in TOKENIZER_KINDS:
        return tokenizer
    path = Path(tokenizer)
    try:
        return file_sha256(path)
    except OSError as error:
        raise ConfigError(
            f"--tokenizer {tokenizer}: {error.strerror}; give byte, char or the path of a tokenizer.json"
        ) from None


def stamps(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Path, size, modification time and SHA-256 of each source file.

    Raises:
        DataError: a file that cannot be read.
    """
    found = []
    for path in paths:
        try:
            found.append({**_quick_stamp(path), "sha256": file_sha256(path)})
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
    return found


def _quick_stamp(path: Path) -> dict[str, Any]:
    state = path.stat()
    return {"path": os.path.abspath(path), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def _changed(entry: dict[str, Any]) -> bool:
    path = Path(entry["path"])
    if _quick_stamp(path) == {name: entry[name] for name in ("path", "bytes", "mtime_ns")}:
        return False
    return bool(path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"])


def changed_since(sources: Sequence[dict[str, Any]]) -> list[str]:
    """The source files that still exist but no longer have the recorded contents.

    Size and modification time decide where they agree; else the contents do, so a touched or copied file is unchanged.
    """
    return [entry["path"] for entry in sources if os.path.exists(entry["path"]) and _changed(entry)]


def same_sources(sources: Sequence[dict[str, Any]], paths: Iterable[Path]) -> bool:
    """Whether exactly these files, unchanged, were the sources."""
    return [e["path"] for e in sources] == [os.path.abspath(p) for p in paths] and not changed_since(sources)


def check_options(store_recipe: dict[str, Any], config: DataConfig, path: Path) -> None:
    """Refuses preparation options that a finished store cannot follow any more.

    Raises:
        ConfigError: an option that is neither its default nor what the store was prepared with.
    """
    asked, default = recipe_of(config, 0), recipe_of(DataConfig(), 0)
    learnt_from = store_recipe.get("vocab_languages", [])
    if asked.get("vocab_languages", learnt_from) != learnt_from:
        raise ConfigError(
            f"--vocab-languages: the tokenizer of the store {path} was trained on {' '.join(learnt_from) or 'all'}; "
            "leave it out, or give the sources instead of the store"
        )
    for field in (config.__dataclass_fields__[name] for name in (*OPTIONS, "tokenizer")):
        name = field.name
        if asked[name] not in (default[name], store_recipe[name]):
            raise ConfigError(
                f"--{flag_name(field)}: the store {path} was already prepared with {name} = {store_recipe[name]!r}; "
                "leave it out, or give the sources instead of the store"
            )
