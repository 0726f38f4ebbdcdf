"""adam_ and total_norm against fp64 and PyTorch: many tensors at once, each in its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastlm import ops
from fastlm.testing import assert_within_budget, normal

# By path: chunks have 4096 elements, vectors 4 to 16, a pass is 4 vectors.
SHAPES: dict[str, tuple[int, ...]] = {
    "empty": (0, 7),
    "scalar": (),
    "below_a_vector": (3,),
    "odd": (7, 29),
    "one_chunk": (64, 64),
    "chunk_plus_one": (4097,),
    "again_empty": (0,),
    "several_chunks": (173, 101),
    "after_a_large_one": (5,),
}
LR = 1e-2
KEYS = ("params", "exp_avgs", "exp_avg_sqs")

State = dict[str, list[Tensor]]
needs_native = pytest.mark.native("adam")
by_kernels = pytest.mark.parametrize("family", ["native", "triton"], indirect=True)


def start(dtype: torch.dtype = torch.float32) -> State:
    generator = torch.Generator().manual_seed(1)
    params = [normal(shape, generator).to(dtype) for shape in SHAPES.values()]
    zeros = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    return {"params": params, "exp_avgs": zeros[0], "exp_avg_sqs": zeros[1], "steps": [torch.zeros(()) for _ in params]}


def gradients(seed: int) -> list[Tensor]:
    """Of magnitudes from 1e-6 to 1e3, as layers have them."""
    generator = torch.Generator().manual_seed(seed)
    return [normal(s, generator) * 10.0 ** (i % 10 - 6) for i, s in enumerate(SHAPES.values())]


def step(state: State, grads: list[Tensor], **options: Any) -> None:
    ops.adam_(state["params"], grads, state["exp_avgs"], state["exp_avg_sqs"], state["steps"], lr=LR, **options)


def torch_steps(dtype: torch.dtype, factors: list[float], decay: float, decoupled: bool) -> State:
    """The same steps by torch.optim, a tensor at a time."""
    state = start(dtype)
    leaves = [torch.nn.Parameter(p) for p in state["params"]]
    options: dict[str, Any] = {"weight_decay": decay, "foreach": False}
    optimizer = (torch.optim.AdamW if decoupled else torch.optim.Adam)(leaves, lr=LR, **options)
    for seed, factor in enumerate(factors):
        for leaf, grad in zip(leaves, gradients(seed), strict=True):
            leaf.grad = grad.to(dtype) * factor
        optimizer.step()
    states = [optimizer.state[leaf] for leaf in leaves]
    return {
        "params": [leaf.detach() for leaf in leaves],
        "exp_avgs": [s["exp_avg"] for s in states],
        "exp_avg_sqs": [s["exp_avg_sq"] for s in states],
        "steps": [s["step"] for s in states],
    }


@pytest.mark.parametrize("factors", [[1.0], [1.0, 1.0, 1.0, 1.0], [0.25, 1.0, 1e-3]], ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("decoupled", [False, True], ids=["l2", "decoupled"])
def test_within_budget(family: str, decoupled: bool, decay: float, factors: list[float]) -> None:
    ours = start()
    for seed, factor in enumerate(factors):
        options = {"weight_decay": decay, "decoupled_weight_decay": decoupled, "backend": family}
        step(ours, gradients(seed), grad_scale=1 / factor, **options)
    theirs, exact = (torch_steps(dtype, factors, decay, decoupled) for dtype in (torch.float32, torch.float64))
    for key in KEYS:
        for name, a, b, c in zip(SHAPES, ours[key], theirs[key], exact[key], strict=True):
            assert_within_budget(a, b, c, f"{key} {name}")
    assert [float(s) for s in ours["steps"]] == [len(factors)] * len(SHAPES)


def test_other_betas_and_eps(family: str) -> None:
    """Where nothing is near its default, no constant can stand for another."""
    ours, leaf = start(), torch.nn.Parameter(start()["params"][3].double())
    optimizer = torch.optim.AdamW([leaf], lr=LR, betas=(0.6, 0.7), eps=0.3, weight_decay=0.5, foreach=False)
    for seed in range(3):
        options = {"betas": (0.6, 0.7), "eps": 0.3, "weight_decay": 0.5, "decoupled_weight_decay": True}
        step(ours, gradients(seed), backend=family, **options)
        leaf.grad = gradients(seed)[3].double()
        optimizer.step()
    torch.testing.assert_close(ours["params"][3].double(), leaf.detach(), rtol=1e-6, atol=1e-6)


def test_gradients_are_only_read_and_every_tensor_has_its_own_count(family: str) -> None:
    state, grads = start(), gradients(0)
    kept = [g.clone() for g in grads]
    state["steps"][3] += 9  # this one had nine steps before
    step(state, grads, grad_scale=3.0, backend=family)
    assert all(torch.equal(a, b) for a, b in zip(grads, kept, strict=True))
    moved = [float((a - b).abs().max()) for a, b in zip(state["params"], start()["params"], strict=True) if a.numel()]
    assert moved[1] == pytest.approx(LR, rel=1e-3)  # a first step moves by the rate,
    # the tenth with zero means by this much of it
    assert moved[2] == pytest.approx(LR * (0.1 / (1 - 0.9**10)) / (0.001 / (1 - 0.999**10)) ** 0.5, rel=1e-3)


@needs_native
@pytest.mark.cpu_only("threads are a CPU's")
@pytest.mark.parametrize("kind", ["adam", "norm"])
def test_bits_do_not_depend_on_threads(kind: str) -> None:
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            state, grads = start(), [torch.cat([g.flatten()] * 40) for g in gradients(0)]  # enough for several
            state = {key: [torch.cat([x.flatten()] * 40) for x in state[key]] for key in KEYS} | {
                "steps": state["steps"]
            }
            if kind == "adam":
                step(state, grads, weight_decay=0.1, backend="native")
                results.append(torch.cat([x for key in KEYS for x in state[key]]))
            else:
                results.append(ops.total_norm(grads, backend="native"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


@by_kernels
def test_layouts(family: str) -> None:
    """Gradients of any strides; memory that begins anywhere; what is updated in place must be contiguous."""
    dense, grads = start(), gradients(0)
    step(dense, grads, backend=family)
    state = start()
    for key in KEYS:  # an element past the aligned address
        state[key] = [torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape) for x in state[key]]
    strided = [g.transpose(0, -1).contiguous().transpose(0, -1) if g.dim() else g for g in grads]
    assert not strided[3].is_contiguous()
    step(state, strided, backend=family)
    for key in KEYS:
        assert all(torch.equal(a, b) for a, b in zip(state[key], dense[key], strict=True))

    before = torch.randn(6, 4).t()
    param, zeros = before.clone(), [[torch.zeros(4, 6)] for _ in range(2)]
    assert not param.is_contiguous()
    with pytest.raises(ValueError, match=r"params\[0\] has strides \(1, 4\), and kernels update contiguous tensors"):
        ops.adam_([param], [before], *zeros, [torch.zeros(())], lr=LR, backend=family)
    assert torch.equal(param, before)
    ops.adam_([param], [before], *zeros, [torch.zeros(())], lr=LR)  # the reference takes it
    assert float((param - before).abs().max()) == pytest.approx(LR, rel=1e-3)


def test_what_is_not_finite_stays_in_its_place(family: str) -> None:
    state, grads = start(), gradients(0)
    grads[5][70], grads[3][0, 0] = torch.nan, torch.inf
    step(state, grads, backend=family)
    wrong = [int((~p.isfinite()).sum()) for p in state["params"]]
    assert wrong == [0, 0, 0, 1, 0, 1, 0, 0, 0]


def test_a_saved_parameter_is_known_to_have_changed(family: str) -> None:
    leaf = torch.nn.Parameter(torch.randn(5))
    loss = (leaf * leaf).sum()
    with torch.no_grad():
        zeros = [[torch.zeros(5)] for _ in range(2)]
        ops.adam_([leaf], [torch.ones(5)], *zeros, [torch.zeros(())], lr=LR, backend=family)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_nothing_to_do() -> None:
    ops.adam_([], [], [], [], [], lr=LR)
    assert float(ops.total_norm([])) == 0


REFUSED: dict[str, tuple[str, Any, type[Exception], str]] = {
    "fewer": ("grads", lambda x: x[:-1], ValueError, "grads: 8 tensors, but params has 9; pass one for each"),
    "shape": ("exp_avgs", lambda x: [*x[:2], x[3], *x[3:]], ValueError, r"exp_avgs\[2\]: shape \(7, 29\), but params"),
    "dtype": ("grads", lambda x: [x[0].half(), *x[1:]], TypeError, r"grads\[0\]: dtype torch.float16 differs from par"),
    "sparse": ("grads", lambda x: [*x[:3], x[3].to_sparse(), *x[4:]], TypeError, r"grads\[3\]: layout torch.sparse_c"),
    "device": ("exp_avg_sqs", lambda x: [x[0].to("meta"), *x[1:]], ValueError, r"exp_avg_sqs\[0\]: on meta, but"),
    "counter": ("steps", lambda x: [x[0].double(), *x[1:]], ValueError, r"steps\[0\]: torch.float64 \(\) is no coun"),
}


@pytest.mark.cpu_only("Python refuses before any device is asked")
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refusals(case: tuple[str, Any, type[Exception], str]) -> None:
    which, change, error, message = case
    lists = {**start(), "grads": gradients(0)}
    lists[which] = change(lists[which])
    with pytest.raises(error, match=message):
        step(lists, lists["grads"])
    assert not any(float(s) for s in lists["steps"])


# ---- total_norm ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_norm_within_budget(family: str, scale: float) -> None:
    tensors = [g * scale for g in gradients(0)]
    exact = torch.cat([t.flatten() for t in tensors]).double().norm()
    assert_within_budget(ops.total_norm(tensors, backend=family), torch.nn.utils.get_total_norm(tensors), exact, "norm")


@by_kernels
def test_norm_of_many_values_does_not_drift(family: str) -> None:
    """One fp32 accumulator a lane loses bits: torch's norm of as many is 7e-5 off, of 15 million 6e-4."""
    tensors = [torch.randn(1 << 22), torch.randn(1 << 20)]
    exact = sum(t.double().square().sum() for t in tensors).sqrt()
    assert float(ops.total_norm(tensors, backend=family)) == pytest.approx(float(exact), rel=2e-7)


@pytest.mark.parametrize(("value", "expected"), [(torch.nan, "nan"), (torch.inf, "inf"), (-torch.inf, "inf")])
@pytest.mark.parametrize("at", [0, 4096, 17_000])
def test_norm_tells_what_is_not_finite(family: str, at: int, value: float, expected: str) -> None:
    tensors = gradients(0)
    tensors[7].view(-1)[at] = value
    assert str(float(ops.total_norm(tensors, backend=family))) == expected


def test_norm_of_views_and_refusals(family: str) -> None:
    wide = torch.randn(6, 40)
    norm = ops.total_norm([wide[:, ::2], wide[:, 1::2]], backend=family)
    assert float(norm) == pytest.approx(float(wide.norm()), rel=1e-6)
    with pytest.raises(TypeError, match=r"tensors\[1\]: dtype torch.float16 differs from tensors\[0\]'s"):
        ops.total_norm([wide, wide.half()], backend=family)
    double = wide.double()
    torch.testing.assert_close(ops.total_norm([double]), double.norm())
    with pytest.raises(ValueError, match=r"backend 'native'"):
        ops.total_norm([double], backend="native")
