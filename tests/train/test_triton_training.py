"""``--kernels triton``: in Triton's interpreter, a toy run has the losses of the reference."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastlm import kernels, ops
from fastlm.train import metrics
from fastlm.train.config import RunConfig

pytestmark = pytest.mark.skipif(
    ops.triton_fault() is not None or not kernels.interpreted(),
    reason=ops.triton_fault() or "Triton is not asked to interpret kernels (TRITON_INTERPRET=1)",
)

#: what a training run with dropout and clipping calls
NAMES = {
    "attention_forward",
    "attention_backward",
    "layer_norm_forward",
    "layer_norm_backward",
    "linear_cross_entropy_forward",
    "linear_cross_entropy_scaled",
    "adam_",
    "total_norm",
}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The Triton kernels that have run."""
    names: set[str] = set()

    def watch(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (names.add(name), kernel(*args))[1]

    for op, registered in kernels.OPS.items():
        module = importlib.import_module(f"{kernels.__name__}.{op}")
        for name in registered:
            monkeypatch.setattr(module, name, watch(name, getattr(module, name)))
    return names


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_a_run_has_the_losses_of_the_reference(
    make_config: Callable[..., RunConfig],
    run: Callable[[RunConfig], str],
    tmp_path: Path,
    called: set[str],
    model: str,
) -> None:
    options: dict[str, Any] = {"model": model, "dropout": 0.1, "batch_size": 4, "lr": 1e-2, "warmup": 1}
    options |= {"max_steps": 4, "log_every": 1, "eval_every": 4, "valid_sentences": 4}
    losses: dict[str, list[float]] = {}
    for family in ("reference", "triton"):
        folder = tmp_path / family
        with ops.use_backend(None):
            run(make_config(kernels=family, run=str(folder), **options))
        assert called == (NAMES if family == "triton" else set())
        losses[family] = [line["loss"] for line in metrics.read(folder / "metrics.jsonl")]
    assert losses["triton"] == pytest.approx(losses["reference"], rel=1e-4)
    assert losses["triton"][-1] < losses["triton"][0]
