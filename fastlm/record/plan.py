"""From a recipe to runs that can start: sizes of the scale, the token stores, the share of the text."""

from __future__ import annotations

import dataclasses
import fnmatch
import sys
from dataclasses import dataclass

from fastlm.data.config import DataConfig
from fastlm.data.prepare import prepared
from fastlm.data.store import Store
from fastlm.errors import ConfigError
from fastlm.record.recipe import Recipe
from fastlm.record.scale import Scale, scaled, share_factor
from fastlm.train.config import RunConfig


@dataclass(frozen=True)
class Planned:
    """The runs of a case as they are trained, and the store that each reads."""

    runs: dict[str, RunConfig]
    stores: dict[str, Store]


def planned(recipe: Recipe, scale: Scale, reading: DataConfig) -> Planned:
    """Every run of a case, with one store for all runs that have the same vocabulary.

    Args:
        recipe: of the case.
        scale: of its sizes.
        reading: where the text is and how it is read; the rest of it is the recipe's.

    Raises:
        ConfigError: a run without epochs, or a language or domain that the text does not have.
        DataError: text that cannot be used, or that does not fill the vocabulary.
    """
    runs, stores = {}, {}
    made: dict[tuple[str, int, tuple[str, ...]], Store] = {}
    for name, config in recipe.runs.items():
        if not config.train.epochs:
            raise ConfigError(f"{recipe.name}: run {name}: give epochs, so that its length can be scaled")
        sized = scaled(config, scale)
        kind, languages = sized.data.tokenizer, sized.data.vocab_languages
        key = (kind, sized.model.vocab_size, languages)
        if key not in made:
            text = dataclasses.replace(reading, tokenizer=kind, vocab_languages=languages)
            made[key] = prepared(text, sized.model.vocab_size, progress=sys.stderr.isatty())
        stores[name] = made[key]
        runs[name] = _on_store(sized, made[key], recipe.name)
    factor = share_factor([_visits(runs[name], stores[name]) for name in runs], scale)
    return Planned({name: _shared(config, factor) for name, config in runs.items()}, stores)


def _on_store(config: RunConfig, store: Store, case: str) -> RunConfig:
    """The run with a prepared store for its text, and domains by their names in it."""
    data = dataclasses.replace(
        config.data, data=(str(store.path),), vocab_languages=(), domains=_domains(config, store, case)
    )
    model = dataclasses.replace(config.model, vocab_size=store.tokenizer.vocab_size)
    return dataclasses.replace(config, data=data, model=model)


def _domains(config: RunConfig, store: Store, case: str) -> tuple[str, ...]:
    found: list[str] = []
    for pattern in config.data.domains:
        matching = sorted(fnmatch.filter(store.domain_names, pattern))
        if not matching:
            raise ConfigError(
                f"{case}: no domain of the text is like {pattern!r}; it has {', '.join(sorted(store.domain_names))}"
            )
        found += matching
    return tuple(dict.fromkeys(found))


def _visits(config: RunConfig, store: Store) -> float:
    """Sentences that a run reads over all its epochs."""
    return len(store.select("train", config.data)) * config.train.epochs


def _shared(config: RunConfig, factor: float) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, share=config.data.share * factor))
