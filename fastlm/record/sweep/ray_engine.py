"""Ray Tune as the engine, for searches over many machines: the same file, the same trials, Ray's scheduling.

Every machine must see the search's folder and the text (a shared file system). Ray keeps its own state under
``FOLDER/ray`` and takes up from there what was interrupted; a trial that had begun goes on from its last checkpoint.
The number of trials is that of the first start. Choices are drawn at random; Optuna's sampler learns from earlier ones.
"""

from __future__ import annotations

import math
from typing import Any

from fastlm.errors import ConfigError, FastlmError
from fastlm.record import state
from fastlm.record.sweep import trial as trials
from fastlm.record.sweep.folder import SweepFolder
from fastlm.record.sweep.recipe import Range, Search
from fastlm.record.sweep.trial import Trial

NAME = "ray"
NUMBER = "trial"


def check_available() -> None:
    """Raises ConfigError where Ray is not installed."""
    try:
        import ray.tune  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'engine = "ray": {error}; pip install "ray[tune]", or take engine = "optuna"') from None


def search(folder: SweepFolder, wanted: Search, jobs: int, threads: int) -> list[Trial]:
    """Runs every trial that is left and returns all of them.

    Args:
        folder: of the search.
        wanted: the search.
        jobs: trials at a time, over all machines.
        threads: CPUs of each trial.
    """
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler, MedianStoppingRule
    from ray.tune.search.basic_variant import BasicVariantGenerator

    pruning = wanted.pruning
    median = MedianStoppingRule(
        time_attr="evaluation",
        grace_period=pruning.warmup_evaluations,
        min_samples_required=max(1, pruning.startup_trials),
        hard_stop=True,
    )
    trainable = tune.with_resources(_trainable(folder, wanted, threads), {"cpu": threads})
    place = (folder.path / NAME).resolve()
    if tune.Tuner.can_restore(str(place)):
        tuner = tune.Tuner.restore(str(place), trainable, resume_unfinished=True, restart_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            # Numbers come from a grid, so that a restored search gives every trial its number again.
            param_space={NUMBER: tune.grid_search(list(range(wanted.trials))), **_space(wanted)},
            tune_config=tune.TuneConfig(
                metric="value",
                mode="min",
                search_alg=BasicVariantGenerator(max_concurrent=jobs, random_state=wanted.seed),
                scheduler=median if pruning.kind == "median" else FIFOScheduler(),
            ),
            run_config=tune.RunConfig(name=NAME, storage_path=str(folder.path.resolve())),
        )
    return sorted((_row(result, folder, wanted) for result in tuner.fit()), key=lambda row: row.number)


def _space(wanted: Search) -> dict[str, Any]:
    return {name: _domain(span) for name, span in wanted.ranges.items()}


def _domain(span: Range) -> Any:
    from ray import tune

    if span.choices:
        return tune.choice(list(span.choices))
    if span.whole:  # Ray leaves the upper end out
        return (tune.lograndint if span.log else tune.randint)(int(span.low), int(span.high) + 1)
    return (tune.loguniform if span.log else tune.uniform)(span.low, span.high)


def _trainable(folder: SweepFolder, wanted: Search, threads: int) -> Any:
    place, reading = folder.path.resolve(), folder.reading()

    def run(config: dict[str, Any]) -> None:
        from ray import tune

        chosen = {name: config[name] for name in wanted.ranges}
        own = SweepFolder(place).run(config[NUMBER])
        reported = 0

        def told(evaluation: int, value: float) -> bool:
            nonlocal reported
            if evaluation > reported:  # a resumed run repeats evaluations, to the bit
                reported = evaluation
                # Ray ends the trial here where it is to be given up
                tune.report({"value": value, "evaluation": evaluation})
            return False

        # Ray's state on disk may be older than the run: it hears of evaluations that it has lost, or it would wait for
        # some of a run that is done.
        for evaluation, value in enumerate(trials.values(own, wanted.metric), 1):
            told(evaluation, math.inf if value is None else value)
        try:
            trials.run(wanted, chosen, own, reading, threads, told)
        except FastlmError as error:
            raise RuntimeError(str(error)) from None

    return run


def _row(result: Any, folder: SweepFolder, wanted: Search) -> Trial:
    number = result.config[NUMBER]
    value = trials.best(folder.run(number), wanted.metric)
    end = "failed" if result.error else "done" if state.read(folder.run(number)).done else "given up"
    return Trial(number, end, {name: result.config[name] for name in wanted.ranges}, value, str(result.error or ""))
