"""Merging: what is carried over, what is new, what is refused."""

from __future__ import annotations

import pytest
import torch

from fastlm.batch import Source
from fastlm.errors import ConfigError
from fastlm.models import build
from fastlm.models.config import ModelConfig
from fastlm.models.generate import pack
from fastlm.models.merge import EMBEDDINGS, merge

SIZES = {"d_model": 32, "heads": 2, "ff": 48, "seq_len": 16, "vocab_size": 30, "dropout": 0.0}
BOS, KO, EN = 2, 5, 6


def make_model(kind: str, **values: object):
    torch.manual_seed({"encoder": 1, "decoder": 2}[kind])
    return build(ModelConfig(model=kind, **{**SIZES, **values})).eval()


def merged(embedding: str = "decoder", **values: object):
    encoder, decoder = make_model("encoder", layers=3, **values), make_model("decoder", layers=2, **values)
    return encoder, decoder, merge(encoder, decoder, embedding=embedding, begin=BOS, languages=(KO, EN)).eval()


def source_of(texts: list[list[int]]) -> Source:
    return Source(*pack(texts, torch.device("cpu")))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_each_side_is_the_model_that_it_was(positions: str, norm: str) -> None:
    """The encoder's states, and the decoder's logits behind either language's token, whatever the source says."""
    encoder, decoder, model = merged("separate", positions=positions, norm=norm)
    source, text = source_of([[2, 9, 8, 3], [2, 3]]), [BOS, 11, 12, 13]
    with torch.no_grad():
        memory = model.encode(source)
        alone = encoder.hidden_states(source.tokens, source.positions, source.cu_seqlens, source.max_seqlen)
        assert torch.equal(memory.hidden, alone)
        packed = pack([text, text[:2]], torch.device("cpu"))
        expected = decoder.hidden_states(*packed)
        for language in (KO, EN):
            tokens = packed[0].where(packed[0] != BOS, language)
            hidden = model.decoder.hidden_states(tokens, *packed[1:], memory=memory)
            if norm == "pre":
                torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-6)
            else:  # its new norm closes a sum of its own
                assert hidden.shape == expected.shape


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_the_table_of_tokens(embedding: str) -> None:
    encoder, decoder, model = merged(embedding)
    tables = {"encoder": encoder.embedding.tokens.weight, "decoder": decoder.embedding.tokens.weight}
    tables["mean"] = (tables["encoder"] + tables["decoder"]) / 2
    shared = model.encoder.embedding.tokens is model.decoder.embedding.tokens
    assert shared == (embedding != "separate")
    words = [i for i in range(30) if i not in (KO, EN)]
    expected = tables["decoder" if embedding == "separate" else embedding]
    assert torch.equal(model.decoder.embedding.tokens.weight[words], expected[words])
    assert torch.equal(model.decoder.embedding.tokens.weight[[KO, EN]], expected[[BOS, BOS]])
    if embedding == "separate":
        assert torch.equal(model.encoder.embedding.tokens.weight, tables["encoder"])


def test_sizes_of_the_merged_model() -> None:
    _, _, model = merged()
    assert (model.config.model, model.config.layers, model.config.decoder_layers) == ("seq2seq", 3, 2)
    assert len(model.encoder.blocks) == 3 and len(model.decoder.blocks) == 2


def test_cross_attention_learns_from_the_first_step() -> None:
    _, _, model = merged()
    memory = model.encode(source_of([[2, 9, 8, 3]]))
    model.decoder.hidden_states(*pack([[KO, 4]], torch.device("cpu")), memory=memory).pow(2).sum().backward()
    assert model.decoder.blocks[0].cross_attention.output.weight.grad.any()


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ({"d_model": 64}, {}, "the encoder has --d-model 64, the decoder 32"),
        ({"activation": "gelu"}, {}, "--activation gelu"),
        ({}, {"positions": "rotary"}, "--positions learned, the decoder rotary"),
        ({}, {"vocab_size": 31}, "--vocab-size 30, the decoder 31"),
    ],
)
def test_models_that_do_not_fit_are_refused(encoder: dict, decoder: dict, message: str) -> None:
    pair = make_model("encoder", **encoder), make_model("decoder", **decoder)
    with pytest.raises(ConfigError, match=message):
        merge(*pair, embedding="decoder", begin=BOS, languages=(KO, EN))


def test_a_transform_head_is_left_behind() -> None:
    encoder, decoder = make_model("encoder", head="transform"), make_model("decoder")
    model = merge(encoder, decoder, embedding="decoder", begin=BOS, languages=(KO, EN))
    assert not [name for name, _ in model.named_parameters() if "head" in name]


def test_kinds_exchanged_are_refused() -> None:
    with pytest.raises(ConfigError, match="the encoder to merge is of kind decoder"):
        merge(make_model("decoder"), make_model("encoder"), embedding="decoder", begin=BOS, languages=(KO, EN))
