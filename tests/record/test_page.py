"""The page, from run folders that no one trained: what is bold, what is kept, what is not there."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fastlm.config import as_dict
from fastlm.errors import CheckpointError
from fastlm.record import page, recipe, tables, view
from fastlm.record.folder import CaseFolder
from fastlm.record.scale import SCALES, scaled
from fastlm.train.config import RunConfig

DECIDED = {
    "device": "cpu", "dtype": "bfloat16", "threads": 2, "torch": "2.13", "parameters": 1234567,
    "total_steps": 40, "steps_per_epoch": 20, "store": "abc",
    "text": {
        "train": {"sentences": 4000, "tokens": 80000}, "valid": {"sentences": 500, "tokens": 9000},
        "unigram_loss": {"overall": 7.5},
    },
}  # fmt: skip


def line(split: str, step: int, loss: float | None, **more: Any) -> dict[str, Any]:
    fields = {"epoch": step / 20, "tokens": step * 600, "seconds": step * 1.5, "lr": 5e-4, "targets": 100}
    scores = {"loss": loss, "accuracy": step / 100, "bits_per_character": loss and loss / 3}
    return {"split": split, "step": step, **fields, **scores, "tokens_per_second": 4000.0 + step, **more}


def write_run(folder: Path, config: RunConfig, lines: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    plain = {"config": as_dict(config), "requested": as_dict(config), "decided": DECIDED}
    (folder / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Case 1 with one finished run, whose best evaluation is not its last, and one that has not begun."""
    case = recipe.find("1")
    runs = {name: scaled(config, SCALES["cpu"]) for name, config in case.runs.items()}
    folder = CaseFolder(tmp_path / "record" / "case-01")
    folder.settle(case, SCALES["cpu"], runs, ["/somewhere/private/ko.txt", "en=/somewhere/private/en.txt"])
    losses = {10: 7.0, 20: 5.0, 30: 6.0, 40: 6.5}
    languages = {
        n: {"ko": {"loss": x + 1, "accuracy": 0.1}, "en": {"loss": x - 1, "accuracy": 0.3}} for n, x in losses.items()
    }
    lines = [line(split, n, x, languages=languages[n]) for n, x in losses.items() for split in ("train", "valid")]
    write_run(folder.run("layers-4"), runs["layers-4"], lines)
    return tmp_path / "record"


def markdown(record: Path, to: Path, **options: bool) -> str:
    return page.write(record, to, **options)[0].read_text(encoding="utf-8")


def test_parameters_sizes_and_scores(record: Path, tmp_path: Path) -> None:
    text = markdown(record, tmp_path / "page")
    title = "[case-01: Layers 4 and 6, no decay](#case-01-layers-4-and-6-no-decay)"
    assert f"| {title} | 2 | layers-4 | 5.0000 | 0.200 | 1.667 |" in text
    assert "| layers | **4** | **6** |" in text
    assert "| d_model | 256 | 256 |" in text
    assert "| vocab_size | 7996 | 7996 |" in text
    assert "| layers-4 | done | 1,234,567 | 4,000 | 80,000 | 500 (400) | 20 | 40 |" in text
    assert "| layers-6 | not begun | – |" in text
    # best at epoch 1, last at epoch 2; training mean of the last epoch: 6.0 and 6.5
    assert (
        "| layers-4 | 5.0000 | 1.00 | 0.200 | 1.667 | 6.5000 | 0.400 | 2.167 | 6.2500 | 0.350 | 0:01:00 | 4,025 |"
        in text
    )
    assert "| layers-4 | 4.0000 | 0.300 | – | 6.0000 | 0.100 | – |" in text
    assert "scaled down (--scale cpu)" in text
    assert "in 93.7 hours" in text
    assert "cpu, bfloat16, 2 threads, torch 2.13" in text
    assert "from ko.txt, en.txt" in text and "/somewhere" not in text


def test_the_users_result_is_kept_and_never_written(record: Path, tmp_path: Path) -> None:
    assert "Not written yet: write it to `case-01/result.md`" in markdown(record, tmp_path / "page")
    (record / "case-01" / "own.png").write_bytes(b"\x89PNG own")
    result = "Both *overfit* $x$ <script>.\n\n![mine](own.png) and [a page](https://example.org)"
    (record / "case-01" / "result.md").write_text(result, encoding="utf-8")
    text = markdown(record, tmp_path / "page")
    assert "Both *overfit* $x$ <script>." in text
    assert "![mine](../record/case-01/own.png)" in text
    html = (tmp_path / "page" / "record.html").read_text(encoding="utf-8")
    assert base64.b64encode(b"\x89PNG own").decode() in html
    assert "<em>overfit</em>" in html and "&lt;script&gt;" in html
    assert (record / "case-01" / "result.md").read_text(encoding="utf-8") == result


class Loaded(HTMLParser):
    """What a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [
            value or "" for name, value in attrs if name in ("src", "srcset", "data", "poster", "background")
        ]


def test_the_html_needs_nothing_else(record: Path, tmp_path: Path) -> None:
    (record / "case-01" / "result.md").write_text("![far](https://example.org/x.png)", encoding="utf-8")
    made = page.write(record, tmp_path / "page")[1].read_text(encoding="utf-8")
    found = Loaded()
    found.feed(made)
    assert found.sources and all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert "url(" not in made and "@import" not in made
    pictures = re.findall(
        r"!\[case-01 [^]]*\]\(([^)]+)\)", (tmp_path / "page" / "RECORD.md").read_text(encoding="utf-8")
    )
    named = {Path(picture).stem for picture in pictures}
    assert len(found.sources) == len(pictures)
    assert {"loss", "accuracy", "bits_per_character", "lr", "loss-languages", "loss-axes"} <= named
    assert all((tmp_path / "page" / picture).read_bytes()[:4] == b"\x89PNG" for picture in pictures)


def test_the_page_is_a_function_of_the_folders(record: Path, tmp_path: Path) -> None:
    first, second = (page.write(record, tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_timings_can_be_left_out(record: Path, tmp_path: Path) -> None:
    before = markdown(record, tmp_path / "a", timings=False)
    metrics = record / "case-01" / "runs" / "layers-4" / "metrics.jsonl"
    slower = [json.loads(x) | {"seconds": 99.0, "tokens_per_second": 1.0} for x in metrics.read_text().splitlines()]
    metrics.write_text("".join(json.dumps(x) + "\n" for x in slower))
    assert markdown(record, tmp_path / "b", timings=False) == before
    assert (tmp_path / "a" / "record.html").read_bytes() == (tmp_path / "b" / "record.html").read_bytes()
    assert markdown(record, tmp_path / "c") != markdown(record, tmp_path / "d", timings=False)


def test_a_damaged_folder_is_named(record: Path, tmp_path: Path) -> None:
    (record / "case-01" / "case.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"case-01/case.json: damaged"):
        page.write(record, tmp_path)


def test_the_best_run_of_a_case_has_the_fewest_bits_per_character() -> None:
    def run(name: str, *lines: dict[str, Any]) -> view.RunView:
        return view.RunView(name, None, {}, list(lines), "")

    def row(*runs: view.RunView) -> str:
        return tables.overview([view.CaseView(CaseFolder(Path("x")), {}, list(runs))], ["x"]).splitlines()[-1]

    small = run("small vocabulary", line("valid", 20, 4.0, bits_per_character=2.0))
    large = run("large vocabulary", line("valid", 20, 5.0, bits_per_character=1.5))
    elsewhere = run("another tool's", {"split": "valid", "step": 3, "loss": 1.0})
    assert row(small, large, elsewhere) == "| x | 3 | large vocabulary | 5.0000 | 0.200 | 1.500 |"
    assert row(run("none"), elsewhere) == "| x | 2 | another tool's | 1.0000 | – | – |"
    assert row(run("none")) == "| x | 1 | – | – | – | – |"


def test_scores_of_runs_without_values() -> None:
    nothing = view.RunView("x", None, {}, [], "")
    assert tables._results(nothing, timings=True) == [tables.NONE] * 11
    only = dataclasses.replace(nothing, lines=[line("valid", 3, None), {"split": "train", "step": 3, "loss": 2.0}])
    found = view.scores(only)
    assert found.best is None and found.last is not None
    assert found.train == {"loss": 2.0, "accuracy": None, "bits_per_character": None}
