"""Lockstep reports what it has to, and its words compute what a GPU's do (lockstep_test.cpp)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.native.lockstep import COMPILER, LOCKSTEP, ROOT, compile_all, link_program, sources

SOURCE = Path("tests/native/lockstep_test.cpp")

# Planted bug -> the thread of block (0, 0) that meets it, and what it says. Kernels are named like their case.
FAULTS = {
    "read_after_write": (32, r"race: reads shared bytes 0 to 3, which thread 0 wrote at {file}:\d+ with no barrier"),
    "write_after_read": (31, r"race: writes shared bytes 124 to 127, which thread 63 read at {file}:\d+ with no"),
    "write_after_write": (32, r"race: writes shared bytes 0 to 3, which thread 0 wrote at {file}:\d+ with no barrier"),
    "half_of_a_word": (32, r"race: writes shared bytes 126 to 127, which thread 31 wrote"),
    "no_warp_barrier": (1, r"race: reads shared bytes 0 to 3, which thread 0 wrote"),
    "shuffle_for_a_barrier": (31, r"race: reads shared bytes 120 to 123, which thread 30 wrote"),
    "warp_barrier_across_warps": (63, r"race: reads shared bytes 124 to 127, which thread 31 wrote"),
    "one_of_many_readers": (40, r"race: writes shared bytes 0 to 3, which thread \d+ read"),
    "one_lane_of_many_readers": (50, r"race: writes shared bytes 0 to 3, which thread \d+ read"),
    "reader_of_another_warp": (0, r"race: writes shared bytes 0 to 3, which thread 32 read"),
    "output_read_after_write": (32, r"race: reads 4 bytes at 0 of out \(64 elements .*, which thread 0 wrote"),
    "output_write_after_read": (32, r"race: writes 4 bytes at 0 of state .*, which thread 0 read"),
    "output_written_twice": (32, r"race: writes 4 bytes at 0 of out .*, which thread 0 wrote"),
    "read_only_pointer_to_output": (0, r"a read-only pointer: reads 4 bytes at 0 of state .*, which this launch"),
    "two_barriers": (63, r"divergence: thread 0 waits in another barrier, at {file}:\d+"),
    "two_shuffles": (31, r"divergence: lane 0 is in shuffle at {file}:\d+, this one in shuffle"),
    "two_operations": (31, r"divergence: lane 0 is in shuffle at {file}:{line}, this one in any_lane"),
    "read_behind_a_tensor": (0, r"out of bounds: reads 4 bytes at 240 of rows \(4 x 12 elements of 4 bytes\)"),
    "read_before_a_tensor": (0, r"out of bounds: reads 4 bytes at -4 of rows"),
    "write_behind_a_tensor": (63, r"out of bounds: writes 4 bytes at 256 of out"),
    "column_too_far": (0, r"out of bounds, between its rows: reads 4 bytes at 48 of rows"),
    "row_too_short": (0, r"out of bounds, between its rows: reads 4 bytes at 60 of rows"),
    "row_too_many": (0, r"out of bounds: reads 4 bytes at 256 of rows"),
    "vector_over_the_end": (0, r"out of bounds, between its rows: reads 16 bytes at 36 of rows"),
    "half_an_element": (0, r"torn element: reads 2 bytes at 0 of rows"),
    "not_a_tensor": (0, r"a pointer to no tensor of this launch"),
    "no_pointer": (0, r"a pointer to no tensor of this launch"),
    "write_to_an_input": (0, r"an input: writes 4 bytes at 0 of rows"),
    "output_never_written": (0, r"never written: reads 4 bytes at 0 of out"),
    "vector_misaligned": (0, r"misaligned: reads 16 bytes at 68 of rows"),
    "stored_vector_misaligned": (0, r"misaligned: writes 8 bytes at 12 of out"),
    "shared_behind": (63, r"out of bounds: shared bytes 512 to 515 of 512"),
    "shared_before": (0, r"out of bounds: shared bytes -4 to -1 of 512"),
    "shared_never_written": (0, r"never written: reads shared bytes 256 to 259"),
    "shared_misaligned": (0, r"misaligned: shared bytes 8 to 23"),
    "matrix_row_misaligned": (31, r"misaligned: shared bytes 8 to 23"),
    "copy_not_waited_for": (0, r"unwaited copy: reads shared bytes 0 to 3, where the cp.async of thread 0 at {file}:"),
    "copy_waited_for_too_few": (0, r"unwaited copy: reads shared bytes 256 to 259"),
    "copy_not_committed": (0, r"unwaited copy: reads shared bytes 0 to 3"),
    "copy_without_a_barrier": (32, r"race: reads shared bytes 0 to 3, which thread 0 wrote"),
    "copy_waited_for_by_another": (63, r"unwaited copy: reads .*, where the cp.async of thread 31 at {file}:"),
    "copy_waited_for_after_the_barrier": (0, r"race: reads shared bytes 0 to 3, which thread 63 wrote"),
    "copy_at_exit": (0, r"unwaited copy: its thread leaves the kernel"),
    "copy_at_exit_not_committed": (0, r"unwaited copy, not even committed: its thread leaves the kernel"),
    "copy_overwritten": (0, r"unwaited copy: writes shared bytes 0 to 3, where the cp.async of thread 0"),
    "copy_over_a_copy": (0, r"unwaited copy: writes shared bytes 0 .*, where the cp.async .* at {file}:{line}"),
    "copy_over_what_is_read": (31, r"race: writes shared bytes 124 to 127, which thread 63 read"),
    "copy_from_between_rows": (0, r"out of bounds, between its rows: reads 16 bytes at 48 of rows"),
    "copy_misaligned": (0, r"misaligned: shared bytes 4 to 19"),
}
# The same of thread 0 of block (1, 0).
FAULTS_OF_THE_SECOND_BLOCK = {
    "output_of_two_blocks": r"race: writes 4 bytes at 0 of out .*, which thread 0 of block \(0, 0\) wrote",
    "output_of_another_block": r"race: reads 4 bytes at 0 of out .*, which thread 0 of block \(0, 0\) wrote",
    "input_of_another_block": r"race: writes 4 bytes at 128 of state .*, which thread 0 of block \(0, 0\) read",
    "shared_of_another_block": r"never written: reads shared bytes 0 to 3",
}
# Threads that wait for others for ever: the report tells where each is.
STUCK = {
    "barrier_after_exit": r"threads 0 to 39 wait in barrier at {file}:{line}; threads 40 to 63 have left the kernel",
    "barrier_beside_shuffle": r"threads 0 to 31 have left the kernel; threads 32 to 39 wait in barrier at {file}:\d+; "
    r"threads 40 to 63 wait in shuffle at {file}:{line}",
    "shuffle_after_exit": r"threads 0 to 30 wait in shuffle at {file}:{line}; threads 31 to 31 have left the kernel",
}
REFUSED = {
    "launch_part_of_a_warp": "a last warp that is not full in a block size of 48",
    "launch_too_many_threads": "a block size of 1056",
    "launch_no_blocks": "a grid width of 0",
    "launch_too_high": "a grid height of 65536",
    "launch_too_much_shared_memory": "shared memory of 232449",
}
COMPUTED = [
    "product_of_fragments",
    "product_of_tiles",
    "exchange",
    "places",
    "copies",
    "two_launches",
    "poison",
    "arithmetic",
]
SIXTEEN_BITS = {"bfloat16": torch.bfloat16, "half": torch.float16}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"no C++ compiler ({COMPILER[0]}) to build the kernels with")
    folder = tmp_path_factory.mktemp("lockstep")
    objects = compile_all(ROOT, [ROOT / SOURCE, *sources(ROOT, *LOCKSTEP)], folder, [])
    return link_program(folder / SOURCE.stem, objects)


def run(program: Path, case: str) -> list[str]:
    return subprocess.run([str(program), case], capture_output=True, text=True, timeout=60, check=True).stdout.split(
        "\n"
    )


def check_report(program: Path, case: str, where: str, what: str) -> None:
    """The first line of output is the planted kernel's report, the second that of its correct twin."""
    lines = (ROOT / SOURCE).read_text().splitlines()
    kernel = next(i for i, line in enumerate(lines) if line.startswith(f"KERNEL({case}, "))
    fault = next(i + 1 for i in range(kernel, len(lines)) if lines[i].endswith("// fault"))
    places = {"file": re.escape(str(SOURCE)), "line": fault}
    report, twin, _ = run(program, case)
    kernel_name = re.escape(f"fastlm::cuda::(anonymous namespace)::{case}: block ")
    assert re.match(kernel_name + where.format(**places) + what.format(**places), report), report
    assert twin == "passed"


@pytest.mark.parametrize("case", FAULTS)
def test_a_planted_bug_is_reported(program: Path, case: str) -> None:
    thread, what = FAULTS[case]
    check_report(program, case, rf"\(0, 0\), thread {thread}, {{file}}:{{line}}: ", what)


@pytest.mark.parametrize("case", FAULTS_OF_THE_SECOND_BLOCK)
def test_a_planted_bug_of_two_blocks_is_reported(program: Path, case: str) -> None:
    check_report(program, case, r"\(1, 0\), thread 0, {file}:{line}: ", FAULTS_OF_THE_SECOND_BLOCK[case])


@pytest.mark.parametrize("case", STUCK)
def test_threads_that_wait_for_ever_are_reported(program: Path, case: str) -> None:
    check_report(program, case, r"\(0, 0\), divergence: ", STUCK[case])


@pytest.mark.parametrize("case", REFUSED)
def test_a_launch_that_a_gpu_would_refuse_is_refused(program: Path, case: str) -> None:
    assert run(program, case)[0] == f"fastlm::cuda::(anonymous namespace)::{case}: {REFUSED[case]}"


@pytest.mark.parametrize("case", COMPUTED)
def test_words_compute_what_they_should(program: Path, case: str) -> None:
    assert run(program, case) == [""]


def test_a_wrong_fragment_is_seen_in_the_product(program: Path) -> None:
    result = subprocess.run([str(program), "wrong_fragment"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stdout.startswith("wrong: bfloat16 at ")


def test_every_case_is_expected_here(program: Path) -> None:
    conversions = [f"{way}_{name}" for way in ("to_float", "from_float") for name in SIXTEEN_BITS]
    tables = [*FAULTS, *FAULTS_OF_THE_SECOND_BLOCK, *STUCK, *REFUSED, *COMPUTED, "wrong_fragment", *conversions]
    listed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.split()
    assert listed == sorted(tables)


def every_value(dtype: torch.dtype) -> torch.Tensor:
    """All 65,536 values of a 16-bit type, by their bits."""
    return torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype)


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_every_16_bit_value_becomes_its_float(program: Path, name: str) -> None:
    raw = subprocess.run([str(program), f"to_float_{name}"], capture_output=True, check=True).stdout
    want = every_value(SIXTEEN_BITS[name]).float().numpy()
    np.testing.assert_array_equal(np.frombuffer(raw, np.float32), want)
    assert np.array_equal(np.signbit(np.frombuffer(raw, np.float32)[want == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_floats_round_to_the_nearest_even(program: Path, name: str) -> None:
    """Every value, every midpoint of two neighbours and what lies just beside it, and floats of any bits."""
    dtype = SIXTEEN_BITS[name]
    values = every_value(dtype).double().numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        midpoints = ((values[:-1] + values[1:]) / 2).astype(np.float32)
        beside = [np.nextafter(midpoints, np.float32(end)) for end in (-np.inf, np.inf)]
    largest = float(torch.finfo(dtype).max)
    overflow = np.float32([largest * (1 + factor * torch.finfo(dtype).eps / 4) for factor in (0.99, 1.0, 1.01)])
    any_bits = np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    nan_in_the_low_bits = np.array([0x7F800001, 0xFF800001], np.uint32).view(np.float32)
    floats = np.concatenate([values.astype(np.float32), midpoints, *beside, overflow, any_bits, nan_in_the_low_bits])
    raw = subprocess.run([str(program), f"from_float_{name}"], input=floats.tobytes(), capture_output=True, check=True)
    got = torch.from_numpy(np.frombuffer(raw.stdout, np.int16).copy())
    want = torch.from_numpy(floats).to(dtype)
    numbers = ~want.isnan()
    assert torch.equal(got.view(dtype).isnan(), want.isnan())
    assert torch.equal(got[numbers], want.view(torch.int16)[numbers])
