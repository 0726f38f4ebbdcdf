"""The work that has goals (report.py), timed beside its peers: ``python -m benchmarks.gpu.rows GROUP``.

Each result is first held to fp64. What is read and written is several times the L2, but for one small batch, whose
inputs a layer finds there too. One record a provider: seconds, and the bytes and flops that the work needs at least, of
which report.py makes its floor.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import steps
from benchmarks.conftest import table_lengths
from benchmarks.gpu import peers, records
from benchmarks.gpu.behaviour import captured
from benchmarks.gpu.records import Records
from benchmarks.gpu.timing import Call, Clock, gpu_clock
from fastlm import ops
from fastlm.testing import Deviation, assert_within_budget, check_against_fp64

HEADS, MEAN = 8, 25.0
IN_A_GRAPH = 20  # calls
IGNORED = -100
SEED = 0


@dataclass(frozen=True)
class Sizes:
    """How large the work is; the goals are for these."""

    tokens: int = 65_536
    dense: int = 256
    batch: int = 256  # sentences of one batch
    rows: int = 65_536
    masked: int = 9_830
    width: int = 512
    classes: int = 30_000
    model: steps.Size = field(default_factory=lambda: steps.RECORD)


@dataclass(frozen=True)
class Bench:
    """Where and how to time."""

    records: Records
    device: str = "cuda"
    clock: Clock = gpu_clock
    sizes: Sizes = Sizes()

    def row(
        self,
        work: str,
        op: str,
        make: Callable[[], Call],
        needs: dict[str, float],
        verify: Callable[[], list[Deviation]],
        calls: int = 1,
    ) -> bool:
        """Times fastlm's way of some work, unless its results are wrong; whether they were right.

        ``make`` gives what is timed, which does the work ``calls`` times.
        """
        picked = ops.explain()[op][self.device]["pick"]
        label = {"work": work, "provider": "fastlm", "backend": picked}

        def measured() -> dict[str, Any]:
            worst = max((d.error / d.budget if d.budget else 0.0 for d in verify()), default=0.0)
            timed = self.clock(make())
            each = {key: timed[key] / calls for key in ("seconds", "fastest", "slowest")}
            return {**needs, "of_error_budget": worst, **timed, **each}

        return self.records.attempt(f"{work}: fastlm", measured, **label)

    def peer(self, work: str, provider: str, make: Callable[[], Call]) -> None:
        """Times another way; one that is not installed says so."""
        try:
            call = make()
        except ImportError as error:
            self.records.add(f"{work}: {provider}", work=work, provider=provider, skipped=str(error))
            return
        except Exception as error:  # a peer's own limits
            self.records.add(f"{work}: {provider}", work=work, provider=provider, error=f"{error}"[:300], peer=True)
            return
        self.records.attempt(f"{work}: {provider}", lambda: self.clock(call), work=work, provider=provider, peer=True)


def backward_of(function: Callable[..., Tensor], inputs: list[Tensor]) -> Call:
    """A call that runs the backward of ``function`` alone, as often as wanted."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    grad = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)


def forward_of(function: Callable[..., Tensor], inputs: list[Tensor]) -> Call:
    """A call that runs it without a gradient to come."""

    def call() -> Tensor:
        with torch.no_grad():
            return function(*inputs)

    return call


DIRECTIONS = {"forward": forward_of, "backward": backward_of}


# ---- attention -----------------------------------------------------------------------------------------------------
def sentence_lengths(tokens: int) -> list[int]:
    """Of sentences of 25 tokens on average, shuffled; the last is cut so that they have so many together."""
    shape = table_lengths(max(2, round(tokens / MEAN)))
    scaled = torch.tensor(shape * (MEAN / shape.mean())).round().long().clamp(1, steps.LONGEST)
    order = torch.randperm(len(scaled), generator=torch.Generator().manual_seed(SEED))
    ends = scaled[order].cumsum(0).clamp(max=tokens).tolist()
    lengths = [b - a for a, b in itertools.pairwise([0, *ends])]
    return [*filter(None, lengths), *([tokens - ends[-1]] if ends[-1] < tokens else [])]


def attention_needs(lengths: list[int], width: int) -> dict[str, dict[str, float]]:
    """q, k, v read and out written; and in the backward q, k, v, out and its gradient read, three written (bf16)."""
    tensor = 2.0 * sum(lengths) * HEADS * width
    products = 2.0 * sum(length**2 for length in lengths) * HEADS * width  # of one of two in the forward, of five after
    return {
        "forward": {"bytes": 4 * tensor, "flops": 2 * products},
        "backward": {"bytes": 8 * tensor, "flops": 5 * products},
    }


def per_sentence(lengths: list[int], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's attention of one sentence after the other, (T, H, D)."""
    parts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
    rows = [F.scaled_dot_product_attention(*(x.transpose(0, 1)[None] for x in part))[0] for part in parts]
    return torch.cat([x.transpose(0, 1) for x in rows])


def verify_attention(
    ours: Callable[..., Tensor], inputs: list[Tensor], lengths: list[int], checked: int = 20
) -> list[Deviation]:
    """The first and last sentences of a call on all, with their gradients."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = ours(*leaves)
    grad = torch.randn_like(out)
    results = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    first, last, found = lengths[:checked], lengths[-checked:], []
    for part, rows in ((first, slice(0, sum(first))), (last, slice(len(out) - sum(last), len(out)))):
        tensors = [x.detach()[rows] for x in (*inputs, grad)]
        peer, exact = (_with_gradients(part, [x.to(t) for x in tensors]) for t in (out.dtype, torch.float64))
        mine = [x[rows] for x in results]
        names = ("attention", "gradient of q", "gradient of k", "gradient of v")
        found += [assert_within_budget(*three, n) for n, *three in zip(names, mine, peer, exact, strict=True)]
    return found


def _with_gradients(lengths: list[int], tensors: list[Tensor]) -> list[Tensor]:
    *inputs, grad = tensors
    leaves = [x.requires_grad_() for x in inputs]
    out = per_sentence(lengths, *leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def attention(bench: Bench) -> None:
    """Sentences and dense blocks, then one batch inside a graph."""
    tokens, dense = bench.sizes.tokens, bench.sizes.dense
    batches = {"sentences": sentence_lengths(tokens), f"dense {dense}": [dense] * (tokens // dense)}
    _attention_batch(bench)
    for (kind, lengths), width in itertools.product(batches.items(), (64, 96)):
        _attention_rows(bench, f"attention {kind} d{width}", lengths, width)
    _attention_compiled(bench, batches["sentences"])


def _packed(bench: Bench, lengths: list[int], width: int) -> tuple[list[Tensor], Tensor]:
    qkv = torch.randn(sum(lengths), 3, HEADS, width, device=bench.device).to(torch.bfloat16)
    starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=bench.device)
    return list(qkv.unbind(1)), starts


def _attention_rows(bench: Bench, work: str, lengths: list[int], width: int) -> None:
    inputs, starts = _packed(bench, lengths, width)
    longest, needs = max(lengths), attention_needs(lengths, width)

    def ours(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        return ops.attention(q, k, v, starts, max_seqlen_q=longest, **options)

    for direction, of in DIRECTIONS.items():
        name = f"{work} {direction}"
        verify = partial(verify_attention, ours, inputs, lengths) if direction == "forward" else list
        if not bench.row(name, "attention", partial(of, ours, inputs), needs[direction], verify):
            return
        for provider, make in peers.attention(lengths, starts, longest).items():
            bench.peer(name, provider, lambda make=make, of=of: of(*make(inputs)))


def _attention_compiled(bench: Bench, lengths: list[int], width: int = 64) -> None:
    """The reference under torch.compile, last and for one shape: compiling takes longer than all else."""
    inputs, starts = _packed(bench, lengths, width)
    for direction, of in DIRECTIONS.items():
        work = f"attention sentences d{width} {direction}"
        bench.peer(work, "compiled reference", lambda of=of: of(peers.compiled_attention(starts, max(lengths)), inputs))


def _attention_batch(bench: Bench) -> None:
    """One batch of 256 sentences, several times in one CUDA graph: what a launch costs there is in it.

    The registered ops are called: a graph of autograd's backward would have to hold its forward.
    """
    lengths = sentence_lengths(round(bench.sizes.batch * MEAN))
    inputs, starts = _packed(bench, lengths, 64)
    longest, width = max(lengths), inputs[0].shape[-1]
    options = (starts, starts, longest, longest, False, width**-0.5, 0.0, torch.tensor(0))

    def forward() -> tuple[Tensor, Tensor]:
        results: tuple[Tensor, Tensor] = torch.ops.fastlm.attention_forward(*inputs, *options)
        return results

    def backward() -> Call:
        results = forward()
        grad = torch.randn_like(results[0])
        return lambda: torch.ops.fastlm.attention_backward(grad, *inputs, *results, *options)

    needs = attention_needs(lengths, width)
    for direction, make in (("forward", lambda: forward), ("backward", backward)):
        graph = partial(_in_graph, make, bench.device)
        bench.row(f"attention one batch in a graph {direction}", "attention", graph, needs[direction], list, IN_A_GRAPH)


def _in_graph(make: Callable[[], Call], device: str) -> Call:
    """Several calls in a CUDA graph, on a CPU one after the other."""
    call = make()

    def calls() -> list[Any]:
        return [call() for _ in range(IN_A_GRAPH)]

    if device == "cpu":
        return lambda: calls()
    replay, _ = captured(calls)
    return lambda: replay()


# ---- softmax and cross-entropy -------------------------------------------------------------------------------------
def _logits(bench: Bench, rows: int) -> Tensor:
    return torch.randn(rows, bench.sizes.classes, device=bench.device, dtype=torch.bfloat16) * 3


def _some_rows(x: Tensor) -> Tensor:
    """The first, some between and the last."""
    return torch.linspace(0, len(x) - 1, 7, device=x.device).long().unique()


def softmax(bench: Bench) -> None:
    """Whole rows of logits, forward and backward."""
    x = _logits(bench, bench.sizes.rows)
    tensor = float(x.numel() * x.element_size())

    def verify() -> list[Deviation]:
        leaf, rows = x.detach().requires_grad_(), _some_rows(x)
        y = ops.softmax(leaf)
        (grad,) = torch.autograd.grad(y, leaf, leaf.detach())
        found = []
        for ours, of in ((y, 0), (grad, 1)):
            peer, exact = (_softmax_of(x.detach()[rows].to(t))[of] for t in (x.dtype, torch.float64))
            found.append(assert_within_budget(ours[rows], peer, exact, ("softmax", "gradient of x")[of]))
        return found

    for direction, of in DIRECTIONS.items():
        work = f"softmax {direction}"
        needs = {"bytes": tensor * (2 if direction == "forward" else 3), "flops": 0.0}
        check = verify if of is forward_of else list
        if not bench.row(work, "softmax", partial(of, ops.softmax, [x]), needs, check):
            return
        for provider, make in peers.softmax(bench.device).items():
            bench.peer(work, provider, lambda make=make, of=of: of(make(), [x]))


def _softmax_of(x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.requires_grad_()
    y = torch.softmax(leaf, -1)
    return y.detach(), torch.autograd.grad(y, leaf, leaf.detach())[0]


def training_call(loss: Callable[..., Tensor], inputs: list[Tensor]) -> Call:
    """Forward and backward by all inputs."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    return lambda: torch.autograd.grad(loss(*leaves), leaves)


def cross_entropy(bench: Bench) -> None:
    """Loss and gradient of the masked rows. The floor is that of one pass in place: one read, one write."""
    x = _logits(bench, bench.sizes.masked)
    targets = torch.randint(x.shape[1], x.shape[:1], device=bench.device)
    needs = {"bytes": 2.0 * x.numel() * x.element_size(), "flops": 0.0}

    def ours(x: Tensor) -> Tensor:
        return ops.cross_entropy(x, targets)

    def verify() -> list[Deviation]:
        rows = _some_rows(x)
        leaf = x.detach().requires_grad_()
        loss = ops.cross_entropy(leaf, targets, reduction="none")
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        results = []
        for dtype in (x.dtype, torch.float64):
            part = x.detach()[rows].to(dtype).requires_grad_()
            peer = F.cross_entropy(part, targets[rows], reduction="none")
            results.append((peer.detach(), torch.autograd.grad(peer.sum(), part)[0]))
        (peer, peer_grad), (exact, exact_grad) = results
        return [
            assert_within_budget(loss.detach()[rows], peer, exact, "loss"),
            assert_within_budget(grad[rows], peer_grad, exact_grad, "gradient of logits"),
        ]

    work = "cross-entropy, loss and gradient"
    if bench.row(work, "cross_entropy", lambda: training_call(ours, [x]), needs, verify):
        for provider, make in peers.cross_entropy(targets).items():
            bench.peer(work, provider, lambda make=make: training_call(make(), [x]))


def linear_cross_entropy(bench: Bench) -> None:
    """Head and loss of the masked rows among all, forward and backward: three products.

    The rows are gathered first, as the models and every peer here do; "rows not given" leaves them to the op, which on
    a GPU multiplies all, since their number is not known to the host.
    """
    sizes = bench.sizes
    hidden = torch.randn(sizes.rows, sizes.width, device=bench.device).to(torch.bfloat16)
    weight = (torch.randn(sizes.classes, sizes.width, device=bench.device) / sizes.width**0.5).to(torch.bfloat16)
    rows = torch.randperm(sizes.rows, device=bench.device)[: sizes.masked].sort().values
    targets = torch.full((sizes.rows,), IGNORED, device=bench.device)
    targets[rows] = torch.randint(sizes.classes, rows.shape, device=bench.device)
    product = 2.0 * sizes.masked * sizes.width * sizes.classes
    needs = {"bytes": 4.0 * weight.numel() + 4.0 * sizes.masked * sizes.width, "flops": 3 * product}

    wanted = targets[rows]

    def ours(h: Tensor, w: Tensor) -> Tensor:
        return ops.linear_cross_entropy(h.index_select(0, rows), w, wanted).loss

    def gathered(h: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(
            F.linear(h.index_select(0, rows), w).float()
            if h.dtype != torch.float64
            else F.linear(h.index_select(0, rows), w),
            wanted,
        )

    work = "masked linear cross-entropy, forward and backward"
    verify = partial(check_against_fp64, ours, gathered, [hidden, weight], names="loss hidden weight")
    if bench.row(work, "linear_cross_entropy", lambda: training_call(ours, [hidden, weight]), needs, verify):
        for provider, make in peers.linear_cross_entropy(rows, targets).items():
            bench.peer(work, provider, lambda make=make: training_call(make(), [hidden, weight]))


# ---- LayerNorm -----------------------------------------------------------------------------------------------------
def layer_norm(bench: Bench) -> None:
    """The residual sum that a norm closes, with dropout, an fp32 residual beside a bf16 branch."""
    sizes, p = bench.sizes, 0.1
    residual, branch = (torch.randn(sizes.rows, sizes.width, device=bench.device) for _ in range(2))
    vectors = [torch.randn(sizes.width, device=bench.device) for _ in range(2)]
    inputs = [branch.to(torch.bfloat16), residual, *vectors]

    def ours(*tensors: Tensor, backend: str | None = None) -> tuple[Tensor, ...]:
        options: dict[str, Any] = {"dropout_p": p, "dropout_seed": SEED, "dtype": torch.bfloat16, "backend": backend}
        return ops.dropout_add_layer_norm(*tensors, **options)

    def undropped(backend: str | None) -> Callable[..., Tensor]:
        return lambda b, r, w, c: torch.cat(ops.dropout_add_layer_norm(b, r, w, c, backend=backend), dim=-1)

    few = [x[:99] if x.dim() == 2 else x for x in (branch, residual, *vectors)]
    verify = partial(check_against_fp64, undropped(None), undropped("reference"), few, names="y,x b r weight bias")
    # Branch, residual, sum and norm; gradients of norm and sum, the sum, gradients of branch and residual.
    each = {"forward": 2.0 + 4 + 4 + 2, "backward": 2.0 + 4 + 4 + 2 + 4}  # bytes
    for direction, count in each.items():
        work = f"dropout, sum and norm, {direction}"
        needs = {"bytes": count * residual.numel(), "flops": 0.0}
        timed = partial(_of_pair, direction, inputs=inputs)
        if not bench.row(work, "layer_norm", partial(timed, ours), needs, verify if direction == "forward" else list):
            return
        for provider, make in peers.layer_norm(ours, p, bench.device).items():
            bench.peer(work, provider, lambda make=make, timed=timed: timed(make()))


def _of_pair(direction: str, function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor]) -> Call:
    """A call of one direction of a function with several results."""
    if direction == "forward":
        return lambda: function(*inputs)
    leaves = [x.detach().requires_grad_() for x in inputs]
    results = function(*leaves)
    grads = [torch.randn_like(x) for x in results]
    return lambda: torch.autograd.grad(results, leaves, grads, retain_graph=True)


# ---- a training step -----------------------------------------------------------------------------------------------
def step(bench: Bench) -> None:
    """The whole step of both models, at many tokens; then at one batch of sentences, beside Hugging Face's models.

    Its floor: six flops a token and parameter, the head's at the targets alone.
    """
    sizes = bench.sizes
    for compiled, kind in itertools.product((False, True), ("encoder", "decoder")):
        if compiled and os.environ.get(records.QUICK):
            continue
        _step(bench, kind, f"{kind} step, {sizes.tokens:,} tokens", sentence_lengths(sizes.tokens), compiled)
    lengths = sentence_lengths(round(sizes.batch * MEAN))
    for kind in ("encoder", "decoder"):
        work = f"one batch, {kind} step, {sum(lengths):,} tokens"
        _step(bench, kind, work, lengths, compiled=False)
        batch = steps.make_batch(lengths, kind, sizes.model.vocab_size)
        for provider, make in peers.step(sizes.model, kind, batch, bench.device).items():
            bench.peer(work, provider, make)


def _step(bench: Bench, kind: str, work: str, lengths: list[int], compiled: bool) -> None:
    size, batch = bench.sizes.model, steps.make_batch(lengths, kind, bench.sizes.model.vocab_size)
    weights = size.layers * (4 * size.d_model**2 + 2 * size.d_model * size.ff)
    head = len(batch.targets) * size.d_model * size.vocab_size
    needs = {"bytes": 0.0, "flops": 6.0 * (weights * len(batch.tokens) + head)}
    provider = "fastlm compiled" if compiled else "fastlm"

    def measured() -> dict[str, Any]:
        on_device = batch.to(torch.device(bench.device))
        run = steps.fastlm_step(size, kind, [on_device], torch.bfloat16, bench.device, compiled)
        assert run().isfinite()
        seconds = bench.clock(run)
        return {**needs, **seconds, "tokens_per_second": len(batch.tokens) / seconds["seconds"]}

    bench.records.attempt(f"{work}: {provider}", measured, work=work, provider=provider)


# ---- what this card can do -----------------------------------------------------------------------------------------
def limits(bench: Bench, copied: int = 1 << 31, side: int = 8192) -> None:
    """A large copy and a large product on random data: the rates that floors are taken of."""
    source = torch.randn(copied // 2, device=bench.device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    a, b = (torch.randn(side, side, device=bench.device).to(torch.bfloat16) for _ in range(2))
    rates: Iterator[tuple[str, Call, float]] = iter(
        [("copy", lambda: target.copy_(source), 2.0 * copied), ("product", lambda: a @ b, 2.0 * side**3)]
    )
    for name, call, work in rates:

        def measured(call: Call = call, work: float = work) -> dict[str, float]:
            found = bench.clock(call)
            return found | {"rate": work / found["seconds"]}

        bench.records.attempt(name, measured)


GROUPS: dict[str, Callable[[Bench], None]] = {
    "limits": limits,
    "attention": attention,
    "softmax": softmax,
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": linear_cross_entropy,
    "layer_norm": layer_norm,
    "step": step,
}


def main() -> int:
    records = Records()
    torch.manual_seed(SEED)
    name = sys.argv[1]
    records.attempt(name, lambda: GROUPS[name](Bench(records)))
    return min(records.failed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
