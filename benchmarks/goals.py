"""The ratios that the CPU kernels are held to, each computed from results of one run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

Result = dict[str, Any]


class Results:
    """Results by group and name."""

    def __init__(self, results: Iterable[Result]) -> None:
        self.groups: dict[str, dict[str, Result]] = {}
        for result in results:
            self.groups.setdefault(result["group"], {})[result["name"]] = result

    def rate(self, group: str, name: str) -> float:
        """Real tokens a second."""
        return float(self.groups[group][name]["real_tokens_per_second"])

    def seconds(self, group: str, name: str) -> float:
        """The median."""
        return float(self.groups[group][name]["seconds"])


class Goal(NamedTuple):
    """A ratio that shall be at least ``least``, or at most ``most``."""

    what: str
    ratio: Callable[[Results], float]
    least: float | None = None
    most: float | None = None


def _step(case: str, theirs: str, ours: str = "fastlm") -> Callable[[Results], float]:
    group = f"training step {case}"
    return lambda r: r.rate(group, ours) / r.rate(group, theirs)


def _best_peer(case: str) -> Callable[[Results], float]:
    group = f"training step {case}"
    return lambda r: r.rate(group, "fastlm") / max(r.rate(group, n) for n in r.groups[group] if "hugging" in n)


def _encoder_goals() -> Iterator[Goal]:
    for dtype, of_products, longest in (("bf16", 0.75, 6.0), ("fp32", 0.85, 5.0)):
        case = f"encoder-sentences {dtype}"
        yield Goal(f"encoder step {dtype} / its products", _step(case, "products"), of_products)
        whole = _step(case, "products_256", "fastlm_256")
        yield Goal(f"encoder step {dtype}, 256 sentences / its products", whole, of_products)
        yield Goal(f"encoder step {dtype} / BERT padded to the longest", _step(case, "hugging_face_longest"), longest)
        yield Goal(f"encoder step {dtype} / the best BERT", _best_peer(case), 2.0)


def _decoder_goals() -> Iterator[Goal]:
    sentences, dense = "decoder-sentences bf16", "decoder-dense_256 bf16"
    yield Goal("decoder step bf16, sentences / its products", _step(sentences, "products"), 0.75)
    yield Goal("decoder step bf16, sentences / GPT-2 padded", _step(sentences, "hugging_face_longest"), 6.0)
    yield Goal("decoder step bf16, dense 256 / its products", _step(dense, "products_256", "fastlm_256"), 0.85)
    compiled = _step(dense, "hugging_face_grouped_compiled", "fastlm_256")
    yield Goal("decoder step bf16, dense 256 / GPT-2 compiled", compiled, 1.0)


def _times(group: str, one: str, other: str) -> Callable[[Results], float]:
    return lambda r: r.seconds(group, one) / r.seconds(group, other)


def _attention_goals() -> Iterator[Goal]:
    for dtype, dense_goal in (("fp32", 1.0), ("bf16", 1.5)):
        sentences, dense = (f"attention {c} {dtype} forward+backward" for c in ("sentences_d64", "dense_256_d64"))
        yield Goal(f"attention {dtype}, sentences / SDPA in a loop", _times(sentences, "sdpa_looped", "full"), 4.0)
        yield Goal(f"attention {dtype}, dense 256 / SDPA", _times(dense, "sdpa_padded", "full"), dense_goal)
        yield Goal(f"attention {dtype}, dense 256: time causal / full", _times(dense, "causal", "full"), most=0.6)
        yield Goal(f"attention {dtype}, dense 256: time dropout / none", _times(dense, "dropout", "full"), most=1.2)
        yield Goal(f"attention {dtype}, sentences: time dropout / none", _times(sentences, "dropout", "full"), most=1.2)


def _head_goals() -> Iterator[Goal]:
    shapes = ("masked_rows", "masked_rows_5k", "masked_rows_52k", "all_rows", "peak_rows")
    for dtype, rows in itertools.product(("float32", "bfloat16"), shapes):
        group = f"linear_cross_entropy {rows} {dtype} forward+backward"
        ratio = _times(group, "native", "three_products")
        yield Goal(f"linear cross-entropy {dtype}, {rows}: time / its products", ratio, most=1.25)
    peak = "linear_cross_entropy peak_rows bfloat16 forward+backward"
    memory: Callable[[Results], float] = lambda r: r.groups[peak]["native"]["peak_extra_bytes"] / 1e6  # noqa: E731
    yield Goal("linear cross-entropy, 16,384 x 30,000: MB at peak", memory, most=256)


def _row_goals() -> Iterator[Goal]:
    shapes = {"softmax": ("attention_rows", "30k"), "cross_entropy": ("5k", "30k", "52k")}
    for op, dtype, way in itertools.product(shapes, ("fp32", "bf16"), ("forward", "backward")):
        for shape in shapes[op]:
            group = f"{op} {shape} {dtype} {way}"
            yield Goal(f"{group}: time / a copy", _times(group, "native", "copy"), most=1.15)


def _scaling_goals() -> Iterator[Goal]:
    def rates(dtype: str, one: str, other: str) -> Callable[[Results], float]:
        group = f"encoder step by size and threads {dtype}"
        return lambda r: r.rate(group, f"{one}-{dtype}-fastlm") / r.rate(group, f"{other}-{dtype}-fastlm")

    for tokens in ("1k", "16k", "64k"):
        ratio = rates("bf16", f"{tokens}-2_threads", "4k-2_threads")
        yield Goal(f"encoder step bf16, {tokens} / 4k tokens a step", ratio, 0.95)
    for dtype in ("bf16", "fp32"):
        yield Goal(f"encoder step {dtype}, two threads / one", rates(dtype, "4k-2_threads", "4k-1_threads"), 1.85)


GOALS = [
    *_encoder_goals(),
    *_decoder_goals(),
    *_attention_goals(),
    *_head_goals(),
    *_row_goals(),
    *_scaling_goals(),
]


def goals_table(results: Results) -> str:
    """Each ratio beside its goal; those whose benchmarks did not run are left out."""
    lines = ["| ratio | measured | goal | |", "|---|---|---|---|"]
    for goal in GOALS:
        try:
            value = goal.ratio(results)
        except KeyError:
            continue
        if goal.least is not None:
            met, bound = value >= goal.least, f"at least {goal.least:g}"
        else:
            met, bound = value <= (goal.most or 0.0), f"at most {goal.most:g}"
        lines.append(f"| {goal.what} | {value:.2f} | {bound} | {'met' if met else 'missed'} |")
    return "\n".join(lines)
