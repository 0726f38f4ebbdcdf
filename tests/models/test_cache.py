"""Reading with kept keys and values against reading everything again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastlm.batch import Source
from fastlm.models import LanguageModel, build
from fastlm.models.cache import KeyValueCache
from fastlm.models.config import ModelConfig
from fastlm.models.generate import generate, pack
from fastlm.models.seq2seq import Seq2SeqLM

VOCAB = 50
PROMPTS = [[2, 7, 9, 8], [2], [2, 11, 12, 13, 14, 15, 16], [2, 3]]


def make_model(**values: object) -> LanguageModel:
    torch.manual_seed(3)
    base = {"model": "decoder", "layers": 3, "d_model": 64, "heads": 4, "ff": 64, "seq_len": 24, "vocab_size": VOCAB}
    model = build(ModelConfig(**{**base, **values}))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    return model.eval().requires_grad_(False)


def again(model: LanguageModel, texts: list[list[int]]) -> Tensor:
    """Logits of what follows each text, from all of it."""
    tokens, positions, cu_seqlens, longest = pack(texts, model.device)
    return model(tokens, positions, cu_seqlens, longest, rows=cu_seqlens[1:].long() - 1)


VARIANTS = {
    "learned": {},
    "sinusoidal": {"positions": "sinusoidal"},
    "rotary": {"positions": "rotary"},
    "post": {"norm": "post", "activation": "gelu"},
}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_every_step_is_that_of_the_whole_text(values: dict[str, str], dtype: torch.dtype) -> None:
    """Sentences of unlike lengths, some dropped, exchanged and doubled on the way."""
    model = make_model(**values)
    tolerance = {"rtol": 0.05, "atol": 0.1} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    if dtype == torch.float64:
        model, tolerance = model.double(), {"rtol": 1e-10, "atol": 1e-10}
    texts = [list(prompt) for prompt in PROMPTS]
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        cache, logits = KeyValueCache.read(model, *pack(texts, model.device), room=14)
        torch.testing.assert_close(logits, again(model, texts), **tolerance)
        for kept in ([0, 1, 2, 3], [3, 1, 2], [2, 2, 0], [1, 0, 2, 0], [0, 1, 2, 3]):
            cache.select(kept)
            texts = [[*texts[i], (5 * i + 7 * place + len(texts[i])) % VOCAB] for place, i in enumerate(kept)]
            logits = cache.append(torch.tensor([text[-1] for text in texts]))
            torch.testing.assert_close(logits, again(model, texts), **tolerance)
            assert cache.lengths == [len(text) for text in texts]


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_generated_texts_are_those_without_a_cache(values: dict[str, str], batch_tokens: int) -> None:
    model, eos = make_model(**values), 3
    expected = []
    for prompt in PROMPTS:
        text = list(prompt)
        while len(text) < len(prompt) + 15 and len(text) < 24:
            new = int(again(model, [text])[0].argmax())
            if new == eos:
                break
            text.append(new)
        expected.append(text[len(prompt) :])
    assert generate(model, PROMPTS, max_new_tokens=15, eos_id=eos, batch_tokens=batch_tokens) == expected


def test_each_token_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = make_model(), []
    model.blocks[1].register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0].residual)))
    out = generate(model, PROMPTS, max_new_tokens=5, eos_id=-1)
    assert [len(new) for new in out] == [5] * 4
    assert rows == [sum(map(len, PROMPTS)), 4, 4, 4, 4]


def test_a_full_cache_says_so() -> None:
    model = make_model()
    cache, _ = KeyValueCache.read(model, *pack([[2, 4, 5], [2]], model.device), room=4)
    cache.append(torch.tensor([6, 6]))
    with pytest.raises(ValueError, match="a sentence has 4 tokens, and the cache was made for no more"):
        cache.append(torch.tensor([6, 6]))


SOURCES = [[2, 7, 9, 3], [2, 30, 31, 32, 33, 3], [2, 3]]


@pytest.mark.parametrize("kept", [[0, 0, 1, 1, 2, 2], [2, 2, 0, 0], [1], [0, 0, 1], [2, 0, 2, 0, 1, 1]], ids=str)
def test_sentences_share_their_sources(kept: list[int]) -> None:
    """Each goes on reading its own source, whoever else reads it; those that nobody reads are given up."""
    torch.manual_seed(3)
    sizes = {"layers": 2, "d_model": 64, "heads": 4, "ff": 64, "seq_len": 24, "vocab_size": VOCAB}
    model = build(ModelConfig(model="seq2seq", **sizes)).eval().requires_grad_(False)
    assert isinstance(model, Seq2SeqLM)
    for p in model.parameters():
        p += 0.2 * torch.randn_like(p)

    def whole(texts: list[list[int]], sources: list[list[int]]) -> Tensor:
        memory = model.encode(Source(*pack(sources, model.device)))
        tokens, positions, cu_seqlens, longest = pack(texts, model.device)
        hidden = model.decoder.hidden_states(
            tokens, positions, cu_seqlens, longest, rows=cu_seqlens[1:].long() - 1, memory=memory
        )
        return hidden @ model.decoder.embedding.tokens.weight.T

    texts, sources = [[5], [6, 8], [5]], SOURCES
    memory = model.encode(Source(*pack(sources, model.device)))
    cache, logits = KeyValueCache.read(model.decoder, *pack(texts, model.device), room=24, memory=memory)
    torch.testing.assert_close(logits, whole(texts, sources), rtol=1e-4, atol=1e-4)
    for chosen in (kept, [*range(len(kept))][::-1]):
        cache.select(chosen)
        texts = [[*texts[i], 10 + place] for place, i in enumerate(chosen)]
        sources = [sources[i] for i in chosen]
        logits = cache.append(torch.tensor([text[-1] for text in texts]))
        torch.testing.assert_close(logits, whole(texts, sources), rtol=1e-4, atol=1e-4)
    each = {tuple(source) for source in sources}
    if kept == [0, 0, 1, 1, 2, 2]:
        assert len(cache._sources[0].keys) == len(each)
