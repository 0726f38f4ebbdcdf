"""A search as a TOML file: a base of flags, ranges over some of them, how many trials, when to give one up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastlm.config import convert, field_type, flag_name, nearest, sections
from fastlm.errors import ConfigError
from fastlm.record.recipe import check_keys, flags, loads, one_of, read_text, string
from fastlm.train.config import RunConfig

ENGINES = ("optuna", "ray")
METRICS = ("loss", "bits_per_character")
SCALES = ("linear", "log")
#: what the search itself decides
FIXED = ("run", "resume", "data", "cache", "threads", "init", "max_minutes")


@dataclass(frozen=True)
class Range:
    """What one flag may be: from ``low`` to ``high`` (whole numbers where the flag is one), or one of ``choices``."""

    name: str
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Pruning:
    """When a trial is given up: its best value so far is above the median of the others at the same evaluation.

    Attributes:
        kind: ``median`` or ``none``.
        startup_trials: finished trials before the first may be given up.
        warmup_evaluations: evaluations that every trial gets.
    """

    kind: str = "median"
    startup_trials: int = 5
    warmup_evaluations: int = 0


@dataclass(frozen=True)
class Search:
    """All of a search's file."""

    title: str
    engine: str
    trials: int
    metric: str
    seed: int
    base: RunConfig
    ranges: dict[str, Range]
    pruning: Pruning

    def config(self, chosen: Mapping[str, Any]) -> RunConfig:
        """The base with a trial's choices.

        Raises:
            ConfigError: choices that do not fit each other, such as a width that the heads do not divide.
        """
        return flags(self.base, dict(chosen), "trial")


def read(path: Path) -> Search:
    """The search in a file.

    Raises:
        ConfigError: naming file, key and what is allowed.
    """
    source = str(path)
    plain = loads(read_text(path), source)
    check_keys(plain, ("title", "engine", "trials", "metric", "seed", "base", "search", "pruning"), source)
    engine, metric = (string(plain.get(k, d), f"{source}: {k}") for k, d in (("engine", "optuna"), ("metric", "loss")))
    one_of(engine, ENGINES, f"{source}: engine")
    one_of(metric, METRICS, f"{source}: metric")
    table = plain.get("search", {})
    if not isinstance(table, Mapping) or not table:
        raise ConfigError(f"{source}: nothing to search; give [search.FLAG] with low and high, or choices")
    return Search(
        title=string(plain.get("title", path.stem), f"{source}: title"),
        engine=engine,
        trials=_count(plain.get("trials", 20), f"{source}: trials", 1),
        metric=metric,
        seed=_count(plain.get("seed", 0), f"{source}: seed", 0),
        base=_base(plain.get("base", {}), f"{source}: [base]"),
        ranges=dict(_range(key, value, f"{source}: [search.{key}]") for key, value in table.items()),
        pruning=_pruning(plain.get("pruning", {}), f"{source}: [pruning]"),
    )


def _base(values: Any, source: str) -> RunConfig:
    config = flags(RunConfig(), values, source)
    if not config.train.epochs and not config.train.max_steps:
        raise ConfigError(f"{source}: give epochs or max-steps: every trial is as long, unless it is given up")
    return config


def _count(value: Any, source: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{source}: {value!r} is not a whole number of {least} or more")
    return value


def _pruning(plain: Any, source: str) -> Pruning:
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{source}: not a table")
    check_keys(plain, [field.name for field in dataclasses.fields(Pruning)], source)
    kind = string(plain.get("kind", Pruning.kind), f"{source} kind")
    one_of(kind, ("median", "none"), f"{source} kind")
    numbers = {name: _count(plain[name], f"{source} {name}", 0) for name in plain if name != "kind"}
    return Pruning(kind, **numbers)


def _range(key: str, plain: Any, source: str) -> tuple[str, Range]:
    owner, field = _flag(key, source)
    kind, several = field_type(owner, field)
    if several or field.name in FIXED:
        raise ConfigError(f"{source}: {key} cannot be searched over")
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{source}: not a table of low and high, or choices")
    check_keys(plain, ("low", "high", "scale", "choices"), source)
    if "choices" in plain:
        return field.name, _choices(owner, field, plain, source)
    if kind not in (int, float):
        raise ConfigError(f"{source}: {key} is no number; give choices")
    if not {"low", "high"} <= plain.keys():
        raise ConfigError(f"{source}: give low and high, or choices")
    low, high = (convert(owner, field, plain[end], f"{source} {end}") for end in ("low", "high"))
    scale = string(plain.get("scale", "linear"), f"{source} scale")
    one_of(scale, SCALES, f"{source} scale")
    if low >= high:
        raise ConfigError(f"{source}: low {low} is not below high {high}")
    if scale == "log" and low <= 0:
        raise ConfigError(f"{source}: a log scale begins above 0, not at {low}")
    return field.name, Range(field.name, kind is int, low, high, scale == "log")


def _choices(owner: type, field: dataclasses.Field[Any], plain: Mapping[str, Any], source: str) -> Range:
    if len(plain) > 1 or not isinstance(plain["choices"], list) or len(plain["choices"]) < 2:
        raise ConfigError(f"{source}: choices is a list of two or more, and stands alone")
    chosen = tuple(convert(owner, field, value, f"{source} choices") for value in plain["choices"])
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{source}: a choice stands twice")
    return Range(field.name, choices=chosen)


def _flag(key: str, source: str) -> tuple[type, dataclasses.Field[Any]]:
    known = {
        name: (owner, field)
        for owner in sections(RunConfig).values()
        for field in dataclasses.fields(owner)
        for name in (field.name, flag_name(field).replace("-", "_"))
    }
    name = key.replace("-", "_")
    if name not in known:
        raise ConfigError(f"{source}: no such flag{nearest(name, known)}")
    return known[name]
