"""The specification of every op in plain differentiable PyTorch: what all kernels are checked against.

Never registered with the dispatcher, so that no fault of schemas, autograd.Functions or kernels can hide in it. Inputs
of fp32, bf16 and fp16 are computed in fp32, those of fp64 in fp64. Arguments are those of the public functions after
their checks; shapes are in comments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fastlm.ops._blocks import Block, lay_out
from fastlm.ops.philox import Seed, hidden_mask, keep_mask, keep_scale

ROWS_PER_CHUNK = 1024  # of logits: 120 MB of fp32 at 30,000 classes


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums run in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def softmax(x: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Shapes: x (..., N) -> (..., N); mask bool, broadcastable, True takes part."""
    scores = x.to(accumulator(x.dtype)) * scale
    if mask is None:
        return torch.softmax(scores, dim=-1).to(x.dtype)
    p = torch.softmax(scores.masked_fill(~mask, -math.inf), dim=-1)
    return p.masked_fill(~mask.any(dim=-1, keepdim=True), 0).to(x.dtype)


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float) -> Tensor:
    """Shapes: logits (N, V), targets (N,) -> loss per row (N,): 0 where ignored, NaN where the target is no class."""
    classes = logits.shape[1]
    ignored = targets == ignore_index
    valid = (targets >= 0) & (targets < classes)
    counted = logits.to(accumulator(logits.dtype)).masked_fill(ignored[:, None], 0)  # NaN in an ignored row is not seen
    log_p = torch.log_softmax(counted, dim=1)  # (N, V)
    loss = -log_p.gather(1, torch.where(valid, targets, 0).long()[:, None])[:, 0]  # (N,)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing / classes * log_p.sum(dim=1)
    poison = torch.where(valid | ignored, 1.0, math.nan)  # a factor, so that the gradient is poisoned too
    return (loss * poison).masked_fill(ignored, 0)


def layer_norm(
    residual: Tensor,
    branch: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout_p: float,
    dropout_seed: Seed,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Shapes: residual and branch (..., d), weight and bias (d,) -> normalised (..., d) of ``dtype``, sum (..., d).

    Dropout falls on the branch, or where there is none on the normalised.
    """
    wide = accumulator(residual.dtype)
    x = residual
    if branch is not None:
        x = (residual.to(wide) + _drop(branch.to(wide), dropout_p, dropout_seed)).to(residual.dtype)
    y = F.layer_norm(x.to(wide), x.shape[-1:], weight.to(wide), bias.to(wide), eps)
    if branch is None:
        y = _drop(y, dropout_p, dropout_seed)
    return y.to(dtype), x


def _drop(x: Tensor, dropout_p: float, dropout_seed: Seed) -> Tensor:
    """Shapes: x (..., d) -> (..., d)."""
    if dropout_p == 0.0:
        return x
    rows, columns = math.prod(x.shape[:-1]), x.shape[-1]
    mask = hidden_mask(rows, columns, dropout_p, dropout_seed, x.device)
    return x.masked_fill(~mask.view(x.shape), 0) * keep_scale(dropout_p)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    causal: bool,
    scale: float,
    dropout_p: float,
    dropout_seed: Seed,
) -> Tensor:
    """Shapes: q (T_q, H, D), k and v (T_k, H, D) -> (T_q, H, D)."""
    heads, width = q.shape[1:]
    side_q, side_k, blocks = lay_out(q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    places_q = [block.sequences * heads * block.places_q for block in blocks]
    places_k = [block.sequences * heads * block.places_k for block in blocks]
    padded_q, padded_k, padded_v = side_q.pad(q), side_k.pad(k), side_k.pad(v)  # (P, D)
    outs = []
    parts = zip(blocks, padded_q.split(places_q), padded_k.split(places_k), padded_v.split(places_k), strict=True)
    for block, *tensors in parts:
        shapes = (block.places_q, block.places_k, block.places_k)
        q_b, k_b, v_b = (
            x.to(accumulator(q.dtype)).view(block.sequences, heads, places, width)
            for x, places in zip(tensors, shapes, strict=True)
        )
        out = _attend(q_b, k_b, v_b, block, causal, scale, dropout_p, dropout_seed)  # (n, H, L_q, D)
        outs.append(out.to(q.dtype).view(-1, width))
    # With no block, the empty pads tie the (all zero) result to q, k and v, so that their gradients are zeros.
    return side_q.pack(torch.cat(outs or [padded_q, padded_k, padded_v]), heads)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, block: Block, causal: bool, scale: float, dropout_p: float, dropout_seed: Seed
) -> Tensor:
    """Shapes: q (n, H, L_q, D), k and v (n, H, L_k, D) -> (n, H, L_q, D)."""
    scores = q @ k.transpose(2, 3) * scale  # (n, H, L_q, L_k)
    visible = _visible(block, causal)
    dead = None
    if visible is not None:
        dead = ~visible.any(dim=-1, keepdim=True)  # rows that see no key: a uniform softmax, zeroed below
        bias = torch.zeros_like(visible, dtype=scores.dtype).masked_fill(~(visible | dead), -math.inf)
        scores = scores + bias[:, None]
    p = torch.softmax(scores, dim=-1)
    if dropout_p > 0:
        rows = block.starts_q[:, None] + torch.arange(block.places_q, device=q.device)  # (n, L_q)
        p = p.masked_fill(~keep_mask(rows, q.shape[1], block.places_k, dropout_p, dropout_seed), 0)
        v = v * keep_scale(dropout_p)
    out = p @ v
    return out if dead is None else out.masked_fill(dead[:, None], 0)


def _visible(block: Block, causal: bool) -> Tensor | None:
    """Which keys each query sees, (n, L_q, L_k) bool, or None for all. Causal aligns the last query to the last key."""
    if block.exact and not causal:
        return None
    key = torch.arange(block.places_k, device=block.starts_q.device)
    visible = (key < block.lengths_k[:, None, None]).expand(-1, block.places_q, -1)
    if not causal:
        return visible
    query = torch.arange(block.places_q, device=key.device)[:, None]
    return visible & (key <= query + (block.lengths_k - block.lengths_q)[:, None, None])


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Shapes: hidden (N, d), weight (V, d), bias (V,), targets (N,) -> loss per row (N,), hit (N,) bool.

    One chunk of logits exists at a time; where there are more, the backward makes each again.
    """
    options = (ignore_index, label_smoothing)
    if hidden.shape[0] <= ROWS_PER_CHUNK:
        return _head(hidden, weight, bias, targets, *options)
    chunks = [
        checkpoint(_head, h, weight, bias, t, *options, use_reentrant=False, preserve_rng_state=False)
        for h, t in zip(hidden.split(ROWS_PER_CHUNK), targets.split(ROWS_PER_CHUNK), strict=True)
    ]
    losses, hits = zip(*chunks, strict=True)
    return torch.cat(losses), torch.cat(hits)


def _head(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    logits = F.linear(hidden, weight, bias)  # (n, V)
    logits = logits.to(accumulator(logits.dtype))
    hit = (logits.detach().argmax(dim=1) == targets) & (targets != ignore_index)
    return cross_entropy(logits, targets, ignore_index, label_smoothing), hit


def adam(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    grad_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The new param, exp_avg and exp_avg_sq; all of one shape but step (), which counts this step, too."""
    p, g, m, v = (x.to(accumulator(param.dtype)) for x in (param, grad, exp_avg, exp_avg_sq))
    t = float(step)
    g = g / grad_scale
    if decoupled_weight_decay:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g.square()
    p = p - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
    return p.to(param.dtype), m.to(param.dtype), v.to(param.dtype)


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Shapes: any -> (); of the tensors' dtype."""
    return torch.nn.utils.get_total_norm(tensors)
