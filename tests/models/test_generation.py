"""Generation and filling against what the logits say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fastlm.models import LanguageModel, build
from fastlm.models.config import ModelConfig
from fastlm.models.generate import fill, generate, largest

VOCAB, EOS, MASK = 30, 3, 4
PROMPTS = [[2, 7, 9], [2], [2, 11, 12, 13, 14]]


def make_model(kind: str, seed: int = 0) -> LanguageModel:
    """Confident and irregular, so that every step and every position prefers another token."""
    torch.manual_seed(seed)
    config = ModelConfig(model=kind, layers=1, d_model=32, heads=2, ff=32, dropout=0.5, seq_len=12, vocab_size=VOCAB)
    model = build(config)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    return model


def logits_alone(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """(S, V) of one sentence, in evaluation mode."""
    n = len(ids)
    model.eval()
    with torch.no_grad():
        logits = model(torch.tensor(ids), torch.arange(n), torch.tensor([0, n], dtype=torch.int32), n)
    model.train()
    return logits


def greedy_alone(model: LanguageModel, prompt: Sequence[int], steps: int, eos: int) -> list[int]:
    ids = list(prompt)
    for _ in range(steps):
        new = int(logits_alone(model, ids)[-1].argmax())
        if new == eos:
            break
        ids.append(new)
    return ids[len(prompt) :]


def draws(model: LanguageModel, count: int, **settings: float) -> Counter[int]:
    """The first token after one prompt, drawn ``count`` times."""
    out = generate(model, [PROMPTS[0]] * count, max_new_tokens=1, eos_id=-1, temperature=1.0, **settings)
    return Counter(ids[0] for ids in out)


# Greedy


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_the_argmax_step_by_step(seed: int) -> None:
    model = make_model("decoder", seed)
    out = generate(model, PROMPTS, max_new_tokens=6, eos_id=EOS)
    assert out == [greedy_alone(model, prompt, 6, EOS) for prompt in PROMPTS]


def test_each_text_stops_at_its_own_end() -> None:
    model = make_model("decoder")
    free = generate(model, PROMPTS, max_new_tokens=6, eos_id=-1)
    assert all(len(ids) == 6 for ids in free)
    eos = free[0][2]
    stopped = generate(model, PROMPTS, max_new_tokens=6, eos_id=eos)
    assert stopped[0] == free[0][: free[0].index(eos)]
    assert stopped == [ids[: ids.index(eos)] if eos in ids else ids for ids in free]


def test_texts_end_at_seq_len() -> None:
    out = generate(make_model("decoder"), PROMPTS, max_new_tokens=100, eos_id=-1)
    assert [len(prompt) + len(new) for prompt, new in zip(PROMPTS, out, strict=True)] == [12, 12, 12]


def test_nothing_asked_nothing_written() -> None:
    model = make_model("decoder")
    assert generate(model, PROMPTS, max_new_tokens=0, eos_id=EOS) == [[], [], []]
    assert generate(model, [], max_new_tokens=5, eos_id=EOS) == []


def test_banned_ids_are_never_written() -> None:
    model = make_model("decoder")
    banned = sorted({token for ids in generate(model, PROMPTS, max_new_tokens=6, eos_id=-1) for token in ids})
    for temperature in (0.0, 1.0):
        out = generate(model, PROMPTS, max_new_tokens=6, eos_id=-1, banned=banned, temperature=temperature)
        assert not {token for ids in out for token in ids} & set(banned)


# Sampling


def test_draws_follow_the_softmax() -> None:
    model = make_model("decoder")
    probabilities = logits_alone(model, PROMPTS[0])[-1].softmax(-1)
    counts = draws(model, 2000)
    for token, p in enumerate(probabilities.tolist()):
        spread = (2000 * p * (1 - p)) ** 0.5
        assert abs(counts[token] - 2000 * p) <= 5 * spread + 1, token


def test_temperature_sharpens_and_flattens() -> None:
    model = make_model("decoder")
    best = generate(model, [PROMPTS[0]], max_new_tokens=1, eos_id=-1)[0][0]

    def share(temperature: float) -> float:
        out = generate(model, [PROMPTS[0]] * 300, max_new_tokens=1, eos_id=-1, temperature=temperature)
        return out.count([best]) / 300

    assert share(1e-300) == share(0.02) == 1.0 > share(1.0) > share(50.0)


def test_top_k_draws_among_the_k_likeliest() -> None:
    model = make_model("decoder")
    likeliest = logits_alone(model, PROMPTS[0])[-1].topk(3).indices.tolist()
    assert set(draws(model, 300, top_k=3)) == set(likeliest)
    assert set(draws(model, 20, top_k=1)) == {likeliest[0]}
    assert draws(model, 20, top_k=VOCAB + 5) == draws(model, 20)


def test_top_p_draws_among_the_fewest_that_reach_p() -> None:
    model = make_model("decoder")
    values, ids = logits_alone(model, PROMPTS[0])[-1].softmax(-1).sort(descending=True)
    p = (values[0] + values[1] + values[2] / 2).item()  # two do not reach it, three do
    assert set(draws(model, 400, top_p=p)) == set(ids[:3].tolist())
    assert set(draws(model, 20, top_p=1e-6)) == {int(ids[0])}


def test_seed_fixes_the_draws_and_neighbours_do_not_change_them() -> None:
    model = make_model("decoder")

    def run(prompts: list[list[int]], seed: int) -> list[list[int]]:
        return generate(model, prompts, max_new_tokens=6, eos_id=EOS, temperature=1.5, seed=seed)

    torch.manual_seed(1)
    first = run(PROMPTS, 1)
    torch.manual_seed(2)
    assert run(PROMPTS, 1) == first != run(PROMPTS, 2)
    assert run(PROMPTS[:2], 1) == first[:2]


# Filling


def test_fill_gives_the_softmax_at_every_mask() -> None:
    model = make_model("encoder")
    ids = [2, MASK, 9, 10, MASK, 3]
    probabilities = logits_alone(model, ids).softmax(-1)
    for row, candidates in zip((1, 4), fill(model, ids, MASK, 5), strict=True):
        best = probabilities[row].topk(5)
        assert [i for i, _ in candidates] == best.indices.tolist()
        assert [p for _, p in candidates] == pytest.approx(best.values.tolist(), rel=1e-4)


def test_fill_leaves_out_what_is_banned() -> None:
    model = make_model("encoder")
    ids = [2, MASK, 9, 3]
    everything = fill(model, ids, MASK, 100)[0]
    assert len(everything) == VOCAB and sum(p for _, p in everything) == pytest.approx(1.0)
    banned = [everything[0][0], everything[2][0]]
    left = fill(model, ids, MASK, 100, banned=banned)[0]
    assert left == [pair for pair in everything if pair[0] not in banned]


def test_fill_without_a_mask() -> None:
    assert fill(make_model("encoder"), [2, 9, 3], MASK, 5) == []


# The model is left as it was; what cannot be done is refused


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(training: bool) -> None:
    model = make_model("decoder").train(training)
    generate(model, PROMPTS, max_new_tokens=2, eos_id=EOS)
    assert model.training is training
    assert all(module.training is training for module in model.modules())


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([[2], [2] * 12], {}, "prompt 1 has 12 tokens; the model's seq_len takes 1 to 11"),
        ([[2], []], {}, "prompt 1 has 0 tokens"),
        ([[2, 30]], {}, "prompt 0 holds id 30; the vocabulary has 0 to 29"),
        ([[2, -1]], {}, "prompt 0 holds id -1"),
        ([[2]], {"banned": [30]}, "banned holds id 30"),
        ([[2]], {"banned": range(30)}, "leave some to write"),
        ([[2]], {"temperature": -1.0}, "temperature is -1.0"),
        ([[2]], {"temperature": float("nan")}, "temperature is nan"),
        ([[2]], {"temperature": float("inf")}, "temperature is inf"),
        ([[2]], {"top_k": -1}, "top_k is -1"),
        ([[2]], {"top_p": 0.0}, "top_p is 0.0"),
        ([[2]], {"top_p": 1.5}, "top_p is 1.5"),
        ([[2]], {"max_new_tokens": -1}, "max_new_tokens is -1"),
    ],
)
def test_generate_refuses(prompts: list[list[int]], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(make_model("decoder"), prompts, **{"max_new_tokens": 3, "eos_id": EOS, **settings})


@pytest.mark.parametrize(
    ("ids", "top_k", "message"),
    [([2] * 13, 5, "prompt 0 has 13 tokens; .* takes 1 to 12"), ([2, MASK], 0, "top_k is 0"), ([2, 99], 5, "id 99")],
)
def test_fill_refuses(ids: list[int], top_k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fill(make_model("encoder"), ids, MASK, top_k)


def test_the_other_kind_of_model_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model of kind decoder; the one given is of kind encoder"):
        generate(make_model("encoder"), PROMPTS, max_new_tokens=3, eos_id=EOS)
    with pytest.raises(ValueError, match="needs a model of kind encoder; the one given is of kind decoder"):
        fill(make_model("decoder"), [2, MASK], MASK, 5)


@pytest.mark.parametrize("width", [5, 64, 300, 1000, 4096])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_largest_values_are_topks(width: int, count: int) -> None:
    """Also where the best lie in one block, in the rest behind the blocks, or are not finite."""
    logits = torch.randn(7, width, generator=torch.Generator().manual_seed(width + count))
    logits[1, : width // 2] += 10
    logits[2, -3:] += 20
    logits[3] = -torch.inf
    logits[4, 1:] = -torch.inf
    values, ids = largest(logits, count)
    wanted = logits.topk(min(count, width))
    assert torch.equal(values, wanted.values)
    assert torch.equal(logits.gather(1, ids), values)
    assert all(len(set(row)) == len(row) for row in ids.tolist())
