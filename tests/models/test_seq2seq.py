"""The translation model against its parts, and its search against the probabilities that it is of."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from fastlm.batch import Batch, Source
from fastlm.models import build
from fastlm.models.config import ModelConfig
from fastlm.models.generate import pack
from fastlm.models.seq2seq import Seq2SeqLM
from fastlm.models.translate import Translation, translate

VOCAB, EOS, KO, EN = 20, 3, 5, 6
SOURCES = [[2, 7, 9, 8, 3], [2, 3], [2, 11, 12, 13, 14, 15, 3]]
TARGETS = [[EN, 8, 10], [KO, 9, 9, 12, 13], [EN, 17]]


def make_model(**values: object) -> Seq2SeqLM:
    torch.manual_seed(1)
    base = {"model": "seq2seq", "layers": 2, "decoder_layers": 1, "d_model": 32, "heads": 2, "ff": 48, "seq_len": 12}
    model = build(ModelConfig(**{**base, "vocab_size": VOCAB, "dropout": 0.0, **values}))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    assert isinstance(model, Seq2SeqLM)
    return model


def make_batch(sources: list[list[int]], targets: list[list[int]]) -> Batch:
    tokens, positions, cu_seqlens, longest = pack(targets, torch.device("cpu"))
    rows = torch.arange(len(tokens))
    owner = torch.repeat_interleave(torch.arange(len(targets)), cu_seqlens.diff())
    source = Source(*pack(sources, torch.device("cpu")))
    labels = torch.cat([tokens[1:], tokens[:1]])
    labels[cu_seqlens[1:].long() - 1] = EOS
    return Batch(tokens, positions, cu_seqlens, longest, rows, labels, owner, torch.arange(len(targets)), source)


def row_losses(model: Seq2SeqLM, sources: list[list[int]], targets: list[list[int]]) -> list[Tensor]:
    batch = make_batch(sources, targets)
    output = model.eval().loss(batch)
    return list(output.row_loss.split(batch.cu_seqlens.diff().tolist()))


VARIANTS = {
    "pre": {},
    "post": {"norm": "post"},
    "rotary": {"positions": "rotary"},
    "separate": {"embeddings": "separate", "positions": "sinusoidal"},
}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_packed_pairs_are_pairs_alone(values: dict[str, str]) -> None:
    model = make_model(**values)
    together = row_losses(model, SOURCES, TARGETS)
    for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        torch.testing.assert_close(together[i], row_losses(model, [source], [target])[0], rtol=1e-4, atol=1e-5)


def test_a_target_depends_on_its_own_source_and_on_what_precedes_it() -> None:
    model = make_model()
    before = row_losses(model, SOURCES, TARGETS)
    other = [[2, 7, 9, 8, 3], [2, 19, 3], [2, 11, 12, 13, 14, 15, 3]]
    changed = row_losses(model, other, TARGETS)
    assert [not torch.allclose(a, b) for a, b in zip(before, changed, strict=True)] == [False, True, False]
    later = row_losses(model, SOURCES, [TARGETS[0], [KO, 9, 9, 12, 14], TARGETS[2]])
    torch.testing.assert_close(later[1][:3], before[1][:3])
    assert not torch.allclose(later[1][3:], before[1][3:])


def test_the_decoder_against_pytorchs() -> None:
    """The same weights in torch.nn.TransformerDecoderLayer, pre-LN."""
    model = make_model(embeddings="separate").eval()
    decoder, block = model.decoder, model.decoder.blocks[0]
    peer = torch.nn.TransformerDecoderLayer(32, 2, 48, dropout=0.0, batch_first=True, norm_first=True).eval()
    with torch.no_grad():
        for theirs, ours in (
            (peer.self_attn.in_proj_weight, block.attention.qkv.weight),
            (peer.self_attn.in_proj_bias, block.attention.qkv.bias),
            (
                peer.multihead_attn.in_proj_weight,
                torch.cat([block.cross_attention.q.weight, block.cross_attention.kv.weight]),
            ),
            (
                peer.multihead_attn.in_proj_bias,
                torch.cat([block.cross_attention.q.bias, block.cross_attention.kv.bias]),
            ),
        ):
            theirs.copy_(ours)
        for theirs, ours in (
            (peer.self_attn.out_proj, block.attention.output),
            (peer.multihead_attn.out_proj, block.cross_attention.output),
            (peer.linear1, block.mlp.up),
            (peer.linear2, block.mlp.down),
            (peer.norm1, block.attention_norm),
            (peer.norm2, block.cross_norm),
            (peer.norm3, block.mlp_norm),
        ):
            theirs.weight.copy_(ours.weight)
            theirs.bias.copy_(ours.bias)
        source, target = SOURCES[0], TARGETS[1]
        memory = model.encode(Source(*pack([source], model.device)))
        tokens, positions, cu_seqlens, longest = pack([target], model.device)
        ours = decoder.hidden_states(tokens, positions, cu_seqlens, longest, memory=memory)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(len(target))
        theirs = peer(decoder.embedding(tokens, positions)[None], memory.hidden[None], tgt_mask=mask)[0]
        norm = decoder.final_norm
        theirs = torch.nn.functional.layer_norm(theirs, (32,), norm.weight, norm.bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_every_part_of_a_pass_drops_by_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastlm import ops

    seeds: list[tuple[str, int]] = []

    def spy_on(name: str) -> None:
        real = getattr(ops, name)

        def spy(*args: Tensor, **options: object) -> object:
            if options.get("dropout_p"):
                seeds.append((name if name == "attention" else "hidden", int(options["dropout_seed"])))
            return real(*args, **options)

        monkeypatch.setattr(ops, name, spy)

    for name in ("attention", "layer_norm", "dropout_add_layer_norm"):
        spy_on(name)
    make_model(dropout=0.1, layers=2, decoder_layers=2).train().loss(make_batch(SOURCES, TARGETS))
    encoder, decoder = 1 + 2 * (1 + 2), 1 + 2 * (2 + 3)  # embeddings; per block attentions and residual branches
    assert len(seeds) == len(set(seeds)) == encoder + decoder


def test_shared_and_separate_tables() -> None:
    shared, separate = make_model(), make_model(embeddings="separate")
    assert shared.encoder.embedding.tokens.weight is shared.decoder.embedding.tokens.weight
    more = sum(p.numel() for p in separate.parameters()) - sum(p.numel() for p in shared.parameters())
    assert more == VOCAB * 32


def test_a_language_models_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="the batch has no source"):
        batch = make_batch(SOURCES, TARGETS)
        make_model().loss(Batch(**{**vars(batch), "source": None}))


# Translating


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_greedy_is_the_argmax_step_by_step(values: dict[str, str]) -> None:
    model = make_model(**values).eval()
    found = translate(model, SOURCES, [EN, KO, EN], eos_id=EOS, max_new_tokens=7)
    for source, language, (best,) in zip(SOURCES, (EN, KO, EN), found, strict=True):
        memory, text = model.encode(Source(*pack([source], model.device))), [language]
        for _ in range(7):
            tokens, positions, cu_seqlens, longest = pack([text], model.device)
            hidden = model.decoder.hidden_states(tokens, positions, cu_seqlens, longest, memory=memory)
            new = int((hidden[-1] @ model.decoder.embedding.tokens.weight.T).argmax())
            if new == EOS:
                break
            text.append(new)
        assert list(best.ids) == text[1:]


def test_wide_beams_find_the_best_of_all_translations() -> None:
    """Of at most two tokens: all of them are scored."""
    model = make_model().eval()
    tokens = [i for i in range(VOCAB) if i != EOS]
    every = [(), *((a,) for a in tokens), *itertools.product(tokens, tokens)]
    losses = row_losses(model, [SOURCES[0]] * len(every), [[EN, *ids] for ids in every])
    for penalty in (0.0, 1.0, 2.0):
        options = {"beams": VOCAB**2, "length_penalty": penalty, "max_new_tokens": 3}
        (found,) = translate(model, SOURCES[:1], [EN], eos_id=EOS, **options)
        scores = [-float(loss.sum()) / len(loss) ** penalty for loss in losses]
        best = sorted(map(Translation, scores, every), reverse=True)[:5]
        ended = [one for one in found if len(one.ids) < 3][:5]
        assert [one.ids for one in ended] == [one.ids for one in best]
        assert [one.score for one in ended] == pytest.approx([one.score for one in best], rel=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_batches_do_not_change_translations(beams: int) -> None:
    model = make_model().eval()

    def run(budget: int) -> list[list[Translation]]:
        options = {"beams": beams, "max_new_tokens": 6, "batch_tokens": budget}
        return translate(model, SOURCES, [EN, KO, EN], eos_id=EOS, **options)

    together = run(10_000)
    assert all(len(best) == beams and best == sorted(best, reverse=True) for best in together)
    for apart in (run(1), run(30)):
        for best, alone in zip(together, apart, strict=True):
            assert [one.ids for one in alone] == [one.ids for one in best]
            assert [one.score for one in alone] == pytest.approx([one.score for one in best], rel=1e-5)


def test_sources_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = make_model(), []
    model.encoder.blocks[0].register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0].residual)))
    translate(model, SOURCES, [EN] * 3, eos_id=EOS, beams=2, max_new_tokens=5)
    assert calls == [sum(map(len, SOURCES))]


@pytest.mark.parametrize(
    ("sources", "settings", "message"),
    [
        ([[]], {}, "source 0 has 0 tokens"),
        ([[2] * 13], {}, "source 0 has 13 tokens; the model's seq_len takes 1 to 12"),
        ([[2, 20]], {}, "source 0 holds id 20"),
        ([[2]], {"beams": 0}, "beams is 0"),
        ([[2]], {"banned": [20]}, "languages or banned holds id 20"),
    ],
)
def test_translate_refuses(sources: list[list[int]], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translate(make_model(), sources, [EN], eos_id=EOS, **settings)


def test_pairs_are_learnt_by_heart() -> None:
    """Twelve random pairs in both directions; either search then writes them."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(7, VOCAB, (4 + i % 3,), generator=generator).tolist() for i in range(24)]
    sources = [[2, *text, 3] for text in texts]
    targets = [[EN if i % 2 else KO, *texts[i ^ 1]] for i in range(24)]
    torch.manual_seed(0)
    sizes = {"layers": 2, "d_model": 64, "heads": 4, "ff": 128, "seq_len": 12, "vocab_size": VOCAB, "dropout": 0.0}
    model, batch = build(ModelConfig(model="seq2seq", **sizes)), make_batch(sources, targets)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch, reduction="mean").loss.backward()
        optimizer.step()
    languages = [target[0] for target in targets]
    for beams in (1, 4):
        found = translate(model, sources, languages, eos_id=EOS, beams=beams)
        assert [list(best[0].ids) for best in found] == [target[1:] for target in targets]
