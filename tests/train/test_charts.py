"""Charts of runs that are unlike each other, in ways that real runs are."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from fastlm.errors import CheckpointError
from fastlm.train import charts


def write_run(folder: Path, length: int, *, every: int = 5, **extra: Any) -> Path:
    folder.mkdir(parents=True)
    lines = [
        {"split": split, "step": i, "epoch": i / 10, "loss": 8 - i / 50, "accuracy": i / 1000, **extra}
        for i in range(1, length + 1)
        for split in ("train", "valid")
        if split == "train" or i % every == 0
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        return image.format == "PNG" and image.mode == "P" and len(image.convert("RGB").getcolors()) > 10


def test_overlays_unlike_runs_without_a_warning(tmp_path: Path) -> None:
    languages = {"ko": {"loss": 7.0, "accuracy": 0.2}, "en": {"loss": None}}
    runs = [
        write_run(tmp_path / "한국어 런", 150, languages=languages),
        write_run(tmp_path / "_short $x^", 7),
        write_run(tmp_path / "no validation", 3),
        write_run(tmp_path / "a" / "same", 4, loss=None),
        write_run(tmp_path / "b" / "same", 4, accuracy=None, loss=None),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = charts.plot(runs, tmp_path / "out")
    assert [path.name for path in made] == ["loss.png", "accuracy.png"]  # nobody has bits per character
    assert all(map(is_png, made))


def test_names_tell_runs_apart() -> None:
    names = charts._names([Path("/x/a/run"), Path("/x/b/run"), Path("/x/other")])
    assert list(names) == ["a/run", "b/run", "x/other"]


def test_missing_values_are_gaps_and_empty_curves_are_left_out() -> None:
    lines = [
        {"split": "train", "step": 1, "epoch": 0.1, "loss": None, "languages": {"ko": {"loss": 2.0}, "en": {}}},
        {"split": "train", "step": 2, "epoch": 0.2, "loss": 3.0, "languages": {"ko": {"loss": 1.0}}},
    ]
    curves = charts._curves(lines, "train", "loss")
    assert set(curves) == {"", "ko"}
    assert curves["ko"].y == [2.0, 1.0]
    assert curves[""].y[0] != curves[""].y[0]
    assert curves[""].y[1] == 3.0


def test_running_mean_ignores_gaps() -> None:
    nan = float("nan")
    assert charts._running_mean([1.0, 3.0, nan, 5.0], 2) == [1.0, 2.0, 3.0, 5.0]


def test_without_metrics(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"metrics.jsonl: cannot be read"):
        charts.plot([tmp_path], tmp_path / "out")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="no metrics yet"):
        charts.plot([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def lines_of(length: int, languages: tuple[str, ...] = ("ko", "en")) -> list[dict[str, Any]]:
    return [
        {
            **{"split": split, "step": i, "epoch": i / 10, "tokens": 600 * i, "seconds": 2.0 * i, "lr": 1e-3 / i},
            **{"loss": 8 - i / 50, "languages": {name: {"loss": 7 - i / 50} for name in languages}},
        }
        for i in range(1, length + 1)
        for split in ("train", "valid")
    ]


def test_points_lie_on_every_axis() -> None:
    curve = charts._curves(lines_of(3), "valid", "loss")[""]
    assert curve.x == {
        "step": [1, 2, 3],
        "epoch": [0.1, 0.2, 0.3],
        "tokens": pytest.approx([600e-6, 1200e-6, 1800e-6]),
        "time": pytest.approx([2 / 60, 4 / 60, 6 / 60]),
    }


def test_a_row_for_each_axis_and_a_column_for_each_split_or_language() -> None:
    chart = charts.Chart(["a", "b"], "loss", charts._all_curves({"a": lines_of(3), "b": lines_of(5)}, "loss"))
    grid = charts._grid(chart, ["tokens", "time"], ["train", "valid"], "together")
    assert [[(p.axis, p.split, p.language) for p in row] for row in grid] == [
        [("tokens", "train", ""), ("tokens", "valid", "")],
        [("time", "train", ""), ("time", "valid", "")],
    ]
    grid = charts._grid(chart, ["epoch", "time"], ["train", "valid"], "apart")
    assert [[(p.title, p.axis, p.split, p.language) for p in row] for row in grid] == [
        [("en, training", "epoch", "train", "en"), ("ko, training", "epoch", "train", "ko")],
        [("en, validation", "epoch", "valid", "en"), ("ko, validation", "epoch", "valid", "ko")],
    ]


def test_what_there_is_nothing_of_is_not_drawn(tmp_path: Path) -> None:
    one = {"a": lines_of(3, ("ko",))}
    assert charts.draw(one, tmp_path, languages="apart") == []
    assert charts.draw(one, tmp_path, charts={"x": ("nothing", "x")}) == []
    only = {"a": [{**line, "loss": None} for line in lines_of(3)]}
    assert charts.draw(only, tmp_path, languages="together") == []


def test_a_note_the_rate_and_a_suffix(tmp_path: Path) -> None:
    runs = {"a": lines_of(150), "b": lines_of(5)}
    options: dict[str, Any] = {"title": "case $1", "note": "scaled " * 40, "suffix": "-x", "baseline": 6.5}
    made = charts.draw(runs, tmp_path, charts=charts.CHARTS | charts.RATES, axes=list(charts.AXES), **options)
    assert [path.name for path in made] == ["loss-x.png", "lr-x.png"]
    assert all(map(is_png, made))


def test_a_palette_keeps_the_colour_of_every_run(tmp_path: Path) -> None:
    """Of equal curves only the last is seen: the others have their colours in a few pixels of the legend."""
    runs = {f"a run with a long name {n}": lines_of(150) for n in range(10)}
    (made,) = charts.draw(runs, tmp_path, charts=charts.RATES, axes=["step"], splits=["train"], languages="together")
    with Image.open(made) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for n in range(10):
        wanted = np.array(colormaps["tab10"](n)[:3]) * 255
        assert np.abs(pixels - wanted).max(axis=1).min() <= 10, n


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn, instead of its file."""
    drawn: list[Figure] = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: drawn.append(figure))
    return drawn


def test_each_split_has_a_scale_of_its_own(figures: list[Figure], tmp_path: Path) -> None:
    lines = [line | {"loss": line["loss"] + 5 * (line["split"] == "valid")} for line in lines_of(5)]
    for line in lines:
        line["languages"]["ko"]["loss"] += 1
    charts.draw({"a": lines}, tmp_path, languages="together")
    charts.draw({"a": lines}, tmp_path, languages="apart")
    together, apart = ([axes.get_ylim() for axes in figure.axes] for figure in figures)
    training, validation = together[:2]
    assert training[1] < validation[0]
    assert together[2:] == [training, validation]  # over the next axis
    assert apart[0] == apart[1] and apart[2] == apart[3]  # languages beside each other


def test_many_points_are_smoothed_but_not_a_rate(figures: list[Figure], tmp_path: Path) -> None:
    lines = [{"split": "train", "step": n, "loss": n % 2, "lr": n % 2} for n in range(1, 201)]
    charts.draw({"a": lines}, tmp_path, charts=charts.CHARTS | charts.RATES, axes=["step"], splits=["train"])
    loss, rate = (figure.axes[0].lines for figure in figures)
    points = [n % 2 for n in range(1, 201)]
    assert len(loss) == 2 and list(loss[0].get_ydata()) == points
    assert np.ptp(np.asarray(loss[1].get_ydata())[3:]) < 0.5
    assert len(rate) == 1 and list(rate[0].get_ydata()) == points
