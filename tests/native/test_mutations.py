"""Bugs planted in the real CUDA kernels, one line each: lockstep or the result gives every one away."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.native.lockstep import COMPILER, LOCKSTEP, ROOT, compile_all, link_program, sources

DRIVERS = ["row_ops_test", "attention_test"]
# What compiles fastest: a mutant runs for milliseconds.
FLAGS = ["-O0"]


@dataclass(frozen=True)
class Mutation:
    """One line of a kernel changed, and what is then reported."""

    file: str  # below kernels/cuda
    old: str
    new: str
    report: str  # a regular expression; {file}:{line} stands for the changed line
    driver: str = "row_ops_test"


MUTATIONS = {
    "barrier_removed": Mutation(
        "common/team.cuh", "    barrier();\n", "\n", r"thread \d+, {file}:\d+: never written: reads shared bytes"
    ),
    "warp_barrier_for_a_barrier": Mutation(
        "common/team.cuh", "    barrier();\n", "    warp_barrier();\n", r"never written: reads shared bytes"
    ),
    "turns_not_taken": Mutation(
        "common/team.cuh", "turn_ ^= 1;", "", r"race: writes shared bytes \d+ to \d+, which thread \d+ read at {file}"
    ),
    "every_lane_writes_the_slot": Mutation(
        "common/team.cuh",
        "if (lane_index() == 0) store",
        "store",
        r"thread \d+, {file}:{line}: race: writes shared bytes 0 to 3, which thread \d+ wrote",
    ),
    "one_slot_for_two": Mutation(
        "common/team.cuh",
        "int64_t{2} * kWarps * 4",
        "int64_t{1} * kWarps * 4",
        r"team\.cuh:\d+: out of bounds: shared bytes 16 to 19 of 16",
    ),
    "lanes_beyond_the_warps": Mutation(
        "common/team.cuh",
        "load(slot + lane_index() % kWarps)",
        "load(slot + lane_index())",
        r"thread \d+, {file}:{line}: out of bounds: shared bytes \d+ to \d+ of 32",
    ),
    "half_the_lanes": Mutation("common/team.cuh", "int mask = kLanes / 2", "int mask = kLanes / 4", "wrong: softmax "),
    "row_behind_the_last": Mutation(
        "softmax.cuh",
        "if (row >= p.rows) return;\n    const Global<const T> x",
        "if (row > p.rows) return;\n    const Global<const T> x",
        r"SoftmaxForwardKernel.*: block \(1, 0\), thread 32, .*: out of bounds: reads 4 bytes at 1480 of x \(5 x 70 ",
    ),
    "row_off_by_one": Mutation(
        "softmax.cuh",
        "Global<T>(p.grad_x) + row * p.cols",
        "Global<T>(p.grad_x) + (row + 1) * p.cols",
        r"SoftmaxBackwardKernel.*: out of bounds: writes \d+ bytes at 1400 of grad \(5 x 70 ",
    ),
    "two_warps_a_row": Mutation(
        "softmax.cuh",
        "Global<T>(p.out) + row * p.cols",
        "Global<T>(p.out) + row / 2 * 2 * p.cols",
        r"row\.cuh:\d+: race: writes 16 bytes at \d+ of y \(5 x 70 ",
    ),
    "some_threads_leave": Mutation(
        "softmax.cuh",
        "    Team team;\n    dot",
        "    if (lane_index() > 20) return;\n    Team team;\n    dot",
        r"divergence: threads 0 to 20 wait in shuffle at .*; threads 21 to 31 have left the kernel",
    ),
    "vector_over_the_end": Mutation(
        "common/row.cuh",
        "if (i + kElements <= n && address(row + i) % 16 == 0) return load_vector",
        "if (address(row + i) % 16 == 0) return load_vector",
        r"thread 17, {file}:{line}: out of bounds, between its rows: reads 16 bytes at 272 of x ",
    ),
    "column_too_many": Mutation(
        "common/row.cuh",
        "if (i + e < n) store",
        "if (i + e <= n) store",
        r"{file}:{line}: race: writes 4 bytes at \d+ of y ",
    ),
    "alignment_not_asked": Mutation(
        "common/row.cuh",
        "if (i + kElements <= n && address(row + i) % 16 == 0) return store_vector",
        "if (i + kElements <= n) return store_vector",
        r"{file}:{line}: misaligned: writes 16 bytes at 280 of y ",
    ),
    "two_threads_write_the_loss": Mutation(
        "cross_entropy.cuh",
        "if (Team::rank() == 0) {",
        "if (Team::rank() < 2) {",
        r"{file}:\d+: race: writes 4 bytes at \d+ of row_loss .*, which thread \d+ wrote",
    ),
    "target_of_the_next_row": Mutation(
        "cross_entropy.cuh",
        "(targets.data) + row * targets.stride",
        "(targets.data) + (row + 1) * targets.stride",
        r"{file}:{line}: out of bounds: reads 8 bytes at 40 of targets",
    ),
    "gradient_over_the_logits": Mutation(
        "cross_entropy.cuh",
        "write(grad, i, share.n, out);",
        "write(Global<T>(p.logits) + row * p.row_stride, i, share.n, out);",
        r"CrossEntropyBackwardKernel.*: an input: writes 16 bytes at 0 of logits",
    ),
    "target_overwritten_while_it_is_read": Mutation(
        "logits_chunk.cuh",
        "      Team::order_memory();  // the logit of the target, which every thread has read, is overwritten\n",
        "",
        r"LogitsChunkKernel.*: race: writes 16 bytes at \d+ of logits",
    ),
    "every_thread_writes_the_target": Mutation(
        "logits_chunk.cuh",
        "if (share.owns(target))\n        store",
        "store",
        r"LogitsChunkKernel.*: race: writes 4 bytes at \d+ of logits",
    ),
    "bias_of_the_next_vector": Mutation(
        "logits_chunk.cuh",
        "load_vector<kWidth<T>>(bias + i)",
        "load_vector<kWidth<T>>(bias + (i + kWidth<T>))",
        r"LogitsChunkKernel.*: out of bounds: reads 16 bytes at 288 of bias",
    ),
    "column_behind_the_row_counted": Mutation(
        "logits_chunk.cuh",
        "if (!share.holds(i + e)) x[e] = -INFINITY;",
        "if (!share.holds(i + e)) x[e] = 0.0f;",
        r"wrong: (loss|gradient) of products",
    ),
    "what_is_before_the_target_forgotten": Mutation(
        "logits_chunk.cuh",
        "if (i + kWidth<T> <= target) before_target = mine.largest;",
        "if (i + kWidth<T> <= target) before_target = INFINITY;",
        r"wrong: accuracy \(1, 0\)",
    ),
    "norm_row_behind_the_last": Mutation(
        "layer_norm.cuh",
        "first + kNormSlice < p.rows ? first + kNormSlice : p.rows",
        "first + kNormSlice",
        r"LayerNormBackwardKernel.*: out of bounds: reads \d+ bytes at \d+ of (mean|rstd|x|residual)",
    ),
    "norm_sums_without_a_barrier": Mutation(
        "layer_norm.cuh",
        "      barrier();\n      for (int column = thread_index()",
        "      for (int column = thread_index()",
        r"LayerNormBackwardKernel.*: never written: reads shared bytes",
    ),
    "norm_sums_of_two_warps_together": Mutation(
        "layer_norm.cuh",
        "shared + (Team::row() * 2 * n + column)",
        "shared + (Team::row() / 2 * 2 * n + column)",
        r"LayerNormBackwardKernel.*: race: writes shared bytes",
    ),
    "norm_quads_exchanged": Mutation(
        "layer_norm.cuh",
        "return e / 4 * 16 + e % 4;",
        "return e / 4 * 4 + e % 4;",
        r"LayerNormForwardKernel.*: race: writes 16 bytes",
    ),
    "norm_counts_what_is_behind_the_row": Mutation(
        "layer_norm.cuh",
        "const float centred = i + Unit::column(e) < n ? x.x[e] - mean : 0.0f;",
        "const float centred = x.x[e] - mean;",
        r"wrong: norm \(0, 0\)",
    ),
    "norm_slices_added_too_early": Mutation(
        "layer_norm.cuh",
        "    barrier();\n    if (warp_index() != 0",
        "    if (warp_index() != 0",
        r"LayerNormSumsKernel.*: never written: reads shared bytes",
    ),
    "norm_gradient_without_the_sum's": Mutation(
        "layer_norm.cuh",
        "const float along_mean = team.reduce(along_sum, Add{})",
        "const float along_mean = 0.0f * team.reduce(along_sum, Add{})",
        r"wrong: norm's gradient",
    ),
    "copy_not_waited_for": Mutation(
        "attention_tile.cuh",
        "    wait_for_copies<0>();\n    barrier();",
        "    barrier();",
        r"unwaited copy: reads shared bytes .*, where the cp.async of thread \d+ at kernels/cuda/attention_tile",
        "attention_test",
    ),
    "copies_without_a_barrier": Mutation(
        "attention_tile.cuh",
        "    wait_for_copies<0>();\n    barrier();",
        "    wait_for_copies<0>();",
        r"common/tile\.cuh:\d+: unwaited copy: reads shared bytes",
        "attention_test",
    ),
    "tile_brought_while_it_is_read": Mutation(
        "attention_tile.cuh",
        "    barrier();  // nobody looks at this tile any more\n",
        "\n",
        r"race: writes shared bytes .*, which thread \d+ read at kernels/cuda/common/tile",
        "attention_test",
    ),
    "own_rows_overwritten_while_they_are_read": Mutation(
        "attention_tile.cuh",
        "  warp_barrier();\n}\n\n// Calls body",
        "}\n\n// Calls body",
        r"race: writes shared bytes .*, which thread \d+ read at kernels/cuda/common/tile",
        "attention_test",
    ),
    "spans_without_a_barrier": Mutation(
        "attention_forward.cuh",
        "    barrier();\n    const Span block",
        "    const Span block",
        r"attention_span\.cuh:\d+: never written: reads shared bytes",
        "attention_test",
    ),
    "sequence_of_the_row_before": Mutation(
        "attention_span.cuh",
        "load(cu_seqlens + probe) <= row",
        "load(cu_seqlens + probe) < row",
        r"wrong: out, row \d+, head 0",
        "attention_test",
    ),
    "chunk_that_begins_a_row_late": Mutation(
        "attention_tile.cuh",
        "  int row = begin < kRows - 16 * blocks",
        "  int row = begin + 1 < kRows - 16 * blocks ? begin + 1 : begin < kRows - 16 * blocks",
        r"wrong: out, row \d+, head 0",
        "attention_test",
    ),
    "chunk_beyond_the_tile": Mutation(
        "attention_tile.cuh",
        "begin < kRows - 16 * blocks ? begin : kRows - 16 * blocks;",
        "begin;",
        r"KeyGradientKernel.*attention_backward\.cuh:\d+: out of bounds: shared bytes",
        "attention_test",
    ),
    "delta_of_half_a_row": Mutation(
        "attention_backward.cuh",
        "      delta += shuffle_xor(delta, 1);\n",
        "",
        r"wrong: grad_q, row \d+, head 0",
        "attention_test",
    ),
    "numbers_of_rows_exchanged": Mutation(
        "attention_backward.cuh",
        "store_vector(numbers(thread_index() / 2), found)",
        "store_vector(numbers(thread_index() / 2 ^ 1), found)",
        r"wrong: grad_q, row \d+, head 0",
        "attention_test",
    ),
    "numbers_not_handed_on": Mutation(
        "attention_backward.cuh",
        "if (query < rows_q) store_vector(Global<float>(p.numbers)",
        "if (query < rows_q - 1) store_vector(Global<float>(p.numbers)",
        r"KeyGradientKernel.*: never written: reads 8 bytes at \d+ of numbers",
        "attention_test",
    ),
    "row_of_the_next_sentence": Mutation(
        "attention_tile.cuh",
        "static_cast<unsigned>(offset + 8 * n + e) < length",
        "static_cast<unsigned>(offset + 8 * n + e) <= length",
        r"wrong: out, row \d+, head 0",
        "attention_test",
    ),
    "gradient_of_a_score_without_delta": Mutation(
        "attention_backward.cuh",
        "weight = probability * (weight - known[1]);",
        "weight = probability * weight;",
        r"wrong: grad_k, row \d+, head 0",
        "attention_test",
    ),
    "row_behind_the_last_copied": Mutation(
        "attention_tile.cuh",
        "copies.begin(i, present && i < end)",
        "copies.begin(i, present && i <= end)",
        r"out of bounds: reads 16 bytes at 22400 of q \(175 x 2 x 32 ",
        "attention_test",
    ),
    "row_behind_the_last_stored": Mutation(
        "attention_tile.cuh",
        "first + i < rows && column < head_dim",
        "first + i <= rows && column < head_dim",
        r"out of bounds: writes 16 bytes at 22400 of out \(175 x 2 x 32 ",
        "attention_test",
    ),
    "rows_put_without_a_warp_barrier": Mutation(
        "attention_tile.cuh",
        "  warp_barrier();\n  const int row",
        "  const int row",
        r"race: writes shared bytes .*, which thread \d+ read at {file}:\d+ with no barrier",
        "attention_test",
    ),
    "fragments_exchanged": Mutation(
        "common/tile.cuh",
        "row + lane / 16 * 8 + lane % 8, column + lane / 8 % 2 * 8",
        "row + lane / 8 % 2 * 8 + lane % 8, column + lane / 16 * 8",
        r"wrong: out, row \d+, head 0",
        "attention_test",
    ),
    "fragments_of_values_exchanged": Mutation(
        "common/tile.cuh",
        "load_matrices<true>(right.words, tile.at(row + lane % 16, column + lane / 16 * 8))",
        "load_matrices<true>(right.words, tile.at(row + lane / 16 * 8 + lane % 8, column + lane / 8 % 2 * 8))",
        r"wrong: out, row \d+, head 0",
        "attention_test",
    ),
    "tiles_overlap": Mutation(
        "common/tile.cuh",
        "kTileRows} * kPitch * sizeof(T)",
        "kTileRows - 1} * kPitch * sizeof(T)",
        r"attention_tile\.cuh:\d+: race: writes shared bytes .*, which thread \d+ read at kernels/cuda/attention_span",
        "attention_test",
    ),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Path]]]:
    """The drivers with the kernels as they are, and with each mutation, built side by side while tests run."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"no C++ compiler ({COMPILER[0]}) to build the kernels with")
    folder = tmp_path_factory.mktemp("mutations")
    lockstep = compile_all(ROOT, sources(ROOT, *LOCKSTEP), folder, [])

    def build(name: str, driver: str, mutation: Mutation | None) -> Path:
        root = folder / name
        shutil.copytree(ROOT / "kernels", root / "kernels")
        if mutation is not None:
            path = root / "kernels" / "cuda" / mutation.file
            text = path.read_text()
            count = text.count(mutation.old)
            assert count == 1, f"{mutation.file} holds {mutation.old!r} {count} times"
            path.write_text(text.replace(mutation.old, mutation.new))
        objects = compile_all(root, [ROOT / "tests" / "native" / f"{driver}.cpp"], root, FLAGS)
        return link_program(root / driver, [*objects, *lockstep])

    jobs = [(driver, driver, None) for driver in DRIVERS]
    jobs += [(name, mutation.driver, mutation) for name, mutation in MUTATIONS.items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(build, name, driver, mutation) for name, driver, mutation in jobs}


def run(program: Future[Path]) -> str:
    return subprocess.run([str(program.result())], capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("driver", DRIVERS)
def test_unchanged_kernels_are_right(programs: dict[str, Future[Path]], driver: str) -> None:
    assert run(programs[driver]) == ""


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_is_found(programs: dict[str, Future[Path]], name: str) -> None:
    mutation = MUTATIONS[name]
    text = (ROOT / "kernels" / "cuda" / mutation.file).read_text()
    line = text[: text.index(mutation.old)].count("\n") + 1
    report = mutation.report.format(file=re.escape(f"kernels/cuda/{mutation.file}"), line=line)
    found = run(programs[name])
    assert re.search(report, found), found
