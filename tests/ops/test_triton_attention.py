"""What is Triton's alone in attention: tiles that programs find, copies of what they cannot address, and launches."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from fastlm import ops
from fastlm.testing import Sequences, check_against_fp64, fused_qkv, noncontiguous_views
from tests.native.lockstep import ROOT

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs Triton's interpreter", allow_module_level=True)

from fastlm.kernels import attention


@pytest.fixture
def poisoned():
    """Tensors that are allocated without values hold NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("extra_rows", [0, 1, 31, 32, 33, 100])
@pytest.mark.parametrize("lengths", [[], [0, 0], [32, 64], [31, 0, 1, 33, 0]], ids=str)
def test_every_row_is_written_by_one_tile(lengths: list[int], extra_rows: int, poisoned) -> None:
    sequences = Sequences.of(lengths)
    q, k, v = fused_qkv(sequences.rows + extra_rows, 1, 16, torch.float32)
    options = (*[sequences.cu_seqlens] * 2, *[sequences.max_seqlen] * 2, False, 0.25, 0.0, torch.tensor(0))
    out, lse = attention.attention_forward(q, k, v, *options)
    grads = attention.attention_backward(torch.ones_like(out), q, k, v, out, lse, *options)
    for x in (out, *grads):
        assert not x.isnan().any()
        assert (x[sequences.rows :] == 0).all()
    assert lse[:, : sequences.rows].isfinite().all()
    assert (lse[:, sequences.rows :] == -torch.inf).all()
    expected = ops.attention(
        *(q, k, v, sequences.cu_seqlens), max_seqlen_q=sequences.max_seqlen, scale=0.25, backend="reference"
    )
    torch.testing.assert_close(out, expected)


def test_long_sequences_drop_what_philox_says_to_in_their_own_tiles() -> None:
    sequences = Sequences.of([150, 130])
    assert attention._regime(torch.bfloat16, sequences.rows, 2) == "long"
    inputs = fused_qkv(sequences.rows, 1, 16, torch.bfloat16)

    def function(backend: str):
        options = {"max_seqlen_q": 150, "causal": True, "dropout_p": 0.3, "dropout_seed": 2**40 + 11}
        return lambda q, k, v: ops.attention(q, k, v, sequences.cu_seqlens, backend=backend, **options)

    check_against_fp64(function("triton"), function("reference"), inputs, names="attention q k v")


def test_the_interpreter_multiplies_the_bits_of_bf16_and_is_not_given_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = Sequences.of([5, 9])
    inputs = fused_qkv(sequences.rows, 1, 16, torch.bfloat16)

    def run(backend: str) -> torch.Tensor:
        return ops.attention(*inputs, sequences.cu_seqlens, max_seqlen_q=9, backend=backend)

    torch.testing.assert_close(run("triton"), run("reference"))
    monkeypatch.setattr(attention, "interpreted", lambda: False)
    assert not torch.allclose(run("triton"), run("reference"), atol=0.5)


def test_only_what_kernels_cannot_address_is_copied() -> None:
    for x in fused_qkv(5, 2, 24, torch.float16):
        assert attention._addressable(x) is x
    x = torch.randn(5, 2, 24)
    unaligned = noncontiguous_views(x)["unaligned"]
    assert unaligned.data_ptr() % 16
    assert torch.equal(attention._addressable(unaligned), x)
    assert attention._addressable(unaligned).data_ptr() % 16 == 0
    far = x[:1].as_strided((1, 2, 24), (2**24, 24, 1))
    assert attention._addressable(far).stride() == (48, 24, 1)
    odd_heads = torch.randn(5, 2, 25)[..., :24]
    assert attention._addressable(odd_heads).is_contiguous()


@pytest.mark.cpu_only("compiles for a GPU that need not be there")
def test_launches_compile_what_is_shipped_and_nothing_by_value() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.attention_launches"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "0"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
