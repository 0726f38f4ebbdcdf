"""``fastlm.load``: what the commands do, in Python."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

import fastlm
import fastlm.api
from fastlm.data.demo import generate
from fastlm.errors import ConfigError
from fastlm.models import build
from fastlm.models.config import ModelConfig
from fastlm.text.tokenizer import Tokenizer
from fastlm.train import checkpoint
from fastlm.train.config import RunConfig

SIZES = {"layers": 2, "d_model": 32, "heads": 2, "ff": 64, "seq_len": 32}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fastlm.api.Run]:
    """An untrained model of each kind."""
    tokenizer = Tokenizer.train((text for pair in generate(pairs=200) for text in pair), kind="byte", vocab_size=500)
    found = {}
    for kind in ("encoder", "decoder", "seq2seq", "classifier"):
        torch.manual_seed(0)
        labels = ("en", "ko") if kind == "classifier" else ()
        config = ModelConfig(model=kind, vocab_size=tokenizer.vocab_size, labels=labels, **SIZES)
        path: Path = tmp_path_factory.mktemp("runs") / kind
        checkpoint.publish(path, build(config), tokenizer, RunConfig(model=config))
        found[kind] = fastlm.load(path)
    return found


def test_filling(runs: dict[str, fastlm.api.Run]) -> None:
    filled = runs["encoder"].fill("나는 [MASK] 좋아한다 [MASK]", top_k=3)
    assert [len(choices) for choices in filled.candidates] == [3, 3]
    assert all(a.probability >= b.probability for each in filled.candidates for a, b in itertools.pairwise(each))
    assert filled.text.startswith("나는") and "[MASK]" not in filled.text


def test_generating(runs: dict[str, fastlm.api.Run]) -> None:
    run = runs["decoder"]
    texts = run.generate(["the", "나는"], max_new_tokens=4)
    assert texts[0].startswith("the") and texts[1].startswith("나는")
    assert run.generate("the", max_new_tokens=4) == texts[:1]
    assert run.generate(max_new_tokens=0) == [""]


def test_translating(runs: dict[str, fastlm.api.Run]) -> None:
    run, options = runs["seq2seq"], {"beams": 2, "max_new_tokens": 5}
    both = run.translate(["나는 간다", "", "I go " * 50], **options)
    assert [len(best) for best in both] == [2, 0, 2]
    assert both[0][0].score >= both[0][1].score
    alone = run.translate("나는 간다", "en", **options)[0]
    assert [one.text for one in alone] == [one.text for one in both[0]]
    assert [one.score for one in alone] == pytest.approx([one.score for one in both[0]], rel=1e-5)
    assert run.translate("나는 간다", "ko", **options) != both[:1]


def test_classifying(runs: dict[str, fastlm.api.Run]) -> None:
    run = runs["classifier"]
    found = run.classify(["나는 간다", "", "the library " * 40], top_k=5)
    assert [sorted(one.text for one in best) for best in found] == [["en", "ko"]] * 3
    assert all(a.probability >= b.probability and a.probability + b.probability == pytest.approx(1) for a, b in found)
    assert run.classify("나는 간다") == [found[0][:1]]
    assert run.classify([]) == []


@pytest.mark.parametrize("kind", ["encoder", "decoder", "seq2seq", "classifier"])
def test_embedding(runs: dict[str, fastlm.api.Run], kind: str) -> None:
    run = runs[kind]
    texts = ["나는 간다", "", "the library " * 40]
    vectors = run.embed(texts)
    assert vectors.shape == (3, 32) and vectors.isfinite().all()
    for i, text in enumerate(texts):
        torch.testing.assert_close(run.embed(text)[0], vectors[i], rtol=1e-4, atol=1e-5)
    ids = [run.tokenizer.bos_id, *run.tokenizer.encode(texts[0])]
    ids += [] if kind == "decoder" else [run.tokenizer.eos_id]
    model = run.model.encoder if kind in ("seq2seq", "classifier") else run.model
    with torch.no_grad():
        starts = torch.tensor([0, len(ids)], dtype=torch.int32)
        hidden = model.hidden_states(torch.tensor(ids), torch.arange(len(ids)), starts, len(ids))
    inner = hidden[1:] if kind == "decoder" else hidden[1:-1]
    torch.testing.assert_close(vectors[0], inner.mean(0), rtol=1e-4, atol=1e-5)
    assert run.embed([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        ("decoder", lambda run: run.fill("[MASK]"), "is of kind decoder, fill needs kind encoder; use generate"),
        ("encoder", lambda run: run.generate("a"), "generate needs kind decoder; use fill"),
        ("encoder", lambda run: run.translate("a"), "translate needs kind seq2seq"),
        ("encoder", lambda run: run.fill("a"), "no .MASK. to fill"),
        ("encoder", lambda run: run.fill("word " * 99 + "[MASK]"), "the model reads at most 32"),
        ("decoder", lambda run: run.generate("word " * 99), "the model reads at most 32"),
        ("seq2seq", lambda run: run.translate("a", "de"), "'de' is not auto, ko or en"),
    ],
)
def test_refusals(runs: dict[str, fastlm.api.Run], kind: str, call, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(runs[kind])


def test_importing_fastlm_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, fastlm; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="has no attribute 'unload'"):
        fastlm.unload  # noqa: B018
