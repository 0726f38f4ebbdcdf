"""A small parallel text is learnt by heart: what is translated is what was read."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import fastlm
from fastlm.data.demo import generate
from fastlm.train.config import RunConfig
from fastlm.train.trainer import train


def test_two_hundred_pairs_are_learnt_by_heart(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="the score is sacrebleu's")
    pairs = generate(pairs=200)
    for name, side in (("ko", 0), ("en", 1)):
        (tmp_path / f"{name}.txt").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    sizes = {"layers": 2, "d_model": 128, "heads": 4, "ff": 256, "dropout": 0.0, "vocab_size": 600}
    length = {"max_steps": 300, "eval_every": 300, "batch_size": 50, "lr": 3e-3, "warmup": 40, "schedule": "cosine"}
    data = (str(tmp_path / "ko.txt"), str(tmp_path / "en.txt"))
    config = make_config(model="seq2seq", data=data, valid_fraction=1e-6, **sizes, **length)
    run = fastlm.load(train(config, console=Console(file=io.StringIO())), "latest")
    for to, source, target in (("en", 0, 1), ("ko", 1, 0)):
        for beams in (1, 4):
            written = [best[0].text for best in run.translate([pair[source] for pair in pairs], to, beams=beams)]
            words = {"en": "13a", "ko": "char"}[to]
            score = sacrebleu.corpus_bleu(written, [[pair[target] for pair in pairs]], tokenize=words).score
            assert score > 95, (to, beams, score)
