"""``total_norm(tensors)``: the norm of all tensors together, as of one long vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastlm.ops import _backend, reference
from fastlm.ops._checks import check_float, check_like

# ---- registered op -------------------------------------------------------------------------------------------------
# tensors: at least one, fp32, strided at will -> norm () fp32. Squares are summed in fp32 within fixed chunks and in
# fp64 over them, in order: the same bits for any number of threads.


def _fake(tensors: list[Tensor]) -> Tensor:
    return tensors[0].new_empty(())


_kernels = _backend.define_single("total_norm", "total_norm", "(Tensor[] tensors) -> Tensor", _fake)


# ---- public --------------------------------------------------------------------------------------------------------
@torch.no_grad()
def total_norm(tensors: Sequence[Tensor], *, backend: str | None = None) -> Tensor:
    """The Euclidean norm of all elements of all tensors: ``torch.nn.utils.get_total_norm(tensors)``.

    Args:
        tensors: of any shapes, of one dtype and on one device: fp32 (bf16, fp16 and fp64 on the reference).
        backend: ``native``, ``triton``, ``reference`` or None (use_backend, FASTLM_BACKEND, else the first that runs).

    Returns:
        A scalar of the tensors' dtype; 0 for no tensors, NaN where one of them holds a NaN. No gradient flows through.

    Raises:
        TypeError: a tensor that is not floating point, or of another dtype than the first.
        ValueError: a tensor on another device than the first, or a named backend that cannot run.
    """
    if not tensors:
        return torch.tensor(0.0)
    for i, x in enumerate(tensors):
        check_float(f"tensors[{i}]", x)
        check_like(f"tensors[{i}]", x, "tensors[0]", tensors[0])
    first = tensors[0]
    limits = None if first.dtype == torch.float32 else f"tensors[0] is {first.dtype}, and kernels take float32"
    family = _backend.select("total_norm", backend, first.device.type, limits)
    norm: Tensor = reference.total_norm(tensors) if family == "reference" else _kernels[family](list(tensors))
    return norm
