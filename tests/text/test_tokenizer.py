"""Both tokenizers: nothing is lost, the Hugging Face file is the whole truth, training is deterministic."""

import json
import logging
import os
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm.errors import ConfigError, DataError
from fastlm.text.normalise import normalise
from fastlm.text.pipeline import SMALLEST
from fastlm.text.specials import SPECIAL_TOKENS
from fastlm.text.tokenizer import Tokenizer
from fastlm.text.training import LONGEST_PIECE

KOREAN = [
    "나는 어제 학교에 갔다.",
    "너는 오늘 집에서 쉬었다!",
    "학생들이 도서관에서 책을 읽는다 ㅋㅋ",
    "그는 어제 책을 샀다.",
]
ENGLISH = ["I went to school yesterday.", "You're resting at home today!", "The students read books in the library."]
CORPUS = (KOREAN + ENGLISH) * 20
HARD = [
    "",
    " ",
    "  두   칸  ",
    "줄\n바꿈\r\n탭\t끝\n",
    "▁ Ġ Ċ <0xE2> <unk> </s>",
    "[MASK] [PAD][KO] [MASK",
    "👩\u200d👩\u200d👧 🇰🇷 뷁 쀍",
    "a\u2028b\u0085c\x1c\u3000d",
    "'ll 're don't",
    "각\u11a8 ᄒ",
]


@pytest.fixture(scope="module", params=["byte", "char"])
def tokenizer(request):
    return Tokenizer.train(CORPUS, kind=request.param, vocab_size=400)


@pytest.fixture(scope="module")
def both():
    return [Tokenizer.train(CORPUS, kind=kind, vocab_size=400) for kind in ("byte", "char")]


mixed = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.text(alphabet=st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), max_size=6),
        st.text(alphabet="ᄀ나ᅥᆨᆫ ㅋㅠ", max_size=6),
        st.sampled_from([*HARD, *CORPUS, *SPECIAL_TOKENS, "\u200b", " ", "\n"]),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(mixed)
def test_round_trip_and_character_counts(both, text):
    for tokenizer in both:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == normalise(text)
        assert int(tokenizer.token_characters[ids].sum()) == len(normalise(text))
        assert all(i >= tokenizer.special_count for i in ids)
        assert b"".join(tokenizer.token_bytes[i] for i in ids) == normalise(text).encode()
        assert tokenizer.encode(unicodedata.normalize("NFD", text)) == ids


@pytest.mark.parametrize("text", HARD)
def test_hard_texts(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == normalise(text)


def test_special_tokens_and_facts(tokenizer):
    assert [tokenizer.token(i) for i in range(7)] == list(SPECIAL_TOKENS)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert tokenizer.vocab_size == 400 == len(tokenizer.token_characters) == len(tokenizer.word_starts)
    assert tokenizer.token_characters.dtype == np.int16
    assert tokenizer.word_starts.dtype == np.bool_
    assert not tokenizer.token_characters[:7].any()
    assert tokenizer.word_starts[:7].all()


def test_special_text_is_plain_in_corpora_and_special_in_prompts(tokenizer):
    plain = tokenizer.encode("나는 [MASK] 책")
    assert tokenizer.mask_id not in plain
    assert tokenizer.decode(plain) == "나는 [MASK] 책"
    prompt = tokenizer.encode_with_specials("나는 [MASK] 책")
    # The mask takes the space before it: the word that it stands for begins with that space.
    assert prompt == [*tokenizer.encode("나는"), tokenizer.mask_id, *tokenizer.encode(" 책")]
    assert tokenizer.decode(prompt) == "나는 책"


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_a_corpus_of_token_names_teaches_no_merge_that_spells_one(kind):
    names = [*SPECIAL_TOKENS, "<0xE2>", "<0x0A>"]
    tokenizer = Tokenizer.train(names * 200, kind=kind, vocab_size=600)
    for name in names:
        assert tokenizer.decode(tokenizer.encode(name)) == name
        assert len(tokenizer.encode(name)) > 1


def test_words_begin_with_white_space(tokenizer):
    ids = tokenizer.encode("책을 읽는다.  끝")
    text = [tokenizer.token_bytes[i].decode(errors="replace") for i in ids]
    assert [bool(tokenizer.word_starts[i]) for i in ids] == [t[0].isspace() for t in text]
    assert tokenizer.word_starts[ids].sum() == 3  # " 읽는다.", the lone space, " 끝"; not the first token


def test_batch_equals_single_and_keeps_order(tokenizer):
    texts = [*HARD, *CORPUS[:10], "가 나" * 30_000, *HARD]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(t) for t in texts]
    assert tokenizer.encode_batch([]) == []


def test_long_text_in_pieces_gives_the_ids_of_the_whole(tokenizer):
    text = "나는 어제  학교에\n갔다. I went to school,  \n\n yes. " * 4000
    assert len(text) > 2 * LONGEST_PIECE
    whole = tokenizer._hf.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text) == whole


def test_encoding_time_is_linear_in_one_word_without_a_break(tokenizer):
    def seconds(length):
        started = time.perf_counter()
        ids = tokenizer.encode("가나다" * length)
        assert tokenizer.token_characters[ids].sum() == 3 * length
        return time.perf_counter() - started

    seconds(1000)
    short, long = seconds(30_000), seconds(240_000)
    assert long < 8 * short * 3


def test_saved_file_is_the_whole_truth(tokenizer, tmp_path):
    path = tmp_path / "한글 이름.json"
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    assert (loaded.kind, loaded.digest, loaded.vocab_size) == (tokenizer.kind, tokenizer.digest, tokenizer.vocab_size)
    assert loaded.encode_batch(HARD) == tokenizer.encode_batch(HARD)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_digest_ignores_the_order_of_keys_and_nothing_else(tokenizer, tmp_path):
    path = tmp_path / "t.json"
    tokenizer.save(path)
    data = json.loads(path.read_text())
    data["model"]["vocab"] = dict(reversed(data["model"]["vocab"].items()))
    path.write_text(json.dumps(dict(reversed(data.items()))))
    assert Tokenizer.load(path).digest == tokenizer.digest
    data["model"]["merges"].pop()
    path.write_text(json.dumps(data))
    assert Tokenizer.load(path).digest != tokenizer.digest


def test_transformers_gives_the_same_ids(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    texts = [t for t in [*HARD, *CORPUS, unicodedata.normalize("NFD", KOREAN[0])] if "[" not in t]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(texts)
    prompt = "나는 [MASK] 갔다"
    assert theirs(prompt, add_special_tokens=False)["input_ids"] == tokenizer.encode_with_specials(prompt)
    for text in texts:
        shown = theirs.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False)
        assert shown == normalise(text)


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_training_is_deterministic_across_processes_and_threads(kind):
    program = (
        "import sys; from fastlm.text.tokenizer import Tokenizer;"
        f"print(Tokenizer.train({KOREAN + ENGLISH!r} * 300, kind='{kind}', vocab_size=450).digest)"
    )
    digests = set()
    for threads in ("1", "3"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads, "PYTHONUTF8": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_rare_characters_fall_to_bytes_in_the_character_vocabulary():
    tokenizer = Tokenizer.train([*CORPUS * 20, "뷁"], kind="char", vocab_size=500)
    assert tokenizer.encode("뷁") == [7 + byte for byte in "뷁".encode()]
    assert len(tokenizer.encode("나")) == 1
    assert [tokenizer.token(i) for i in tokenizer.encode("뷁")] == ["<0xEB>", "<0xB7>", "<0x81>"]


def test_smallest_vocabulary_is_bytes_alone():
    for kind in ("byte", "char"):
        tokenizer = Tokenizer.train(CORPUS, kind=kind, vocab_size=SMALLEST)
        assert tokenizer.vocab_size == SMALLEST
        assert tokenizer.decode(tokenizer.encode("나는 I")) == "나는 I"
    with pytest.raises(ConfigError, match=f"below the {SMALLEST}"):
        Tokenizer.train(CORPUS, kind="byte", vocab_size=SMALLEST - 1)


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_a_text_too_small_for_the_vocabulary(kind, caplog):
    with caplog.at_level(logging.WARNING, logger="fastlm"):
        tokenizer = Tokenizer.train(CORPUS, kind=kind, vocab_size=30_000)
    assert tokenizer.vocab_size < 30_000
    assert f"{tokenizer.vocab_size:,}" in caplog.text
    with pytest.raises(DataError, match=f"--vocab-size {tokenizer.vocab_size}"):
        Tokenizer.train(CORPUS, kind=kind, vocab_size=30_000, exact=True)
    assert Tokenizer.train(CORPUS, kind=kind, vocab_size=tokenizer.vocab_size, exact=True).digest == tokenizer.digest


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_bad_training_input(kind):
    for nothing in ([], iter([]), [""]):
        with pytest.raises(DataError, match="no text"):
            Tokenizer.train(nothing, kind=kind, vocab_size=300)
    with pytest.raises(DataError, match="surrogate"):
        Tokenizer.train(["a\ud800b"], kind=kind, vocab_size=300)
    with pytest.raises(ConfigError, match="word"):
        Tokenizer.train(CORPUS, kind="word", vocab_size=300)


def test_generators_train_as_lists_do():
    for kind in ("byte", "char"):
        listed = Tokenizer.train(CORPUS, kind=kind, vocab_size=350)
        assert Tokenizer.train((t for t in CORPUS), kind=kind, vocab_size=350).digest == listed.digest


def test_lone_surrogates_and_foreign_ids_are_refused(tokenizer):
    for call in (tokenizer.encode, tokenizer.encode_with_specials, lambda t: tokenizer.encode_batch(["ok", t])):
        with pytest.raises(DataError, match=r"U\+D800 at character 1"):
            call("a\ud800b")
    for call in (tokenizer.token, lambda i: tokenizer.decode([i])):
        with pytest.raises(IndexError, match="400"):
            call(400)
        with pytest.raises(IndexError):
            call(-1)


def test_decoding_part_of_a_character_gives_the_replacement_character(tokenizer):
    ids = tokenizer.encode("뷁")
    assert "\ufffd" in tokenizer.decode(ids[:-1])


def edited(tokenizer, path, edit):
    tokenizer.save(path)
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    return path


def test_foreign_tokenizers_are_refused_by_name(tokenizer, tmp_path):
    path = tmp_path / "t.json"

    def drop(data):
        data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] not in ("[KO]", "[MASK]")]

    with pytest.raises(DataError, match=r"t\.json: has no special token \[MASK\] \[KO\]"):
        Tokenizer.load(edited(tokenizer, path, drop))
    with pytest.raises(DataError, match="normalizer"):
        Tokenizer.load(edited(tokenizer, path, lambda d: d.update(normalizer={"type": "Lowercase"})))
    path.write_text("{}")
    with pytest.raises(DataError, match=r"not a tokenizer\.json"):
        Tokenizer.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"t\.json"):
        Tokenizer.load(path)
    with pytest.raises(DataError, match=r"none\.json"):
        Tokenizer.load(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be written"):
        tokenizer.save(tmp_path / "no folder" / "t.json")


def test_progress_is_drawn_on_stderr_only_when_asked_for(capsys):
    Tokenizer.train(CORPUS, kind="byte", vocab_size=300)
    assert capsys.readouterr() == ("", "")
    Tokenizer.train(CORPUS, kind="byte", vocab_size=300, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading text" in err


def test_a_ruler_of_dashes_makes_no_endless_token(tokenizer):
    ruled = Tokenizer.train(["-" * 5000] * 3 + CORPUS, kind=tokenizer.kind, vocab_size=500)
    assert ruled.token_characters.max() <= 64
