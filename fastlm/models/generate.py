"""Writing with a decoder, filling blanks with an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fastlm.models.cache import KeyValueCache
from fastlm.models.language_model import LanguageModel

#: tokens, written ones included, that are kept at once: at d 512 x 6 in fp32 400 MB of keys and values
BATCH_TOKENS = 16_384
#: values that `largest` looks at together
BLOCK = 64


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    banned: Sequence[int] = (),
    batch_tokens: int = BATCH_TOKENS,
) -> list[list[int]]:
    """Continue every prompt until ``eos_id``, ``max_new_tokens`` or the model's seq_len, whichever comes first.

    Args:
        model: a decoder; run without dropout, its mode is restored.
        prompts: token ids, at least one each, with the ``[BOS]`` that the model was trained to start from.
        max_new_tokens: at most this many per prompt.
        eos_id: the id that ends a text.
        temperature: 0 takes the likeliest token; else logits are divided by it and a token is drawn.
        top_k: draw among this many likeliest tokens; 0 for all.
        top_p: draw among the fewest likeliest tokens that together have this probability
            (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751); 1 for all.
        seed: each prompt draws from its own stream of (seed, its index), whatever the batch around it does.
        banned: ids never written, such as the special tokens (``eos_id`` may be among them: then nothing stops early).
        batch_tokens: prompts of like lengths are continued together, as many as have so many tokens with what they may
            write; at least one.

    Returns:
        Per prompt the new ids, without the prompt and without ``eos_id``.

    Raises:
        ValueError: an encoder, an empty or too long prompt, an id outside the vocabulary, a setting out of range.
    """
    _require(model, "decoder")
    _check_sampling(max_new_tokens, temperature, top_k, top_p)
    _check_prompts(model, prompts, room=1)
    check_ids(model, banned, "banned")
    if len(set(banned)) >= model.config.vocab_size:
        raise ValueError(f"banned holds all {model.config.vocab_size} ids of the vocabulary; leave some to write")
    if not max_new_tokens:
        return [[] for _ in prompts]
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]

    def choose(logits: Tensor, of: list[int]) -> list[int]:
        logits[:, list(banned)] = -torch.inf
        if temperature == 0:
            return largest(logits, 1)[1][:, 0].tolist()  # type: ignore[no-any-return]
        rows = zip(logits.cpu(), of, strict=True)
        return [_draw(row, temperature, top_k, top_p, generators[i]) for row, i in rows]

    written: list[list[int]] = [[] for _ in prompts]
    with evaluating(model):
        for batch in _batches(prompts, max_new_tokens, model.config.seq_len, batch_tokens):
            _continue(model, prompts, written, batch, max_new_tokens, eos_id, choose)
    return written


def _batches(prompts: Sequence[Sequence[int]], new: int, longest: int, budget: int) -> Iterator[list[int]]:
    """Indexes of prompts that are continued together, from the shortest on."""
    batch: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        if batch and (len(batch) + 1) * min(len(prompts[i]) + new, longest) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _continue(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    written: list[list[int]],
    running: list[int],
    max_new_tokens: int,
    eos_id: int,
    choose: Callable[[Tensor, list[int]], list[int]],
) -> None:
    """Writes what ``choose`` takes behind the prompts ``running``; each token is read once."""
    room = min(max(len(prompts[i]) for i in running) + max_new_tokens, model.config.seq_len)
    cache, logits = KeyValueCache.read(model, *pack([prompts[i] for i in running], model.device), room=room)
    while True:
        chosen = choose(logits.float(), running)
        left = []
        for place, (i, token) in enumerate(zip(running, chosen, strict=True)):
            if token == eos_id:
                continue
            written[i].append(token)
            if len(written[i]) < max_new_tokens and len(prompts[i]) + len(written[i]) < model.config.seq_len:
                left.append(place)
        if not left:
            return
        cache.select(left)
        running = [running[place] for place in left]
        logits = cache.append(torch.tensor([chosen[place] for place in left], device=model.device))


def fill(
    model: LanguageModel, ids: Sequence[int], mask_id: int, top_k: int, *, banned: Sequence[int] = ()
) -> list[list[tuple[int, float]]]:
    """The likeliest tokens at every ``mask_id`` of one sentence.

    Args:
        model: an encoder; run without dropout, its mode is restored.
        ids: the sentence with its ``[BOS]`` and ``[EOS]``.
        mask_id: the id that marks a blank.
        top_k: candidates per mask; fewer where the vocabulary has fewer.
        banned: ids never proposed. Probabilities stay the model's own, so what is left may sum to less than one.

    Returns:
        Per mask, in order, (id, probability) from the likeliest down; empty without a mask.

    Raises:
        ValueError: a decoder, an empty or too long sentence, an id outside the vocabulary, top_k below 1.
    """
    _require(model, "encoder")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1")
    _check_prompts(model, [ids], room=0)
    check_ids(model, banned, "banned")
    rows = [row for row, token in enumerate(ids) if token == mask_id]
    if not rows:
        return []
    with evaluating(model):
        tokens, positions, cu_seqlens, max_seqlen = pack([ids], model.device)
        at = torch.tensor(rows, device=model.device)
        probabilities = model(tokens, positions, cu_seqlens, max_seqlen, rows=at).float().softmax(-1).cpu()
    probabilities[:, list(banned)] = -1.0
    best = probabilities.topk(min(top_k, probabilities.shape[1] - len(set(banned))))
    return [list(zip(i, p, strict=True)) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest ``count`` values of each row (fewer, where it has fewer) and their places: each (N, count).

    As ``topk``, which copies and partly sorts every row on a CPU. The largest values of a row lie in the blocks with
    the largest maxima, so only these are looked into.
    """
    width = logits.shape[1]
    whole = width - width % BLOCK
    if whole <= 2 * count * BLOCK:
        return logits.topk(min(count, width))
    maxima = logits[:, :whole].unflatten(1, (-1, BLOCK)).amax(-1)
    places = torch.arange(BLOCK, device=logits.device) + BLOCK * maxima.topk(count).indices[..., None]
    rest = torch.arange(whole, width, device=logits.device).expand(len(logits), -1)
    places = torch.cat((places.flatten(1), rest), 1)
    values, at = logits.gather(1, places).topk(count)
    return values, places.gather(1, at)


def _draw(logits: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> int:
    """One id from (V,) logits."""
    scaled = (logits.double() - logits.max()) / temperature  # at most 0, so that no temperature overflows
    values, ids = scaled.sort(descending=True, stable=True)
    if top_k:
        values, ids = values[:top_k], ids[:top_k]
    probabilities = values.softmax(-1)
    if top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.where(before < top_p, 0.0)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])


def pack(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
    """Texts end to end: tokens (T,), positions (T,), cu_seqlens (B+1,), max_seqlen."""
    lengths = [len(text) for text in texts]
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    positions = torch.cat([torch.arange(n) for n in lengths])
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return tokens.to(device), positions.to(device), cu_seqlens.to(device), max(lengths)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _require(model: LanguageModel, kind: str) -> None:
    if model.config.model != kind:
        raise ValueError(f"this needs a model of kind {kind}; the one given is of kind {model.config.model}")


def _check_sampling(max_new_tokens: int, temperature: float, top_k: int, top_p: float) -> None:
    rules = {
        f"max_new_tokens is {max_new_tokens}; it must be 0 or more": max_new_tokens >= 0,
        f"temperature is {temperature}; it must be 0 (greedy) or more, and finite": 0 <= temperature < math.inf,
        f"top_k is {top_k}; it must be 0 (all) or more": top_k >= 0,
        f"top_p is {top_p}; it must be over 0 and at most 1 (all)": 0 < top_p <= 1,
    }
    for message, holds in rules.items():
        if not holds:
            raise ValueError(message)


def _check_prompts(model: LanguageModel, prompts: Sequence[Sequence[int]], *, room: int) -> None:
    """Refuse what the model cannot read, or could not add ``room`` tokens to."""
    longest = model.config.seq_len - room
    for i, prompt in enumerate(prompts):
        if not 1 <= len(prompt) <= longest:
            raise ValueError(f"prompt {i} has {len(prompt)} tokens; the model's seq_len takes 1 to {longest} of them")
        check_ids(model, prompt, f"prompt {i}")


def check_ids(model: LanguageModel, ids: Sequence[int], name: str) -> None:
    """Refuse ids outside the vocabulary, with ValueError."""
    wrong = [token for token in ids if not 0 <= token < model.config.vocab_size]
    if wrong:
        raise ValueError(f"{name} holds id {wrong[0]}; the vocabulary has 0 to {model.config.vocab_size - 1}")
