"""What the encoder and the decoder language model have in common: everything but the direction of attention.

Tokens are packed (docs/design.md, "One layout inside"): hidden states are (T, d) and no operation sees padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastlm import ops
from fastlm.batch import Batch
from fastlm.errors import ConfigError
from fastlm.models.config import ModelConfig
from fastlm.nn.attention import RotaryPositions, Sequences, select_queries
from fastlm.nn.block import Block
from fastlm.nn.cross_attention import Memory
from fastlm.nn.embedding import PackedEmbedding
from fastlm.nn.head import build_head
from fastlm.nn.norm import Stream, StreamNorm

EMBEDDING_STD = 0.02
OWN_LOGIT = 8.0  # the most that a token's own logit may be at the start; see LanguageModel


class LanguageModel(nn.Module):
    """Embedding, blocks, final LayerNorm (pre-LN only) and the output through the shared embedding.

    Initial values: weights uniform with variance 2 / (inputs + outputs) (Glorot & Bengio 2010; as fairseq's and
    PyTorch's transformers), biases 0, LayerNorms 1 and 0. Embeddings have std min(0.02, 8 / d): after the
    embedding LayerNorm a hidden state points along its own token's embedding, whose logit is then d * std (over sqrt(2)
    where positions are added). With 0.02 at d = 1024 that would be 20, more than the whole vocabulary weighs; bounded
    by 8, the first loss is near ln(vocab_size).
    """

    causal: bool

    def __init__(self, config: ModelConfig, *, cross: bool = False) -> None:
        """Build from sizes alone; the weights come from PyTorch's default generator.

        Args:
            config: of the model.
            cross: whether every block reads a memory, too (`fastlm.nn.cross_attention`).

        Raises:
            ConfigError: a vocabulary of 0 (the tokenizer has not filled it in).
        """
        super().__init__()
        if config.vocab_size < 1:
            raise ConfigError("vocab_size is 0: a model needs its tokenizer's size; set --vocab-size")
        self.config = config
        c = config
        std = min(EMBEDDING_STD, OWN_LOGIT / c.d_model)
        self.embedding = PackedEmbedding(
            c.vocab_size, c.d_model, c.seq_len, positions=c.positions, dropout=c.dropout, std=std
        )
        self.rotary = RotaryPositions(c.head_dim, c.seq_len) if c.positions == "rotary" else None
        self.block_seeds = Block.seeds(cross)
        self.blocks = nn.ModuleList(
            Block(
                c.d_model,
                c.heads,
                c.ff,
                causal=self.causal,
                activation=c.activation,
                norm=c.norm,
                dropout=c.dropout,
                cross=cross,
            )
            for _ in range(c.layers)
        )
        self.final_norm = StreamNorm(c.d_model, c.dropout) if c.norm == "pre" else None
        self.head = build_head(c.head, c.d_model, c.vocab_size)
        self._trunk: Callable[..., Tensor] = _run_trunk
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def hidden_states(
        self,
        tokens: Tensor,
        positions: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        rows: Tensor | None = None,
        dropout_seed: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """The blocks' output after the final LayerNorm, (T, d), or (M, d) at ``rows``. Arguments as :meth:`forward`.

        Pre-LN's comes in the dtype that the head's product takes: autocast's where it is on. ``dropout_seed`` is what
        `draw_seed` gives, on the CPU or the model's device; None draws it.
        """
        if max_seqlen > self.config.seq_len:
            raise ValueError(
                f"a sequence of {max_seqlen} tokens does not fit the model's seq_len of {self.config.seq_len}; "
                "truncate or split it, or build the model with a larger seq_len"
            )
        if rows is not None:
            _check_ascending(rows)
        seed = self.draw_seed() if dropout_seed is None else dropout_seed
        wanted = tokens.shape[0] if rows is None else rows.shape[0]
        if _keeps_shapes(tokens.device.type):
            tokens, positions, rows = _pad_shapes(tokens, positions, rows)
        return self._trunk(self, tokens, positions, cu_seqlens, max_seqlen, rows, seed, memory)[:wanted]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def draw_seed(self) -> Tensor:
        """The seed of one forward pass's dropout, () int64, from PyTorch's default CPU generator; 0 without dropout."""
        if not self.training or not self.config.dropout:
            return torch.zeros((), dtype=torch.int64, device="cpu")
        return torch.randint(2**62, (), dtype=torch.int64, device="cpu")

    def compile(self, **options: Any) -> None:
        """Compile in place what lies between tokens and hidden states, for sentences of any number and length.

        `forward` and `loss` both use it, and so does a module that wraps this one (DDP). The rest stays eager: checks,
        the dropout seed's draw, and the head, whose op already works in a few large products.

        Args:
            options: those of `torch.compile`; ``dynamic=True`` unless given.
        """
        self._trunk = torch.compile(_run_trunk, **{"dynamic": True, **options})

    def forward(
        self, tokens: Tensor, positions: Tensor, cu_seqlens: Tensor, max_seqlen: int, rows: Tensor | None = None
    ) -> Tensor:
        """Logits over the vocabulary.

        Args:
            tokens: (T,) int64 ids.
            positions: (T,) int64, 0-based place of each token in its sentence.
            cu_seqlens: (B+1,) int32, first row of each sentence.
            max_seqlen: the longest sentence, at most ``config.seq_len``.
            rows: (M,) int64, ascending rows whose logits are wanted; None for all.

        Returns:
            (T or M, V), in the dtype of the matrix products (bf16 under bf16 autocast).

        Raises:
            ValueError: a sentence longer than ``config.seq_len``; rows not ascending (checked on the CPU, in eager
                mode).
        """
        hidden = self.head(self.hidden_states(tokens, positions, cu_seqlens, max_seqlen, rows))
        return F.linear(hidden, self.embedding.tokens.weight, self.head.bias)

    def loss(
        self,
        batch: Batch,
        *,
        label_smoothing: float = 0.0,
        reduction: str = "sum",
        dropout_seed: Tensor | None = None,
        memory: Memory | None = None,
    ) -> ops.LinearCrossEntropyOutput:
        """Cross-entropy at the batch's target rows; the (M, V) logits are never in memory at once.

        An empty batch, or one without targets, gives loss 0 and a zero gradient for every parameter.
        """
        hidden = self.hidden_states(
            batch.tokens,
            batch.positions,
            batch.cu_seqlens,
            batch.max_seqlen,
            rows=batch.target_rows,
            dropout_seed=dropout_seed,
            memory=memory,
        )
        return ops.linear_cross_entropy(
            self.head(hidden),
            self.embedding.tokens.weight,
            batch.targets,
            bias=self.head.bias,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.tokens.weight.device


def _run_trunk(
    model: LanguageModel,
    tokens: Tensor,
    positions: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    rows: Tensor | None,
    dropout_seed: Tensor,
    memory: Memory | None,
) -> Tensor:
    """Embedding to final LayerNorm: one graph, and a function of the model so that a copied model runs its own weights.

    Nobody reads the rows of the last block that are not in ``rows``, so there the encoder computes only keys and values
    for them. A causal op aligns the last query with the last key, which holds for whole sentences only: the decoder,
    whose every row is a target in training, gathers after the block.
    """
    rotation = None if model.rotary is None else model.rotary(positions)
    sequences = Sequences(cu_seqlens, max_seqlen, rotation)
    queries = None if rows is None else select_queries(rows, sequences)
    *blocks, last = model.blocks
    seeds = model.block_seeds
    final_seed = dropout_seed + seeds * len(model.blocks)
    stream = Stream(model.embedding(tokens, positions, final_seed + 1))
    for i, block in enumerate(blocks):
        stream = block(stream, sequences, dropout_seed=dropout_seed + seeds * i, memory=memory)
    queries = None if model.causal else queries
    stream = last(stream, sequences, queries, dropout_seed=final_seed - seeds, memory=memory)
    if model.causal and rows is not None:
        stream = stream.at(rows)
    hidden: Tensor = stream.residual if model.final_norm is None else model.final_norm(stream, final_seed).y
    return hidden


def _keeps_shapes(device: str) -> bool:
    """Whether matrix products here pay for every new shape: oneDNN's in bf16 do, with 10 ms and memory that stays."""
    return device == "cpu" and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _pad_shapes(tokens: Tensor, positions: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Adds tokens and queries of no sentence, so that batches of any size share a few shapes.

    Nobody attends to such rows and nobody reads them: what the others compute stays the same. All added queries are
    one row, the first added token's; their gradients are 0, in whatever order they are summed.
    """
    count = needed = tokens.shape[0]
    if rows is not None:
        unread = _shared_size(rows.shape[0]) - rows.shape[0]
        rows = F.pad(rows, (0, unread), value=count)
        needed += min(unread, 1)
    added = (0, _shared_size(needed) - count)
    return F.pad(tokens, added), F.pad(positions, added), rows


def _shared_size(rows: int) -> int:
    """``rows`` rounded up, by less than 1/16 from 256 on; more shapes would cost more memory (docs/log.md)."""
    step = 16 if rows < 512 else 32 if rows < 1024 else 64
    return rows + -rows % step


def _check_ascending(rows: Tensor) -> None:
    """Refuse rows out of order, where looking is free: in eager mode on the CPU."""
    if torch.compiler.is_compiling() or rows.device.type != "cpu":
        return
    if not bool((rows[1:] >= rows[:-1]).all()):
        raise ValueError("rows must be ascending; sort them")
