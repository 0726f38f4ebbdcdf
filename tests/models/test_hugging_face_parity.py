"""The models are Hugging Face's, weight for weight: copied weights give the same logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastlm.batch import Batch, Source
from fastlm.errors import ConfigError
from fastlm.models import Model, build
from fastlm.models.classify import batch_of
from fastlm.models.config import ModelConfig
from fastlm.models.generate import generate, pack
from fastlm.models.hf import (
    ARCHITECTURES,
    check_exportable,
    has_identity_head,
    hf_config,
    hf_weights,
    model_config,
    read_hf_weights,
)
from fastlm.models.translate import translate

transformers = pytest.importorskip("transformers", reason="parity needs Hugging Face transformers")

VOCAB, PAD, LENGTHS = 70, 0, (9, 4, 12, 1)
SMALL = {"layers": 3, "d_model": 64, "heads": 4, "ff": 96, "seq_len": 12, "vocab_size": VOCAB, "activation": "gelu"}


def make_model(**choices: Any) -> Any:
    torch.manual_seed(0)
    model = build(ModelConfig(**{**SMALL, **choices})).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    return model


def theirs_of(model: Model) -> Any:
    """The model as transformers', by the names that an export gives its weights."""
    plain = hf_config(model.config, pad=PAD, begin=2, end=3)
    config = transformers.AutoConfig.for_model(**plain)
    theirs = getattr(transformers, ARCHITECTURES[model.config.model])(config)
    theirs.load_state_dict(hf_weights(model, pad=PAD))
    return theirs.eval()


CHOICES = {
    "encoder": {"model": "encoder", "head": "transform"},
    "encoder, relu, sinusoids": {
        "model": "encoder",
        "head": "transform",
        "activation": "relu",
        "positions": "sinusoidal",
    },
    "decoder": {"model": "decoder"},
    "decoder, swish, sinusoids": {"model": "decoder", "activation": "swish", "positions": "sinusoidal"},
}
every_choice = pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)


def padded(batch: Batch) -> tuple[Tensor, Tensor]:
    lengths = batch.cu_seqlens.diff()
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.full(real.shape, PAD)
    ids[real] = batch.tokens
    return ids, real


@every_choice
def test_logits(choices: dict[str, str], make_batch: Callable[..., Batch]) -> None:
    model = make_model(**choices)
    batch = make_batch(LENGTHS, VOCAB)
    batch.tokens.clamp_(min=PAD + 1)  # Hugging Face gives a [PAD] token no position
    ids, real = padded(batch)
    with torch.no_grad():
        ours = model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)
        theirs = theirs_of(model)(input_ids=ids, attention_mask=real.long()).logits[real]
    assert ours.std() > 0.5, "logits too flat to tell models apart"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@every_choice
def test_gradient_of_the_shared_embedding(choices: dict[str, str], make_batch: Callable[..., Batch]) -> None:
    model = make_model(**choices)
    batch = make_batch((7,), VOCAB)
    batch.tokens.clamp_(min=PAD + 1)
    theirs = theirs_of(model)
    model.loss(batch).loss.backward()
    logits = theirs(input_ids=batch.tokens[None]).logits[0]
    torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum").backward()
    want = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(model.embedding.tokens.weight.grad, want, rtol=1e-4, atol=1e-4)


def test_the_bare_head_through_a_transform(make_batch: Callable[..., Batch]) -> None:
    model, batch = make_model(model="encoder"), make_batch((9,), VOCAB)
    batch.tokens.clamp_(min=PAD + 1)
    with torch.no_grad():
        ours = model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)
        theirs = theirs_of(model)(input_ids=batch.tokens[None]).logits[0]
    assert (ours - theirs).abs().max() <= 1e-5 * ours.abs().max()


# Translation

EOS, EN = 3, 6
SOURCES = [[2, 7, 9, 8, 3], [2, 30, 3], [2, 11, 12, 13, 14, 15, 3]]


def padded_sources() -> dict[str, Tensor]:
    longest = max(map(len, SOURCES))
    ids = torch.tensor([source + [PAD] * (longest - len(source)) for source in SOURCES])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


@pytest.mark.parametrize("layers", [0, 1])
def test_translation_logits(layers: int) -> None:
    model = make_model(model="seq2seq", decoder_layers=layers)
    target = [EN, 20, 21, 22]
    with torch.no_grad():
        theirs = theirs_of(model)(**padded_sources(), decoder_input_ids=torch.tensor([target] * 3)).logits
        memory = model.encode(Source(*pack(SOURCES, model.device)))
        hidden = model.decoder.hidden_states(*pack([target] * 3, model.device), memory=memory)
        ours = hidden @ model.decoder.embedding.tokens.weight.T
    torch.testing.assert_close(ours.view(3, 4, VOCAB), theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_translations_are_those_of_generate(beams: int, penalty: float, seed: int) -> None:
    model = make_model(model="seq2seq")
    with torch.no_grad():  # an end that is likely enough to be met
        generator = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
        model.decoder.embedding.tokens.weight[EOS] *= 1.5
    ours = translate(
        model, SOURCES, [EN] * 3, eos_id=EOS, beams=beams, length_penalty=penalty, max_new_tokens=10, banned=[PAD]
    )
    theirs = theirs_of(model).generate(
        **padded_sources(),
        decoder_start_token_id=EN,
        eos_token_id=EOS,
        forced_eos_token_id=None,
        bad_words_ids=[[PAD]],
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=penalty,
        early_stopping=False,
        max_new_tokens=10,
        do_sample=False,
    )
    found = [[i for i in row[1:].tolist() if i not in (PAD, EOS)] for row in theirs]
    assert [list(one.ids) for best in ours for one in best] == found


def test_greedy_texts_are_those_of_generate() -> None:
    model = make_model(model="decoder")
    prompts = [[2, 7, 9], [2, 30, 31], [2, 11, 12]]
    ours = generate(model, prompts, max_new_tokens=8, eos_id=EOS, banned=[PAD])
    theirs = theirs_of(model).generate(
        input_ids=torch.tensor(prompts), eos_token_id=EOS, max_new_tokens=8, do_sample=False, bad_words_ids=[[PAD]]
    )
    assert ours == [[i for i in row[3:].tolist() if i not in (PAD, EOS)] for row in theirs]


# Classification

CLASSIFIER: dict[str, Any] = {"model": "classifier", "pooling": "first", "labels": ("나쁘다", "좋다", "모른다")}


def test_class_logits() -> None:
    model = make_model(**CLASSIFIER)
    theirs = theirs_of(model)
    with torch.no_grad():
        ours = model(batch_of(SOURCES, model.device))
        torch.testing.assert_close(ours, theirs(**padded_sources()).logits, rtol=1e-4, atol=2e-5)
    assert [theirs.config.id2label[i] for i in range(3)] == ["나쁘다", "좋다", "모른다"]


# And back

WAYS_BACK: dict[str, dict[str, Any]] = {
    **{name: choice for name, choice in CHOICES.items() if "positions" not in choice},
    "encoder, bare head": {"model": "encoder"},
    "translation": {"model": "seq2seq", "decoder_layers": 1},
    "classifier": CLASSIFIER,
}


def read_back(plain: dict[str, Any], weights: dict[str, Tensor]) -> Model:
    config = model_config(plain)
    if config.model == "encoder" and has_identity_head(weights):
        config = dataclasses.replace(config, head="tied")
    torch.manual_seed(1)
    model = build(config).eval()
    read_hf_weights(model, weights, pad=PAD)
    return model


@pytest.mark.parametrize("choices", WAYS_BACK.values(), ids=WAYS_BACK)
@pytest.mark.parametrize("tied", ["every name", "one name"])
def test_weights_come_back(choices: dict[str, Any], tied: str) -> None:
    model = make_model(**choices)
    weights = hf_weights(model, pad=PAD)
    if tied == "one name":  # as transformers' save_pretrained writes them
        tied_names = theirs_of(model)._tied_weights_keys or ()
        weights = {name: w for name, w in weights.items() if name not in tied_names}
    back = read_back(hf_config(model.config, pad=PAD, begin=2, end=3), weights)
    assert back.config == model.config
    for name, tensor in model.state_dict().items():
        assert back.state_dict()[name].equal(tensor), name


def test_a_type_of_token_becomes_a_part_of_the_positions(make_batch: Callable[..., Batch]) -> None:
    """transformers trains RoBERTa's row of types like any weight."""
    model, batch = make_model(model="encoder", head="transform"), make_batch((9,), VOCAB)
    batch.tokens.clamp_(min=PAD + 1)
    theirs = theirs_of(model)
    with torch.no_grad():
        row = theirs.roberta_prelayernorm.embeddings.token_type_embeddings.weight
        row += torch.randn(row.shape, generator=torch.Generator().manual_seed(0))  # a constant would go in the norm
        back = read_back(hf_config(model.config, pad=PAD, begin=2, end=3), theirs.state_dict())
        ours = back(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)
        torch.testing.assert_close(ours, theirs(input_ids=batch.tokens[None]).logits[0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("final_logits_bias", lambda w: w + 1, "fastlm has no such weight, and it matters"),
        ("lm_head.weight", lambda w: w + 1, "tied to another here, and they differ"),
        ("model.decoder.layer_norm.weight", lambda w: w[:-1], "should be"),
    ],
)
def test_weights_that_fastlm_has_not_are_refused(name: str, change: Callable[[Tensor], Tensor], message: str) -> None:
    model = make_model(model="seq2seq")
    weights = hf_weights(model, pad=PAD)
    weights[name] = change(weights[name])
    with pytest.raises(ConfigError, match=message):
        read_back(hf_config(model.config, pad=PAD, begin=2, end=3), weights)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"model": "classifier", "pooling": "cnn"}, "--pooling cnn: RobertaPreLayerNormForSequenceClassification"),
        ({"norm": "post"}, "--norm post: RobertaPreLayerNormForMaskedLM has nothing of that kind"),
        ({"model": "decoder", "positions": "rotary"}, "--positions rotary: MBartForCausalLM"),
        ({"model": "seq2seq", "embeddings": "separate"}, "--embeddings separate: MBartForConditionalGeneration"),
    ],
)
def test_what_has_no_twin_is_refused(choices: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_exportable(ModelConfig(**choices))
