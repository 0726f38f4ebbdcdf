"""What must hold of every op on a GPU beside its values: ``python -m benchmarks.gpu.behaviour CHECK``.

graphs: a whole forward and backward captured once and replayed on new inputs. streams: two at once, and one that is not
the default. repeats: equal bits every time. offsets: tensors beyond 2**31 elements. sanitized: every case once, to be
run under compute-sanitizer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.cases import Case, available, run, same_bits
from benchmarks.gpu.records import Records
from fastlm import ops
from fastlm.ops import _backend
from fastlm.testing import assert_within_budget

REPEATS, ROUNDS = 100, 20
DELAY = 20_000_000  # cycles, 10 ms and more: whoever runs on another stream comes first
Capture = Callable[[Callable[[], list[Tensor]]], tuple[Callable[[], None], list[Tensor]]]


# ---- graphs --------------------------------------------------------------------------------------------------------
def captured(function: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
    """A function's work as a CUDA graph: its replay, and the results that every replay writes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph.replay, results


def graphs(case: Case, capture: Capture = captured) -> None:
    """A graph made with some inputs gives, with others in their place, what the ops give for these."""
    static = case.make(0)
    replay, results = capture(lambda: run(case, static))
    for seed in (1, 2):
        fresh = case.make(seed)
        expected = run(case, fresh)
        for place, values in zip(static, fresh, strict=True):
            place.copy_(values)
        for result in results:
            result.fill_(torch.nan)  # a replay that writes nothing shows
        replay()
        same_bits(results, expected)


# ---- streams -------------------------------------------------------------------------------------------------------
def streams(case: Case) -> None:
    """Two streams that run at the same time do not see each other; an op runs on the stream that is current."""
    inputs = [case.make(seed) for seed in (0, 1)]
    expected = [run(case, tensors) for tensors in inputs]
    side = [torch.cuda.Stream() for _ in inputs]
    torch.cuda.synchronize()
    results: list[tuple[int, list[Tensor]]] = []
    for _ in range(ROUNDS):
        for i, stream in enumerate(side):
            with torch.cuda.stream(stream):
                results.append((i, run(case, inputs[i])))
    torch.cuda.synchronize()
    for i, found in results:
        same_bits(found, expected[i])

    static = case.make(0)
    torch.cuda.synchronize()
    with torch.cuda.stream(side[0]):
        torch.cuda._sleep(DELAY)
        for place, values in zip(static, inputs[1], strict=True):
            place.copy_(values)
        found = run(case, static)  # on the default stream it would read what was there before
        side[0].synchronize()
    same_bits(found, expected[1])


# ---- repeats -------------------------------------------------------------------------------------------------------
def repeats(case: Case, count: int = REPEATS) -> None:
    """The same bits every time, whatever the memory of the results held."""
    tensors = case.make(0)
    first = run(case, tensors)
    for _ in range(count):
        for x in first:
            torch.full_like(x, torch.nan)  # freed at once: the next results may lie here
        same_bits(run(case, tensors), first)


# ---- offsets -------------------------------------------------------------------------------------------------------
def large_rows(device: str, rows: int, columns: int) -> Tensor:
    """bf16 logits of which the last rows lie beyond 32-bit offsets."""
    return torch.randn(rows, columns, dtype=torch.bfloat16, device=device)


def offsets_of_softmax(device: str = "cuda", rows: int = 66_000, columns: int = 33_000) -> None:
    """Forward and backward: the last rows are those of a call on them alone."""
    x = large_rows(device, rows, columns)
    last = x[-5:].clone().requires_grad_()
    y, expected = ops.softmax(x, backend="native"), ops.softmax(last, backend="native")
    same_bits([y[-5:]], [expected.detach()])
    assert_within_budget(y[-5:], torch.softmax(last, -1), torch.softmax(last.double(), -1))
    (grad,) = torch.autograd.grad(expected, last, last.detach())
    ours = torch.ops.fastlm.softmax_backward(x, y, 1.0)
    same_bits([ours[-5:]], [grad])


def offsets_of_cross_entropy(device: str = "cuda", rows: int = 66_000, columns: int = 33_000) -> None:
    """Forward and backward, as those of softmax."""
    x = large_rows(device, rows, columns)
    targets = torch.randint(columns, (rows,), device=device)
    options: dict[str, Any] = {"reduction": "none", "backend": "native"}
    results = []
    for logits, wanted in ((x, targets), (x[-5:].clone(), targets[-5:].clone())):
        leaf = logits.requires_grad_()
        loss = ops.cross_entropy(leaf, wanted, **options)
        results.append([loss.detach()[-5:], torch.autograd.grad(loss.sum(), leaf)[0][-5:]])
    same_bits(*results)
    exact = F.cross_entropy(x.detach()[-5:].double(), targets[-5:], reduction="none")
    peer = F.cross_entropy(x.detach()[-5:], targets[-5:], reduction="none")
    assert_within_budget(results[0][0], peer, exact)


def offsets_of_attention(device: str = "cuda", sentences: int = 66_000, length: int = 64, width: int = 64) -> None:
    """q, k and v in one tensor of which, as of every result, the last sentence lies beyond 32-bit offsets.

    The registered ops are called: autograd would need another tensor of that size for the gradient.
    """
    qkv = torch.randn(sentences * length, 3, 8, width, dtype=torch.bfloat16, device=device)
    starts = torch.arange(sentences + 1, device=device, dtype=torch.int32) * length
    options = (starts, starts, length, length, False, width**-0.5, 0.0, torch.tensor(0))
    q, k, v = qkv.unbind(1)
    out, lse = torch.ops.fastlm.attention_forward(q, k, v, *options)
    results = out, *torch.ops.fastlm.attention_backward(out, q, k, v, out, lse, *options)
    last = [x[-length:].transpose(0, 1) for x in (q, k, v, out)]
    peers, exact = (_attention_of(*(x.to(dtype) for x in last)) for dtype in (qkv.dtype, torch.float64))
    names = ("attention", "gradient of q", "gradient of k", "gradient of v")
    for name, ours, *others in zip(names, results, peers, exact, strict=True):
        assert_within_budget(ours[-length:].transpose(0, 1), *others, name)


def _attention_of(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> list[Tensor]:
    """PyTorch's of one sentence (H, L, D), with its gradients."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = F.scaled_dot_product_attention(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


OFFSETS = {
    "softmax": offsets_of_softmax,
    "cross_entropy": offsets_of_cross_entropy,
    "attention": offsets_of_attention,
}


# ---- the program ---------------------------------------------------------------------------------------------------
def sanitized(case: Case) -> None:
    """One call; what is wrong with it is the sanitizer's to say."""
    run(case, case.make(0))
    torch.cuda.synchronize()


CHECKS: dict[str, Callable[[Case], None]] = {
    "graphs": graphs,
    "streams": streams,
    "repeats": repeats,
    "sanitized": sanitized,
}


def check(name: str, records: Records, device: str = "cuda") -> int:
    """All cases, or all of OFFSETS, each for itself; how many failed."""
    if name == "offsets":
        found = [
            (op, partial(function, device), _backend.why_not(op, "native", device)) for op, function in OFFSETS.items()
        ]
    else:
        found = [(case.name, partial(CHECKS[name], case), reason) for case, reason in available(device)]
    for label, function, reason in found:
        if reason:
            records.add(label, skipped=reason)
        else:
            records.attempt(label, function)
    return records.failed


if __name__ == "__main__":
    raise SystemExit(min(check(sys.argv[1], Records()), 1))
