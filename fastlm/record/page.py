"""RECORD.md and record.html: every case of a record with parameters, sizes, charts, scores and the user's result.

The page is a function of the case folders alone: a case that was killed and went on gives the same page as one that ran
through, but for wall times, tokens/s and the charts over time. ``timings=False`` leaves those out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fastlm.errors import CheckpointError
from fastlm.record import html, pictures, tables, view
from fastlm.record.folder import RESULT, CaseFolder, cases
from fastlm.record.view import CaseView
from fastlm.train import atomic

MARKDOWN, HTML = "RECORD.md", "record.html"
INTRODUCTION = """# Training record

Each case compares a few runs that differ in one thing. `fastlm record run CASE` makes its runs,
`fastlm record page` writes this page. Validation scores are means over one fixed sample of held-out sentences without
dropout, with the same masks in every run; training scores are measured with dropout, as training goes. *Bits per
character* compares runs with different vocabularies, accuracy does not. The dotted line of a loss chart is the unigram
baseline: what a model scores that knows how often each token occurs, no more."""
TIMINGS = """*Wall time* is that of training, evaluations and saves, summed over all resumes. What a run lost when it
was killed, from its last checkpoint on, is not in it. It was measured while other runs of the case ran beside it, if
they did. *tokens/s* is the median over the training lines, evaluations not counted."""
#: ](path) of a link or picture in the user's text
LINK = re.compile(r"(\]\()([^)\s]+)")


def write(record: Path, to: Path, *, timings: bool = True) -> list[Path]:
    """Writes the page of a record and returns the paths of its two files.

    Args:
        record: folder of the cases.
        to: folder for the page and its pictures; may be the same.
        timings: whether to show what depends on the machine's speed.

    Raises:
        CheckpointError: there is no case, or one is damaged.
        OSError: ``to`` cannot be written.
    """
    found = [view.case(folder) for folder in cases(record)]
    if not found:
        raise CheckpointError(f"{record}: no case here yet; make one with fastlm record run CASE --out {record}")
    to.mkdir(parents=True, exist_ok=True)
    links = [f"[{_title(case)}](#{html.anchor(_title(case))})" for case in found]
    parts = [INTRODUCTION, *([TIMINGS] if timings else []), tables.overview(found, links)]
    parts += [_case(case, to, timings=timings) for case in found]
    text = "\n\n".join(parts) + "\n"
    atomic.replace_file(to / MARKDOWN, text.encode())
    atomic.replace_file(to / HTML, html.page(text, to).encode())
    return [to / MARKDOWN, to / HTML]


def _title(case: CaseView) -> str:
    return f"{case.about['case']}: {case.about['recipe']['title']}"


def _case(case: CaseView, to: Path, *, timings: bool) -> str:
    drawn = pictures.draw(case, to / case.folder.name, timings=timings)
    charts = filter(None, (_pictures(paths, to) for paths in (drawn.main, drawn.languages, drawn.others)))
    scores = filter(None, (tables.results(case, timings=timings), tables.languages(case)))
    blocks = [
        f"## {_title(case)}",
        _about(case),
        f"### Parameters\n\nBold: what the runs differ in.\n\n{tables.parameters(case)}",
        f"### Text and steps\n\n{tables.sizes(case)}",
        f"### Result\n\n{_result(case.folder, to)}",
        *("### Scores", *scores),
        *("### Charts", "\n\n".join(charts) or "No run has a line of metrics yet."),
    ]
    return "\n\n".join(blocks)


def _about(case: CaseView) -> str:
    recipe = case.about["recipe"]
    original, corpus = recipe["original"], recipe["corpus"]
    text = corpus["text"] + (f", {corpus['share']:g} of the training sentences" if corpus["share"] < 1 else "")
    hours = f" in {original['hours']:g} hours" if original["hours"] else ""
    lines = [
        ("Compared", recipe["compares"]),
        ("The original", f"{recipe['date'] or 'date not told'}{hours}. {original['observed']}"),
        ("Text", f"{text}; from {', '.join(map(_base, case.about['text'])) or 'the built-in demo corpus'}"),
        ("Not told, and taken", original["silent"]),
        ("Here", case.about["scaled"] or "in full size"),
        ("Machine", "; ".join(dict.fromkeys(_machine(run.decided) for run in case.runs if run.decided))),
    ]
    return "\n".join(f"- **{name}**: {words}" for name, words in lines if words)


def _base(path: str) -> str:
    """A path's last part: a page says what text it was, not where on a disk."""
    return Path(path.partition("=")[2] or path).name


def _machine(decided: dict[str, object]) -> str:
    threads = f"{decided['threads']} thread{'' if decided['threads'] == 1 else 's'}"
    return f"{decided['device']}, {decided['dtype']}, {threads}, torch {decided['torch']}"


def _pictures(paths: list[Path], to: Path) -> str:
    return "\n\n".join(f"![{path.parent.name} {path.stem}]({path.relative_to(to).as_posix()})" for path in paths)


def _result(folder: CaseFolder, to: Path) -> str:
    """The user's text, with its pictures and links as seen from the page."""
    if not folder.result:
        return f"Not written yet: write it to `{folder.name}/{RESULT}`."

    def seen(match: re.Match[str]) -> str:
        target = folder.path / match[2]
        return match[0] if "://" in match[2] or not target.exists() else f"{match[1]}{_from(to, target)}"

    return LINK.sub(seen, folder.result)


def _from(to: Path, target: Path) -> str:
    return Path(os.path.relpath(target, to)).as_posix()
