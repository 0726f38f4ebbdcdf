"""TensorBoard files of other tools as runs of a case."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastlm.errors import CheckpointError, ConfigError
from fastlm.record import events, view
from fastlm.train import charts

SOME = [(0, 100.0, 5.0), (10, 160.0, 4.0)]


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("train/loss", ("train", "loss")),
        ("Loss/train", ("train", "loss")),
        ("val_acc", ("valid", "accuracy")),
        ("eval/accuracy", ("valid", "accuracy")),
        ("Validation Loss", ("valid", "loss")),
        ("Learning rate", ("train", "lr")),
        ("lr-Adam/pg1", ("train", "lr")),
        ("valid/bits_per_character", ("valid", "bits_per_character")),
        ("gloss", None),
        ("memory", None),
    ],
)
def test_what_a_tag_says(tag: str, said: tuple[str, str] | None) -> None:
    assert events.meaning(tag) == said


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One folder of files with tags, and a subfolder as Keras writes it."""
    scalars = {
        tmp_path: {
            "train/loss": SOME, "lr": SOME, "memory": SOME,
            "valid/languages/ko/loss": SOME, "valid/domains/news/loss": [(20, 170.0, 9.0)],
        },
        tmp_path / "validation": {"epoch_loss": SOME},
    }  # fmt: skip
    for place in scalars:
        place.mkdir(exist_ok=True)
        (place / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setattr(events, "_scalars", lambda place: scalars[place])
    return tmp_path


def test_scalars_of_a_split_and_step_are_one_line(folder: Path) -> None:
    assert events.is_event_folder(folder)
    lines = events.read(folder)
    assert [(x["split"], x["step"], x["seconds"]) for x in lines] == [
        ("train", 0, 0.0), ("valid", 0, 0.0), ("train", 10, 60.0), ("valid", 10, 60.0),
    ]  # fmt: skip
    assert lines[2] == {"split": "train", "step": 10, "seconds": 60.0, "loss": 4.0, "lr": 4.0}
    assert lines[3]["loss"] == 4.0 and lines[3]["languages"] == {"ko": {"loss": 4.0}}


def test_such_a_run_is_drawn_and_scored(folder: Path, tmp_path: Path) -> None:
    run = view.extra("other", folder)
    assert run.config is None and run.words == "added from TensorBoard files"
    found = view.scores(run)
    assert found.best is not None and found.best["step"] == 10 and found.seconds == 60.0
    made = charts.draw({"other": run.lines}, tmp_path / "out", axes=["step", "epoch", "tokens", "time"])
    assert [path.name for path in made] == ["loss.png"]


def test_files_that_say_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setattr(events, "_scalars", lambda place: {"memory": SOME})
    with pytest.raises(CheckpointError, match="no tag says loss, accuracy or learning rate; it has memory"):
        events.read(tmp_path)


def test_without_tensorboard_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(ConfigError, match="TensorBoard files are read by pip install tensorboard"):
        events.read(tmp_path)


def test_real_files_come_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="writes and reads real event files")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    for step in range(5):
        writer.add_scalar("Loss/train", 5 - step / 4, step)
        writer.add_scalar("val_acc", step / 8, step)
    writer.close()
    lines = events.read(tmp_path)
    assert [line["loss"] for line in lines if line["split"] == "train"] == [5.0, 4.75, 4.5, 4.25, 4.0]
    assert [line["accuracy"] for line in lines if line["split"] == "valid"] == [0.0, 0.125, 0.25, 0.375, 0.5]
