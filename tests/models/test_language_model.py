"""Properties that every language model keeps, encoder or decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from fastlm import ops
from fastlm.batch import Batch
from fastlm.errors import ConfigError
from fastlm.models import LanguageModel, build, language_model
from fastlm.models.config import ModelConfig
from fastlm.nn.embedding import PackedEmbedding
from fastlm.nn.norm import StreamNorm

MakeBatch = Callable[..., Batch]

VOCAB = 50
LENGTHS = (6, 3, 9, 1)
KINDS = pytest.mark.parametrize("kind", ["encoder", "decoder"])


def make_model(kind: str, **choices: object) -> LanguageModel:
    settings = {"layers": 2, "d_model": 32, "heads": 2, "ff": 64, "dropout": 0.0, "seq_len": 16, "vocab_size": VOCAB}
    torch.manual_seed(0)
    return build(ModelConfig(model=kind, **{**settings, **choices}))


def logits_of(model: LanguageModel, batch: Batch, rows: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen, rows=rows)


def gradients(model: LanguageModel, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    model.loss(batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# What comes out


@KINDS
def test_logits_have_a_row_per_token_and_a_column_per_id(kind: str, make_batch: MakeBatch) -> None:
    batch = make_batch(LENGTHS, VOCAB)
    assert logits_of(make_model(kind), batch).shape == (sum(LENGTHS), VOCAB)


@KINDS
def test_rows_are_the_rows_of_all_logits(kind: str, make_batch: MakeBatch) -> None:
    model, batch = make_model(kind), make_batch(LENGTHS, VOCAB)
    rows = torch.tensor([0, 4, 5, 9, 17, 18, 18])  # none of the second sentence, one of one token, one row twice
    torch.testing.assert_close(logits_of(model, batch, rows), logits_of(model, batch)[rows])


@KINDS
def test_rows_out_of_order_are_refused(kind: str, make_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match="rows must be ascending"):
        logits_of(make_model(kind), make_batch(LENGTHS, VOCAB), torch.tensor([3, 1]))


@KINDS
def test_loss_is_cross_entropy_of_the_logits_at_the_targets(kind: str, make_batch: MakeBatch) -> None:
    model, batch = make_model(kind), make_batch(LENGTHS, VOCAB, every=2)
    logits = logits_of(model, batch)[batch.target_rows]
    got = model.loss(batch)
    want = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    torch.testing.assert_close(got.row_loss, want)
    torch.testing.assert_close(got.loss.detach(), want.sum())
    assert torch.equal(got.row_correct, logits.argmax(-1) == batch.targets)
    smoothed = torch.nn.functional.cross_entropy(logits, batch.targets, label_smoothing=0.1)
    torch.testing.assert_close(model.loss(batch, label_smoothing=0.1, reduction="mean").loss.detach(), smoothed)


@KINDS
@pytest.mark.parametrize("width", [32, 512, 1024])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_first_loss_is_near_that_of_guessing(kind: str, width: int, positions: str, make_batch: MakeBatch) -> None:
    vocab = 8000
    heads = 2 if width == 32 else 8
    model = make_model(kind, d_model=width, heads=heads, vocab_size=vocab, positions=positions)
    batch = make_batch((12, 7, 16), vocab)
    assert model.loss(batch, reduction="mean").loss.item() == pytest.approx(math.log(vocab), abs=0.6)


# What depends on what


@KINDS
def test_a_sentence_does_not_see_its_neighbours(kind: str, make_batch: MakeBatch) -> None:
    model, batch = make_model(kind), make_batch(LENGTHS, VOCAB)
    before = logits_of(model, batch)
    batch.tokens[6:9] = (batch.tokens[6:9] + 1) % VOCAB  # the second sentence
    after = logits_of(model, batch)
    assert torch.equal(before[:6], after[:6]) and torch.equal(before[9:], after[9:])
    assert not torch.isclose(before[6:9], after[6:9]).all(-1).any()


@KINDS
def test_permuting_the_sentences_permutes_the_logits(kind: str, make_batch: MakeBatch) -> None:
    model, batch = make_model(kind), make_batch(LENGTHS, VOCAB)
    order = [2, 0, 3, 1]
    permuted = make_batch([LENGTHS[i] for i in order], VOCAB)
    starts = batch.cu_seqlens.tolist()
    rows = torch.cat([torch.arange(starts[i], starts[i + 1]) for i in order])
    permuted.tokens.copy_(batch.tokens[rows])
    torch.testing.assert_close(logits_of(model, permuted), logits_of(model, batch)[rows])


def changed_rows(kind: str, at: int, make_batch: MakeBatch) -> list[bool]:
    """Which rows of one sentence of 9 tokens change with its token ``at``."""
    model, batch = make_model(kind), make_batch((9,), VOCAB)
    before = logits_of(model, batch)
    batch.tokens[at] = (batch.tokens[at] + 1) % VOCAB
    return (before != logits_of(model, batch)).any(-1).tolist()


def test_decoder_sees_no_later_token_and_encoder_sees_all(make_batch: MakeBatch) -> None:
    assert changed_rows("decoder", 4, make_batch) == [False] * 4 + [True] * 5
    assert changed_rows("encoder", 4, make_batch) == [True] * 9


@KINDS
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_word_order_matters(kind: str, positions: str, make_batch: MakeBatch) -> None:
    model, batch = make_model(kind, positions=positions), make_batch((4,), VOCAB)
    batch.tokens.copy_(torch.tensor([7, 8, 9, 10]))
    before = logits_of(model, batch)[3]
    batch.tokens.copy_(torch.tensor([8, 7, 9, 10]))
    assert not torch.allclose(before, logits_of(model, batch)[3], rtol=0, atol=1e-6)


# Gradients


@KINDS
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_parameter_learns(kind: str, norm: str, make_batch: MakeBatch) -> None:
    model = make_model(kind, norm=norm, head="transform" if kind == "encoder" else "tied")
    grads = gradients(model, make_batch(LENGTHS, VOCAB, every=2))
    assert grads.keys() == dict(model.named_parameters()).keys()
    assert [name for name, grad in grads.items() if not grad.any()] == []


@KINDS
@pytest.mark.parametrize("lengths", [(), (0, 0), LENGTHS], ids=["no sentence", "empty sentences", "no target"])
def test_nothing_to_predict_is_loss_zero_with_zero_gradients(
    kind: str, lengths: Sequence[int], make_batch: MakeBatch
) -> None:
    model = make_model(kind, dropout=0.1, head="transform" if kind == "encoder" else "tied")
    batch = make_batch(lengths, VOCAB, every=100)
    if lengths == LENGTHS:
        none = torch.empty(0, dtype=torch.int64)
        batch = Batch(**{**vars(batch), "target_rows": none, "targets": none, "target_sentences": none})
    assert model.loss(batch).loss.item() == 0
    grads = gradients(model, batch)
    assert grads.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads.values())


def test_shared_embedding_gets_the_gradient_of_input_and_output(make_batch: MakeBatch) -> None:
    model, batch = make_model("decoder"), make_batch((5,), VOCAB)
    batch.tokens.copy_(torch.tensor([1, 2, 3, 4, 5]))
    batch.targets.copy_(torch.tensor([6, 7, 8, 9, 10]))
    shared = gradients(model, batch)["embedding.tokens.weight"]

    table = model.embedding.tokens.weight
    apart = table.detach().clone().requires_grad_()
    hidden = model.hidden_states(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)
    logits = hidden @ apart.T
    (from_input, from_output) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum"), (table, apart)
    )
    assert from_input.any() and from_output.any()
    torch.testing.assert_close(shared, from_input + from_output)


# Dropout


@KINDS
def test_dropout_is_on_in_training_only_and_fixed_by_the_seed(kind: str, make_batch: MakeBatch) -> None:
    model, batch = make_model(kind, dropout=0.3), make_batch(LENGTHS, VOCAB)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return logits_of(model, batch)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    model.eval()
    assert torch.equal(run(1), run(2))


def test_attention_dropout_alone_is_fixed_by_the_seed(make_batch: MakeBatch) -> None:
    model, batch = make_model("encoder", dropout=0.5), make_batch(LENGTHS, VOCAB)
    plain = logits_of(model.eval(), batch)
    model.train()
    for module in model.modules():
        if isinstance(module, (PackedEmbedding, StreamNorm)):
            module.dropout = 0.0

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return logits_of(model, batch)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2)) and not torch.equal(run(1), plain)


@KINDS
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_place_drops_by_a_seed_of_its_own(
    kind: str, norm: str, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two per block and the embedding for hidden states, one per block for attention, in each forward pass."""
    seeds: dict[str, list[int]] = {"attention": [], "layer_norm": [], "dropout_add_layer_norm": []}

    def spy_on(name: str) -> None:
        real = getattr(ops, name)

        def spy(*args: Tensor, dropout_seed: Tensor | None = None, **options: object) -> object:
            if options.get("dropout_p"):
                seeds[name].append(int(dropout_seed))
            return real(*args, dropout_seed=dropout_seed, **options)

        monkeypatch.setattr(ops, name, spy)

    for name in seeds:
        spy_on(name)
    model, batch = make_model(kind, norm=norm, layers=3, dropout=0.1), make_batch(LENGTHS, VOCAB)
    logits_of(model, batch)
    logits_of(model, batch)
    hidden = seeds["layer_norm"] + seeds["dropout_add_layer_norm"]
    assert len(hidden) == len(set(hidden)) == 2 * (2 * 3 + 1)
    assert len(seeds["attention"]) == len(set(seeds["attention"])) == 2 * 3


@KINDS
def test_dropout_of_zero_draws_nothing(kind: str, make_batch: MakeBatch) -> None:
    model = make_model(kind)
    state = torch.get_rng_state()
    logits_of(model, make_batch(LENGTHS, VOCAB))
    assert torch.equal(state, torch.get_rng_state())


# Precision and refusals


@KINDS
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_bf16_autocast_stays_close(kind: str, positions: str, make_batch: MakeBatch) -> None:
    model = make_model(kind, positions=positions, activation="gelu")  # smooth: no gradient flips with a sign
    batch = make_batch(LENGTHS, VOCAB, every=2)
    exact_loss, exact = model.loss(batch).loss.item(), gradients(model, batch)
    sums: list[Tensor] = []
    handle = model.final_norm.register_forward_hook(lambda module, args, output: sums.append(output.residual))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch).loss
        hidden = model.hidden_states(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)
    handle.remove()
    model.zero_grad()
    loss.backward()
    assert sums[0].dtype == torch.float32, "the residual stream stays in fp32"
    assert hidden.dtype == torch.bfloat16, "norms give what the next product takes"
    assert loss.item() == pytest.approx(exact_loss, rel=1e-2)
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        assert (p.grad - exact[name]).norm() <= 0.05 * exact[name].norm() + 1e-6, name


@KINDS
@pytest.mark.parametrize("lengths", [LENGTHS, (6, 10)])  # the second needs a token of no sentence for its targets alone
def test_rows_of_no_sentence_change_nothing(
    kind: str, lengths: Sequence[int], make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = make_model(kind).double(), make_batch(lengths, VOCAB, every=2)
    loss, alone = model.loss(batch).loss, gradients(model, batch)
    logits = logits_of(model, batch)
    monkeypatch.setattr(language_model, "_keeps_shapes", lambda device: True)
    torch.testing.assert_close(model.loss(batch).loss, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(logits_of(model, batch), logits, rtol=1e-12, atol=1e-12)
    for name, grad in gradients(model, batch).items():
        torch.testing.assert_close(grad, alone[name], rtol=1e-10, atol=1e-14, msg=name)


def rows_multiplied(kind: str, batch: Batch) -> tuple[int, int]:
    """Rows that the first block and the head see in bf16."""
    model = make_model(kind, d_model=16, heads=1, ff=16)
    seen: list[int] = []
    for norm in (model.blocks[0].attention_norm, model.final_norm):
        norm.register_forward_hook(lambda module, args, output: seen.append(output.y.shape[0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model.loss(batch).row_loss.shape == batch.targets.shape
    return seen[0], seen[1]


@KINDS
@pytest.mark.parametrize(
    ("tokens", "every", "want"),
    [
        (0, 1, (0, 0)),
        (14, 1, (16, 16)),
        (10, 3, (16, 16)),  # twelve queries to add, which read one token
        (32, 2, (32, 16)),  # no row to add
        (32, 3, (48, 16)),  # 11 targets: five more read a token that must be added
        (500, 3, (512, 176)),
        (520, 8, (544, 80)),
        (1030, 2, (1088, 544)),
    ],
)
def test_bf16_adds_rows_in_steps_by_size(
    kind: str, tokens: int, every: int, want: tuple[int, int], make_batch: MakeBatch
) -> None:
    lengths = [10] * (tokens // 10) + [tokens % 10] * (tokens % 10 > 0)
    assert rows_multiplied(kind, make_batch(lengths, VOCAB, every=every)) == want


@KINDS
def test_batches_of_many_sizes_share_few_shapes_in_bf16(kind: str, make_batch: MakeBatch) -> None:
    batches = [make_batch([10] * sentences, VOCAB, every=8) for sentences in range(103, 128)]
    assert {rows_multiplied(kind, batch)[0] for batch in batches} == {1088, 1152, 1216, 1280}


@KINDS
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_seq_len_is_a_limit(kind: str, positions: str, make_batch: MakeBatch) -> None:
    model = make_model(kind, positions=positions)
    assert logits_of(model, make_batch((16, 2), VOCAB)).isfinite().all()
    with pytest.raises(ValueError, match=r"17 tokens .* seq_len of 16"):
        logits_of(model, make_batch((17, 2), VOCAB))


def test_a_model_without_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size is 0"):
        build(ModelConfig())


def test_a_decoder_with_the_encoders_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="--head transform is the encoder's"):
        build(ModelConfig(model="decoder", head="transform", vocab_size=VOCAB))


@KINDS
def test_names_of_the_weights(kind: str) -> None:
    """They are what checkpoints hold: a change here needs a migration."""
    model = make_model(kind, layers=1, head="transform" if kind == "encoder" else "tied")
    norms = ["embedding.norm", "blocks.0.attention_norm", "blocks.0.mlp_norm", "final_norm"]
    linears = [f"blocks.0.{name}" for name in ("attention.qkv", "attention.output", "mlp.up", "mlp.down")]
    names = {f"{module}.{part}" for module in norms + linears for part in ("weight", "bias")}
    names |= {"embedding.tokens.weight", "embedding.positions.weight"}
    if kind == "encoder":
        names |= {"head.dense.weight", "head.dense.bias", "head.norm.weight", "head.norm.bias", "head.bias"}
    assert set(model.state_dict()) == names


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_fixed_position_tables_are_not_weights(positions: str) -> None:
    names = make_model("encoder", positions=positions).state_dict()
    assert not [name for name in names if "position" in name or "rotary" in name or "sinusoid" in name]


def test_initial_values() -> None:
    weights = make_model("encoder", layers=8, d_model=128, ff=256, heads=4, head="transform").state_dict()
    std = {name: w.std().item() for name, w in weights.items() if w.ndim == 2}
    near = dict(rel=0.1)
    for name, shape in {
        "blocks.3.attention.qkv.weight": (384, 128),
        "blocks.3.attention.output.weight": (128, 128),
        "blocks.3.mlp.up.weight": (256, 128),
        "blocks.3.mlp.down.weight": (128, 256),
        "head.dense.weight": (128, 128),
    }.items():
        assert weights[name].shape == shape
        assert std[name] == pytest.approx(math.sqrt(2 / sum(shape)), **near), name
    assert std["embedding.tokens.weight"] == pytest.approx(0.02, **near)
    vectors = {name: w for name, w in weights.items() if w.ndim == 1}
    assert all((w == (1 if name.endswith("norm.weight") else 0)).all() for name, w in vectors.items())
