"""The shared block: where LayerNorm, dropout and the residual sit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastlm import ops
from fastlm.nn.attention import Queries, Sequences, select_queries
from fastlm.nn.block import Block
from fastlm.nn.norm import Stream

D = 32
SEQUENCES = Sequences(torch.tensor([0, 4, 10], dtype=torch.int32), 6)
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])


def make_block(norm: str, dropout: float = 0.0) -> Block:
    torch.manual_seed(0)
    return Block(D, 2, 48, causal=False, activation="gelu", norm=norm, dropout=dropout)


def inputs() -> Tensor:
    return 3 * torch.randn(10, D, generator=torch.Generator().manual_seed(1)) + 1


def run(block: Block, x: Tensor, queries: Queries | None = None) -> Tensor:
    """The hidden states after the block, its last branch added."""
    residual, branch = block(Stream(x), SEQUENCES, queries)
    if branch is None:
        return residual
    return ops.dropout_add_layer_norm(
        branch, residual, torch.ones(D), torch.zeros(D), dropout_p=block.mlp_norm.dropout if block.training else 0.0
    ).residual


def silence(block: Block) -> Block:
    """Both branches give zero."""
    with torch.no_grad():
        for p in (*block.attention.output.parameters(), *block.mlp.down.parameters()):
            p.zero_()
    return block


def test_silent_branches_leave_the_residual_stream_alone_in_pre_norm_only() -> None:
    x = inputs()
    assert torch.equal(run(silence(make_block("pre")), x), x)
    normed = run(silence(make_block("post")), x)
    torch.testing.assert_close(normed, torch.nn.functional.layer_norm(x, (D,)), rtol=1e-3, atol=1e-4)


@NORMS
def test_restricted_rows_are_the_rows_of_the_full_result(norm: str) -> None:
    block, x, rows = make_block(norm), inputs(), torch.tensor([0, 3, 8])
    full = run(block, x)[rows]
    restricted = run(block, x, select_queries(rows, SEQUENCES))
    torch.testing.assert_close(restricted, full)


@NORMS
def test_dropout_is_applied_to_both_branches(norm: str) -> None:
    """With all of a branch dropped, what is left is the silent block."""
    block, x = make_block(norm, dropout=0.0), inputs()
    block.attention_norm.dropout = block.mlp_norm.dropout = 1.0
    silent = run(silence(make_block(norm)), x)
    torch.testing.assert_close(run(block, x), silent)
    assert not torch.allclose(run(block.eval(), x), silent)


def test_a_pending_branch_is_what_its_sum_would_be() -> None:
    block, x, branch = make_block("pre"), inputs(), inputs().cos()
    pending = block(Stream(x, branch), SEQUENCES)
    added = block(Stream(x + branch), SEQUENCES)
    torch.testing.assert_close(pending, added)


@NORMS
def test_the_restricted_block_multiplies_fewer_rows(norm: str) -> None:
    block, x = make_block(norm), inputs()
    seen: list[int] = []
    for linear in (block.attention.output, block.mlp.up, block.mlp.down):
        linear.register_forward_hook(lambda module, args, output: seen.append(output.shape[0]))
    run(block, x, select_queries(torch.tensor([2, 9]), SEQUENCES))
    assert seen == [2, 2, 2]
