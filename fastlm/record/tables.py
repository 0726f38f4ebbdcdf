"""The tables of a case in Markdown: parameters (the differing ones in bold), sizes of the text, scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastlm.config import as_dict
from fastlm.record.view import CaseView, Line, RunView, number, scores
from fastlm.train.config import RunConfig

NONE = "–"
#: settings that every table shows; others appear where runs differ in them, or where they are not the default
SHOWN = (
    *("model.model", "model.layers", "model.d_model", "model.heads", "model.ff", "model.dropout", "model.activation"),
    *("model.seq_len", "model.vocab_size", "data.languages", "data.share", "data.masking", "data.batch_size"),
    *("train.optimizer", "train.lr", "train.schedule", "train.warmup", "train.weight_decay", "train.epochs"),
)
#: settings that say where things are, or change nothing that is learnt
HIDDEN = (
    *("data.data", "data.cache", "data.workers", "train.run", "train.resume", "train.threads", "train.device"),
    *("train.keep", "train.log_every", "train.save_every", "train.tensorboard", "train.mlflow"),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def overview(cases: Sequence[CaseView], links: Sequence[str]) -> str:
    """A row for each case, with its best run: the lowest bits per character, or loss where no run has those."""
    rows = []
    for case, link in zip(cases, links, strict=True):
        name, line = _best_run(case)
        rows.append([link, str(len(case.runs)), name, _cell(line, "loss"), *_pair(line)])
    return table(["case", "runs", "best run", "its validation loss", "accuracy", "bits/char"], rows)


def _best_run(case: CaseView) -> tuple[str, Line | None]:
    best = {run.name: line for run in case.runs if (line := scores(run).best)}
    for field in ("bits_per_character", "loss"):
        known = {name: value for name, line in best.items() if (value := number(line.get(field))) is not None}
        if known:
            name = min(known, key=lambda run: known[run])
            return name, best[name]
    return NONE, None


def parameters(case: CaseView) -> str:
    """A row for each setting, a column for each run."""
    configs = [_flat(run.config) for run in case.runs]
    default = _flat(RunConfig())
    rows = []
    for name in default:
        values = [config.get(name, None) for config in configs]
        known = [value for config, value in zip(configs, values, strict=True) if config]
        differs = any(value != known[0] for value in known)
        if name in HIDDEN or not (name in SHOWN or differs or any(value != default[name] for value in known)):
            continue
        cells = [_value(value) if config else NONE for config, value in zip(configs, values, strict=True)]
        rows.append([name.split(".")[1], *(f"**{cell}**" if differs else cell for cell in cells)])
    return table(["", *(run.name for run in case.runs)], rows)


def _flat(config: RunConfig | None) -> dict[str, Any]:
    if config is None:
        return {}
    return {f"{section}.{key}": value for section, part in as_dict(config).items() for key, value in part.items()}


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def sizes(case: CaseView) -> str:
    """Text, steps and parameters of each run."""
    head = [
        "run",
        "state",
        "parameters",
        "training sentences",
        "tokens",
        "held out (scored)",
        "steps per epoch",
        "steps",
    ]
    return table(head, [[run.name, run.words, *_sizes(run)] for run in case.runs])


def _sizes(run: RunView) -> list[str]:
    if not run.decided:
        return [NONE] * 6
    decided = run.decided
    train, held = decided["text"]["train"], decided["text"]["valid"]["sentences"]
    scored = run.config.train.valid_sentences if run.config else 0
    return [
        *(f"{n:,}" for n in (decided["parameters"], train["sentences"], train["tokens"])),
        f"{held:,} ({min(scored or held, held):,})",
        *(f"{decided[name]:,}" for name in ("steps_per_epoch", "total_steps")),
    ]


def results(case: CaseView, *, timings: bool) -> str:
    """Best and last scores of each run, with its wall time and speed where ``timings``."""
    head = ["run", "best validation loss", "at epoch", "accuracy", "bits/char"]
    head += ["last validation loss", "accuracy", "bits/char", "last epoch's training loss", "accuracy"]
    head += ["wall time", "tokens/s"] if timings else []
    return table(head, [[run.name, *_results(run, timings=timings)] for run in case.runs])


def _results(run: RunView, *, timings: bool) -> list[str]:
    found = scores(run)
    best = [_cell(found.best, "loss"), _epoch(found.best), *_pair(found.best)]
    cells = [*best, _cell(found.last, "loss"), *_pair(found.last)]
    cells += [_cell(found.train, "loss"), _cell(found.train, "accuracy", 3)]
    return cells + ([_clock(found.seconds), _form(found.tokens_per_second, ",.0f")] if timings else [])


def _pair(line: Line | None) -> list[str]:
    return [_cell(line, "accuracy", 3), _cell(line, "bits_per_character", 3)]


def _epoch(line: Line | None) -> str:
    if line is None:
        return NONE
    return _cell(line, "epoch", 2) if number(line.get("epoch")) is not None else f"step {line['step']:,}"


def languages(case: CaseView) -> str:
    """Validation loss and accuracy of each language at the best evaluation; empty where runs have one language."""
    best = {run.name: scores(run).best or {} for run in case.runs}
    names = sorted({name for line in best.values() for name in line.get("languages", {})})
    if len(names) < 2:
        return ""
    fields = {"loss": 4, "accuracy": 3, "bits_per_character": 3}
    words = {"loss": "loss", "accuracy": "accuracy", "bits_per_character": "bits/char"}
    head = ["run, at its best evaluation", *(f"{name} {words[field]}" for name in names for field in fields)]
    rows = [
        [
            run,
            *(
                _cell(line.get("languages", {}).get(n), field, digits)
                for n in names
                for field, digits in fields.items()
            ),
        ]
        for run, line in best.items()
    ]
    return table(head, rows)


def _cell(line: Line | None, field: str, digits: int = 4) -> str:
    return _form(None if line is None else number(line.get(field)), f".{digits}f")


def _form(value: float | None, form: str) -> str:
    return NONE if number(value) is None else format(value, form)


def _clock(seconds: float) -> str:
    if number(seconds) is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
