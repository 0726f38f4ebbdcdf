"""What the CUDA kernels take of a GPU: no spills, and what resources.txt says (`make resources` writes it anew)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native import resources
from tests.native.lockstep import KERNELS, ROOT, sources

FILES = sources(ROOT, *KERNELS)


@pytest.fixture(scope="module")
def nvcc() -> Path:
    if (found := resources.find_nvcc()) is None:
        pytest.skip("no nvcc to compile the CUDA kernels with (set CUDA_HOME)")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_kernels_take_what_the_table_says(nvcc: Path, file: Path) -> None:
    kernels = resources.compile_all(nvcc, [file])[file]
    assert {kernel.arch for kernel in kernels} == set(resources.ARCHS)
    assert not [str(kernel) for kernel in kernels if kernel.spills]
    of_nvcc, table = resources.read_table()
    if resources.nvcc_version(nvcc) != of_nvcc:
        pytest.skip(f"nothing spills; the table is of nvcc {of_nvcc}, this is {resources.nvcc_version(nvcc)}")
    assert [str(kernel) for kernel in kernels] == table[file.name], "`make resources` rewrites the table"


def test_the_table_holds_every_file_and_no_other() -> None:
    _, table = resources.read_table()
    assert list(table) == [file.name for file in FILES]
