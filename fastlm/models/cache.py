"""Keys and values of what a decoder has read, so that the next token costs one row a layer.

A prompt is read as it would be in training, packed; its keys and values are laid out by sentence, with room that grows
as more is written. Then each step reads one token of every sentence. What a translation reads of its source is laid out
once, at the prompt, and sentences with one source (a search's beams) share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm.models.language_model import LanguageModel
from fastlm.nn.attention import Attended, Queries, Sequences
from fastlm.nn.cross_attention import CrossAttention, Memory, Remembered
from fastlm.nn.norm import Stream

#: places that are added at once; what lies beyond the written ones is copied at every selection
GROWTH = 16


class _Layer:
    """Keys and values of one layer, each (B, places, H, D)."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values

    def reserve(self, places: int) -> None:
        """Room for so many places."""
        missing = places - self.keys.shape[1]
        if missing > 0:
            added = (0, 0, 0, 0, 0, missing + -missing % GROWTH)
            self.keys, self.values = F.pad(self.keys, added), F.pad(self.values, added)

    def select(self, sentences: Tensor) -> None:
        """Goes on with these."""
        self.keys, self.values = self.keys.index_select(0, sentences), self.values.index_select(0, sentences)

    def write(self, sentences: Tensor, places: Tensor, k: Tensor, v: Tensor) -> None:
        """Puts rows (N, H, D) at places (N,) of sentences (N,)."""
        self.keys[sentences, places] = k
        self.values[sentences, places] = v

    def attend(self, q: Tensor, visible: Tensor) -> Tensor:
        """Queries of each sentence, B times as many end to end (N, H, D), to the first places.

        Where visible (B, 1, 1, L) says so.
        """
        keys, values = (x[:, : visible.shape[-1]].transpose(1, 2) for x in (self.keys, self.values))  # (B, H, L, D)
        queries = q.unflatten(0, (len(keys), -1)).transpose(1, 2)  # (B, H, N / B, D)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible).transpose(1, 2).flatten(0, 1)


class _Prompt:
    """A layer while the prompts are read: they attend to themselves, and what they leave is kept."""

    def __init__(self, layer: _Layer, sequences: Sequences, sentences: Tensor, places: Tensor) -> None:
        self.layer, self.sequences, self.sentences, self.places = layer, sequences, sentences, places
        self.rotation = sequences.rotation

    def attend(self, q: Tensor, k: Tensor, v: Tensor, queries: Queries | None, **options: Any) -> Tensor:
        self.layer.write(self.sentences, self.places, k, v)
        return self.sequences.attend(q, k, v, queries, **options)

    def attend_to(self, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_k: Tensor, max_seqlen_k: int, **o: Any) -> Tensor:
        return self.sequences.attend_to(q, k, v, cu_seqlens_k, max_seqlen_k, **o)


class _Step:
    """A layer while one token of every sentence is read: it attends to all before it and itself."""

    def __init__(self, layer: _Layer, lengths: Tensor, visible: Tensor, rotation: tuple[Tensor, Tensor] | None) -> None:
        self.layer, self.lengths, self.visible, self.rotation = layer, lengths, visible, rotation

    def attend(self, q: Tensor, k: Tensor, v: Tensor, queries: Queries | None, **options: Any) -> Tensor:
        self.layer.write(torch.arange(len(q), device=q.device), self.lengths, k, v)
        return self.layer.attend(q, self.visible)

    def attend_to(self, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_k: Tensor, max_seqlen_k: int, **o: Any) -> Tensor:
        raise AssertionError("a step reads sources that were laid out at the prompt")


class _Source:
    """A layer's part of the sources: laid out at the prompt, which reads them packed."""

    def __init__(self, layer: _Layer, memory: Memory) -> None:
        self.layer, self.memory = layer, memory

    def attend(self, attention: CrossAttention, q: Tensor, sequences: Attended, **dropout: Any) -> Tensor:
        k, v = attention.keys_and_values(self.memory.hidden)
        self.layer.write(*_rows(self.memory.cu_seqlens, len(k)), k, v)
        return sequences.attend_to(q, k, v, self.memory.cu_seqlens, self.memory.max_seqlen, **dropout)


class _SourceAgain:
    """The same at every step after it; visible (sources, 1, 1, L)."""

    def __init__(self, layer: _Layer, visible: Tensor) -> None:
        self.layer, self.visible = layer, visible

    def attend(self, attention: CrossAttention, q: Tensor, sequences: Attended, **dropout: Any) -> Tensor:
        return self.layer.attend(q, self.visible)


def _rows(cu_seqlens: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sentence and place of each of ``count`` packed rows."""
    lengths = cu_seqlens.diff()
    sentences = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths, output_size=count)
    return sentences, torch.arange(count, device=lengths.device) - cu_seqlens[sentences]


class KeyValueCache:
    """Of B sentences; made by :meth:`read`.

    Attributes:
        lengths: tokens read of each sentence.
    """

    def __init__(self, model: LanguageModel, layers: list[_Layer], lengths: list[int]) -> None:
        self.model, self.lengths = model, lengths
        self._layers = layers
        self._room = 0
        self._sources: list[_Layer] = []
        self._visible: Tensor | None = None  # (sources, 1, 1, L)
        self._source_of = list(range(len(lengths)))  # each sentence

    @classmethod
    def read(
        cls,
        model: LanguageModel,
        tokens: Tensor,
        positions: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        room: int,
        memory: Memory | None = None,
    ) -> tuple[KeyValueCache, Tensor]:
        """Reads prompts; arguments as the model's forward, in evaluation mode.

        Args:
            model: a decoder.
            tokens, positions, cu_seqlens, max_seqlen: the packed prompts, none of them empty.
            room: the most tokens that any sentence will have, at least max_seqlen.
            memory: of a translation model's decoder, what its encoder made of the sources.

        Returns:
            The cache, and the logits (B, V) of what follows each prompt.
        """
        count = len(cu_seqlens) - 1
        cache = cls(model, _layers(model, count, max_seqlen), cu_seqlens.diff().tolist())
        cache._room = room
        rotation = None if model.rotary is None else model.rotary(positions)
        sequences = Sequences(cu_seqlens, max_seqlen, rotation)
        sentences, _ = _rows(cu_seqlens, len(tokens))
        parts = [_Prompt(layer, sequences, sentences, positions) for layer in cache._layers]
        sources: list[_Source] = []
        if memory is not None:
            cache._sources = _layers(model, count, memory.max_seqlen)
            places = torch.arange(memory.max_seqlen, device=tokens.device)
            cache._visible = (places < memory.cu_seqlens.diff()[:, None])[:, None, None]
            sources = [_Source(layer, memory) for layer in cache._sources]
        return cache, cache._logits(tokens, positions, parts, sources, cu_seqlens[1:].long() - 1)

    def append(self, tokens: Tensor) -> Tensor:
        """Reads one more token of each sentence, (B,) int64; the logits (B, V) of what follows it.

        Raises:
            ValueError: a sentence has no room left.
        """
        longest = max(self.lengths) + 1
        if longest > self._room:
            raise ValueError(f"a sentence has {longest - 1} tokens, and the cache was made for no more")
        for layer in self._layers:
            layer.reserve(longest)
        lengths = torch.tensor(self.lengths, device=tokens.device)
        visible = (torch.arange(longest, device=tokens.device) <= lengths[:, None])[:, None, None]  # (B, 1, 1, L)
        rotation = None if self.model.rotary is None else self.model.rotary(lengths)
        parts = [_Step(layer, lengths, visible, rotation) for layer in self._layers]
        sources = [_SourceAgain(layer, self._visible) for layer in self._sources if self._visible is not None]
        logits = self._logits(tokens, lengths, parts, sources)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def select(self, sentences: list[int]) -> None:
        """Goes on with these sentences, in this order; one may come more than once."""
        if sentences == list(range(len(self.lengths))):
            return
        device = self._layers[0].keys.device
        index = torch.tensor(sentences, dtype=torch.int64, device=device)
        for layer in self._layers:
            layer.select(index)
        self.lengths = [self.lengths[i] for i in sentences]
        self._source_of = [self._source_of[i] for i in sentences]
        if self._visible is not None:
            self._select_sources(self._visible, device)

    def _select_sources(self, visible: Tensor, device: torch.device) -> None:
        """Leaves out those that nobody reads; where the others serve unequally many, each sentence gets its own."""
        kept = list(dict.fromkeys(self._source_of))
        share = len(self._source_of) // max(len(kept), 1)
        if self._source_of != [source for source in kept for _ in range(share)]:
            kept = self._source_of
        if kept != list(range(len(visible))):
            index = torch.tensor(kept, dtype=torch.int64, device=device)
            self._visible = visible[index]
            for layer in self._sources:
                layer.select(index)
        share = len(self._source_of) // max(len(kept), 1)
        self._source_of = [i // share for i in range(len(self._source_of))]

    def _logits(
        self,
        tokens: Tensor,
        positions: Tensor,
        parts: Sequence[Attended],
        sources: Sequence[Remembered],
        rows: Tensor | None = None,
    ) -> Tensor:
        model = self.model
        stream = Stream(model.embedding(tokens, positions))
        for i, (block, part) in enumerate(zip(model.blocks, parts, strict=True)):
            stream = block(stream, part, memory=sources[i] if sources else None)
        if rows is not None:
            stream = stream.at(rows)
        hidden = stream.residual if model.final_norm is None else model.final_norm(stream).y
        return F.linear(model.head(hidden), model.embedding.tokens.weight, model.head.bias)


def _layers(model: LanguageModel, sentences: int, room: int) -> list[_Layer]:
    """Empty ones, in the dtype of the products."""
    shape, device = (sentences, room, model.config.heads, model.config.head_dim), model.device
    autocast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if autocast else model.embedding.tokens.weight.dtype
    return [_Layer(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))) for _ in model.blocks]
