"""What is shown, on terminals of all kinds and on none (faults.md, row 21)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fastlm.train import display
from fastlm.train.metrics import Score, Scores

LINE = {"epoch": 1.25, "loss": 4.5, "accuracy": 0.25, "tokens_per_second": 12345.6, "lr": 5e-4}
SCORE = Score(loss=3.0, accuracy=0.5, perplexity=20.1, bits_per_character=2.5, targets=10)
SCORES = Scores(SCORE, {"ko": SCORE, "en": SCORE}, {})


def show_everything(shown: display.Display) -> None:
    with shown.running():
        shown.progress(1, 200, {}, float("nan"))
        shown.progress(10, 200, LINE, 3725.0)
        shown.evaluated(10, SCORES, best=True)
        shown.warn("the disk is [bold]full[/bold]")
        shown.progress(200, 200, {**LINE, "loss": None}, 0.0)
        shown.progress(10, 0, LINE, 5.0)


def test_plain_lines_on_no_terminal() -> None:
    out = io.StringIO()
    shown = display.make(Console(file=out, width=40), main=True)
    assert type(shown) is display.Display
    show_everything(shown)
    text = out.getvalue()
    assert "\x1b" not in text
    assert "step 200/200 (100%) | epoch 1.25 | loss - | accuracy 0.250 | 12,346 tokens/s | lr 5.00e-04" in text
    assert "loss 3.0000 accuracy 0.500 perplexity 20.1 bits/character 2.500 | ko 3.000 / 0.500" in text
    assert "warning: the disk is [bold]full[/bold]" in text  # never taken for markup
    assert text.count("step 1/200") == 1
    assert "step 10/200 (5%) | " not in text  # within ten seconds of the line before


@pytest.mark.parametrize("width", [10, 40, 200])
def test_a_live_bar_on_a_terminal_of_any_width(width: int) -> None:
    out = io.StringIO()
    shown = display.make(Console(file=out, force_terminal=True, width=width), main=True)
    assert type(shown) is display.LiveDisplay
    show_everything(shown)
    assert "\x1b[?25h" in out.getvalue()  # the cursor is back


def test_no_colour_and_dumb_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    show_everything(display.make(Console(file=out, force_terminal=True, width=80), main=True))
    assert "\x1b[3" not in out.getvalue().replace("\x1b[3A", "")
    monkeypatch.setenv("TERM", "dumb")
    assert type(display.make(Console(file=io.StringIO(), force_terminal=True), main=True)) is display.Display


def test_other_ranks_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    show_everything(display.make(None, main=False))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_has_gone_stops_nothing(terminal: bool) -> None:
    code = (
        "import sys, time; from rich.console import Console; from fastlm.train import display\n"
        f"shown = display.make(Console(force_terminal={terminal}), main=True)\n"
        "with shown.running():\n"
        "    for i in range(2000): shown.say('x' * 100)\n"
        "print('more'); print('alive', file=sys.stderr)"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "alive\n")


def test_a_closed_stream_stops_nothing(tmp_path: Path) -> None:
    file = open(tmp_path / "out", "w")  # noqa: SIM115
    shown = display.make(Console(file=file), main=True)
    file.close()
    show_everything(shown)
