"""Batches on their way to a device."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from fastlm.batch import Batch


def test_the_way_to_a_gpu_is_through_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.arange(3) for _ in dataclasses.fields(Batch)]
    batch = dataclasses.replace(Batch(*tensors), max_seqlen=3, source=None)
    calls: list[tuple[object, bool]] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: (calls.append(("pinned", True)), self)[1])
    monkeypatch.setattr(
        Tensor, "to", lambda self, device, non_blocking: (calls.append((device, non_blocking)), self)[1]
    )
    assert batch.to(torch.device("cuda:0")).max_seqlen == 3
    assert calls == [("pinned", True), (torch.device("cuda:0"), True)] * 7
    calls.clear()
    batch.to(torch.device("cpu"))
    assert calls == [(torch.device("cpu"), True)] * 7
