"""A case of the record as a TOML file: what was compared, on which text, and the runs as differences from a base.

The keys of ``[base]`` and ``[runs.NAME]`` are the flags of ``fastlm train``. Every key is checked, and an unknown one
is refused with the nearest that is known.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from fastlm.config import nearest, update
from fastlm.errors import ConfigError
from fastlm.train.config import RunConfig

#: what every case of the original had in common (training-cases.md)
COMMON: dict[str, Any] = {"model": "encoder", "optimizer": "adam-l2"}
BY = ("epoch", "step", "tokens", "time")
CHARTS = ("loss", "accuracy", "bits_per_character", "lr")
RUN_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
#: what the runner decides, so that a recipe may not
NOT_IN_RECIPES = ("data", "cache", "run", "resume", "init", "threads", "languages", "domains", "vocab_languages")


@dataclass(frozen=True)
class Corpus:
    """Which text a case is trained on.

    Attributes:
        text: in words.
        languages: of training and validation; none for all.
        domains: names, or patterns such as ``*뉴스*``; none for all.
        share: of the training sentences.
        vocabulary: entries of the tokenizer, specials and bytes included.
        vocabulary_languages: languages that the tokenizer is trained on; none for all.
    """

    text: str = ""
    languages: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    share: float = 1.0
    vocabulary: int = 0
    vocabulary_languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Original:
    """What is known of the runs that a case repeats.

    Attributes:
        observed: their result, in words.
        silent: what their record does not say, and what is taken for it.
        hours: that they took, 0 where it is not known.
    """

    observed: str = ""
    silent: str = ""
    hours: float = 0.0


@dataclass(frozen=True)
class Compare:
    """What a case's charts are drawn over, and of what."""

    by: str = "epoch"
    charts: tuple[str, ...] = CHARTS


@dataclass(frozen=True)
class Recipe:
    """A case: its words, and the full config of each run, before any scaling and without the text's place."""

    name: str
    title: str
    date: str
    compares: str
    corpus: Corpus
    original: Original
    compare: Compare
    runs: dict[str, RunConfig] = field(default_factory=dict)


def names() -> list[str]:
    """The cases that come with fastlm, in their order."""
    folder = resources.files("fastlm.record") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def find(case: str) -> Recipe:
    """The recipe of a case: ``case-01``, ``1``, or the path of a TOML file.

    Raises:
        ConfigError: no such case or file, or a recipe with a fault, which is named.
    """
    name = f"case-{int(case):02}" if case.isdecimal() else case
    if name in names():
        text = (resources.files("fastlm.record") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
        return parse(text, name, f"{name}.toml")
    path = Path(case)
    if path.suffix != ".toml":
        raise ConfigError(
            f"no case {case!r}{nearest(case, names())}; fastlm record list shows all, or give a TOML file"
        )
    return parse(read_text(path), path.stem, str(path))


def read_text(path: Path) -> str:
    """The text of a recipe's file.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def parse(text: str, name: str, source: str) -> Recipe:
    """A recipe from its TOML text.

    Args:
        text: of the file.
        name: of the case.
        source: the file's name, for messages.

    Raises:
        ConfigError: naming the file, key and what is allowed.
    """
    plain = loads(text, source)
    words = ("title", "date", "compares")
    check_keys(plain, (*words, "corpus", "original", "compare", "base", "runs"), source)
    corpus = section(Corpus, plain.get("corpus", {}), f"{source}: [corpus]")
    compare = section(Compare, plain.get("compare", {}), f"{source}: [compare]")
    one_of(compare.by, BY, f"{source}: [compare] by")
    for chart in compare.charts:
        one_of(chart, CHARTS, f"{source}: [compare] charts")
    runs = plain.get("runs", {})
    if not isinstance(runs, Mapping) or not runs:
        raise ConfigError(f"{source}: no runs; name each as [runs.NAME] with the flags in which it differs")
    base = RunConfig(data=dataclasses.replace(RunConfig().data, **_selection(corpus)))
    base = flags(base, COMMON | {"vocab_size": corpus.vocabulary, "share": corpus.share}, source)
    base = flags(base, plain.get("base", {}), f"{source}: [base]")
    return Recipe(
        name=name,
        **{key: string(plain.get(key, ""), f"{source}: {key}") for key in words},
        corpus=corpus,
        original=section(Original, plain.get("original", {}), f"{source}: [original]"),
        compare=compare,
        runs={run: _run(base, run, values, f"{source}: [runs.{run}]") for run, values in runs.items()},
    )


def _selection(corpus: Corpus) -> dict[str, Any]:
    return {
        "languages": corpus.languages,
        "domains": corpus.domains,
        "vocab_languages": corpus.vocabulary_languages,
    }


def _run(base: RunConfig, name: str, values: Any, source: str) -> RunConfig:
    """The base with a run's differences; ``domains`` may be one of them."""
    if not RUN_NAME.fullmatch(name):
        raise ConfigError(f"{source}: a run's name has small letters, digits, dots, pluses and hyphens")
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: not a table of flags")
    own = dict(values)
    if "domains" in own:
        chosen = section(Corpus, {"domains": own.pop("domains")}, source).domains
        base = dataclasses.replace(base, data=dataclasses.replace(base.data, domains=chosen))
    return flags(base, own, source)


def flags(base: RunConfig, values: Any, source: str) -> RunConfig:
    """``base`` with flags of ``fastlm train`` applied.

    Raises:
        ConfigError: an unknown flag, one that the runner decides, or a value that cannot be.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: not a table of flags")
    for key in values:
        if key.replace("-", "_") in NOT_IN_RECIPES:
            raise ConfigError(
                f"{source}: {key} does not belong here; text is chosen in [corpus] and on the command line"
            )
    try:
        return update(base, values, source=f"{source}: ")
    except ConfigError as error:
        said = str(error)
        raise ConfigError(said if said.startswith(source) else f"{source}: {said}") from None


def loads(text: str, source: str) -> dict[str, Any]:
    """TOML.

    Raises:
        ConfigError: it is none.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from None


def check_keys(plain: Mapping[str, Any], known: Iterable[str], source: str) -> None:
    """Refuses a key that is not ``known``, naming the nearest that is."""
    allowed = list(known)
    for key in plain:
        if key not in allowed:
            raise ConfigError(f"{source}: unknown key {key!r}{nearest(key, allowed)}; known are {', '.join(allowed)}")


def one_of(value: str, known: Iterable[str], source: str) -> None:
    """Refuses a word that is not ``known``."""
    allowed = list(known)
    if value not in allowed:
        raise ConfigError(f"{source}: {value!r} is not one of {', '.join(allowed)}{nearest(value, allowed)}")


def string(value: Any, source: str) -> str:
    """Text, or a refusal."""
    if not isinstance(value, str):
        raise ConfigError(f"{source}: {value!r} is not text")
    return value.strip()


def section(kind: Any, plain: Any, source: str) -> Any:
    """A dataclass from a TOML table; each value has its default's type.

    Raises:
        ConfigError: unknown key or wrong type.
    """
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{source}: not a table")
    fields = {f.name: f.default for f in dataclasses.fields(kind)}
    check_keys(plain, fields, source)
    return kind(**{key: _like(value, fields[key], f"{source} {key}") for key, value in plain.items()})


def _like(value: Any, default: Any, source: str) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, list):
            return tuple(string(item, source) for item in value)
        raise ConfigError(f"{source}: {value!r} is not a list of texts")
    if isinstance(default, str):
        return string(value, source)
    number = (int, float) if isinstance(default, float) else int
    if isinstance(value, bool) or not isinstance(value, number):
        raise ConfigError(f"{source}: {value!r} is not a{' whole' if number is int else ''} number")
    return type(default)(value)
