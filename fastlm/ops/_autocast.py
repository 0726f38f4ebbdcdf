"""Autocast, as the ops that multiply matrices follow it: cast once at the door, then run undisturbed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_WITHOUT_AUTOCAST = ("meta",)  # asking PyTorch about these raises


def autocast_dtype(device: str) -> torch.dtype | None:
    """The dtype that autocast asks for on a device type, or None where it is off."""
    if device in _WITHOUT_AUTOCAST or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def without_autocast(device: str) -> AbstractContextManager[None]:
    """A context in which the dtypes of the tensors alone decide."""
    return nullcontext() if device in _WITHOUT_AUTOCAST else torch.autocast(device, enabled=False)
