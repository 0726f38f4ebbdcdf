"""Compiling changes no result, and is not done anew for every batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from fastlm.batch import Batch
from fastlm.models import LanguageModel, build
from fastlm.models.config import ModelConfig

VOCAB = 50


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make_model(kind: str, dropout: float = 0.0) -> LanguageModel:
    torch.manual_seed(0)
    sizes = {"layers": 1, "d_model": 16, "heads": 1, "ff": 24, "seq_len": 16, "vocab_size": VOCAB}
    return build(ModelConfig(model=kind, dropout=dropout, **sizes))


def logits_of(model: Callable[..., torch.Tensor], batch: Batch) -> torch.Tensor:
    return model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_compiled_model_gives_the_eager_logits_and_gradients(kind: str, make_batch: Callable[..., Batch]) -> None:
    model, batch = make_model(kind), make_batch((6, 3, 9), VOCAB)
    eager = logits_of(model, batch)
    (eager**2).sum().backward()
    want = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    compiled = logits_of(torch.compile(model, backend="aot_eager"), batch)
    (compiled**2).sum().backward()
    torch.testing.assert_close(compiled, eager)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, want[name], msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(("kind", "dropout"), [("encoder", 0.0), ("decoder", 0.0), ("encoder", 0.1)])
def test_compiled_in_place_serves_batches_of_every_shape(
    kind: str, dropout: float, make_batch: Callable[..., Batch]
) -> None:
    """Dropout is drawn alike: its seed is an argument of the compiled graph and not baked into it."""
    eager = make_model(kind, dropout)
    compiled = copy.deepcopy(eager)
    counter = CompileCounterWithBackend("eager")
    compiled.compile(backend=counter)
    for lengths in ((6, 3, 9), (2, 13), (5, 5, 5, 7, 11), (14, 14)):
        batch = make_batch(lengths, VOCAB, every=2)
        for model in (eager, compiled):
            torch.manual_seed(1)
            model.zero_grad()
            model.loss(batch).loss.backward()
        for (name, p), q in zip(compiled.named_parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, msg=lambda m, name=name: f"{name}: {m}")
    assert 1 <= counter.frame_count <= 2, f"{counter.frame_count} compilations for 4 batches"


def test_a_copy_of_a_compiled_model_runs_its_own_weights(make_batch: Callable[..., Batch]) -> None:
    model, batch = make_model("encoder"), make_batch((6, 3), VOCAB)
    model.compile(backend="eager")
    before = logits_of(model, batch)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.final_norm.weight.zero_()
    assert torch.equal(logits_of(model, batch), before) and not torch.equal(logits_of(other, batch), before)
