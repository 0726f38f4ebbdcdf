"""Keys and values of what a decoder has read, so that the next token costs one row a layer.

A prompt is read as it would be in training, packed; its keys and values are laid out by sentence, with room for what
will be written. Then each step reads one token of every sentence.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm.models.language_model import LanguageModel
from fastlm.nn.attention import Queries, Sequences
from fastlm.nn.norm import Stream


class _Layer:
    """Keys and values of one layer, each (B, room, H, D)."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values

    def write(self, sentences: Tensor, places: Tensor, k: Tensor, v: Tensor) -> None:
        """Puts rows (N, H, D) at places (N,) of sentences (N,)."""
        self.keys[sentences, places] = k
        self.values[sentences, places] = v


class _Prompt:
    """A layer while the prompts are read: they attend to themselves, and what they leave is kept."""

    def __init__(self, layer: _Layer, sequences: Sequences, sentences: Tensor, places: Tensor) -> None:
        self.layer, self.sequences, self.sentences, self.places = layer, sequences, sentences, places
        self.rotation = sequences.rotation

    def attend(self, q: Tensor, k: Tensor, v: Tensor, queries: Queries | None, **options: Any) -> Tensor:
        self.layer.write(self.sentences, self.places, k, v)
        return self.sequences.attend(q, k, v, queries, **options)


class _Step:
    """A layer while one token of every sentence is read: it attends to all before it and itself."""

    def __init__(self, layer: _Layer, lengths: Tensor, visible: Tensor, rotation: tuple[Tensor, Tensor] | None) -> None:
        self.layer, self.lengths, self.visible, self.rotation = layer, lengths, visible, rotation

    def attend(self, q: Tensor, k: Tensor, v: Tensor, queries: Queries | None, **options: Any) -> Tensor:
        self.layer.write(torch.arange(len(q), device=q.device), self.lengths, k, v)
        longest = self.visible.shape[-1]
        keys, values = (x[:, :longest].transpose(1, 2) for x in (self.layer.keys, self.layer.values))  # (B, H, L, D)
        out = F.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=self.visible)
        return out[:, :, 0]


class KeyValueCache:
    """Of B sentences; made by :meth:`read`.

    Attributes:
        lengths: tokens read of each sentence.
    """

    def __init__(self, model: LanguageModel, layers: list[_Layer], lengths: list[int]) -> None:
        self.model, self.lengths = model, lengths
        self._layers = layers

    @classmethod
    def read(
        cls,
        model: LanguageModel,
        tokens: Tensor,
        positions: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        room: int,
    ) -> tuple[KeyValueCache, Tensor]:
        """Reads prompts; arguments as the model's forward, in evaluation mode.

        Args:
            model: a decoder.
            tokens, positions, cu_seqlens, max_seqlen: the packed prompts, none of them empty.
            room: the most tokens that any sentence will have, at least max_seqlen.

        Returns:
            The cache, and the logits (B, V) of what follows each prompt.
        """
        lengths = cu_seqlens.diff()
        count, config = len(lengths), model.config
        shape = (count, room, config.heads, config.head_dim)
        dtype = (
            torch.get_autocast_dtype(tokens.device.type) if _autocast(tokens) else model.embedding.tokens.weight.dtype
        )
        layers = [
            _Layer(*(torch.zeros(shape, dtype=dtype, device=tokens.device) for _ in range(2))) for _ in model.blocks
        ]
        rotation = None if model.rotary is None else model.rotary(positions)
        sequences = Sequences(cu_seqlens, max_seqlen, rotation)
        sentences = torch.repeat_interleave(torch.arange(count, device=tokens.device), lengths, output_size=len(tokens))
        cache = cls(model, layers, lengths.tolist())
        parts = [_Prompt(layer, sequences, sentences, positions) for layer in layers]
        return cache, cache._logits(tokens, positions, parts, cu_seqlens[1:].long() - 1)

    def append(self, tokens: Tensor) -> Tensor:
        """Reads one more token of each sentence, (B,) int64; the logits (B, V) of what follows it.

        Raises:
            ValueError: a sentence has no room left.
        """
        longest = max(self.lengths) + 1
        if longest > self._layers[0].keys.shape[1]:
            raise ValueError(f"a sentence has {longest - 1} tokens, and the cache was made for no more")
        lengths = torch.tensor(self.lengths, device=tokens.device)
        visible = (torch.arange(longest, device=tokens.device) <= lengths[:, None])[:, None, None]  # (B, 1, 1, L)
        rotation = None if self.model.rotary is None else self.model.rotary(lengths)
        logits = self._logits(tokens, lengths, [_Step(layer, lengths, visible, rotation) for layer in self._layers])
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def select(self, sentences: list[int]) -> None:
        """Goes on with these sentences, in this order; one may come more than once."""
        if sentences == list(range(len(self.lengths))):
            return
        index = torch.tensor(sentences, dtype=torch.int64, device=self._layers[0].keys.device)
        for layer in self._layers:
            layer.keys, layer.values = layer.keys[index], layer.values[index]
        self.lengths = [self.lengths[i] for i in sentences]

    def _logits(
        self, tokens: Tensor, positions: Tensor, parts: list[_Prompt] | list[_Step], rows: Tensor | None = None
    ) -> Tensor:
        model = self.model
        stream = Stream(model.embedding(tokens, positions))
        for block, part in zip(model.blocks, parts, strict=True):
            stream = block(stream, part)
        if rows is not None:
            stream = stream.at(rows)
        hidden = stream.residual if model.final_norm is None else model.final_norm(stream).y
        return F.linear(model.head(hidden), model.embedding.tokens.weight, model.head.bias)


def _autocast(tokens: Tensor) -> bool:
    return torch.is_autocast_enabled(tokens.device.type)
