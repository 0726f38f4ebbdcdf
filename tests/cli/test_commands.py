"""From text files to a trained model and back, through the commands a person types."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlm.cli.main import main
from fastlm.data.demo import generate
from fastlm.ops import _backend

TINY = ["--layers", "2", "--d-model", "32", "--heads", "2", "--ff", "64", "--vocab-size", "600", "--lr", "3e-3"]
SHORT = ["--max-steps", "30", "--warmup", "5", "--batch-size", "32", "--eval-every", "15", "--threads", "1"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parallel text with Hangul and a space in its path, a cache, and one run of each model."""
    root = tmp_path_factory.mktemp("작업 공간")
    os.environ["FASTLM_CACHE"] = str(root / "cache")
    pairs = generate(pairs=600)
    for language, side in (("ko", 0), ("en", 1)):
        (root / f"{language}.txt").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    for model in ("encoder", "decoder"):
        words = ["train", "--model", model, "--data", str(root / "ko.txt"), str(root / "en.txt")]
        assert main([*words, "--run", str(root / model), *TINY, *SHORT]) == 0
    return root


def test_a_run_is_a_folder_with_metrics_and_charts(workspace: Path) -> None:
    for model in ("encoder", "decoder"):
        run = workspace / model
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        valid = [line for line in lines if line["split"] == "valid"]
        assert [line["step"] for line in valid] == [15, 30]
        assert valid[-1]["loss"] < valid[0]["loss"]
        assert set(valid[-1]["languages"]) == {"ko", "en"}
        assert {line["split"] for line in lines} == {"train", "valid"}
        named = {"loss", "accuracy", "bits_per_character", "tokens_per_second", "lr", "seconds", "epoch", "tokens"}
        assert all(named <= line.keys() for line in lines)
        assert (run / "charts" / "loss.png").stat().st_size > 5_000
        assert (run / "charts" / "accuracy.png").stat().st_size > 5_000


def test_eval_agrees_with_the_training_log(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(workspace / "encoder"), "--which", "latest", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    last = json.loads((workspace / "encoder" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["split"] == "valid"
    assert scores["loss"] == pytest.approx(last["loss"], abs=1e-6)
    assert scores["languages"]["ko"]["targets"] + scores["languages"]["en"]["targets"] == scores["targets"]


def test_eval_of_other_text(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "en.txt"
    other.write_text("The teacher reads a book.\nMy friend drinks coffee in the morning.\n", encoding="utf-8")
    assert main(["eval", str(workspace / "decoder"), "--data", str(other)]) == 0
    table = capsys.readouterr().out
    assert "\nen " in table
    assert "\nko " not in table


def test_fill_names_candidates_for_every_mask(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill", str(workspace / "encoder"), "나는 [MASK] 좋아한다 [MASK]", "--top-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[MASK] 1"
    assert lines[4] == "[MASK] 2"
    shares = [float(line.split()[0]) for line in lines if line.startswith("  ")]
    assert len(shares) == 6
    assert shares[:3] == sorted(shares[:3], reverse=True)
    assert lines[-1].startswith("나는")
    assert "[MASK]" not in lines[-1]


def test_generate_is_greedy_or_seeded(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def text(*words: str) -> str:
        assert main(["generate", str(workspace / "decoder"), "The", "--max-new-tokens", "8", *words]) == 0
        return capsys.readouterr().out

    assert text() == text()
    assert text().startswith("The")
    sampled = ["--temperature", "1.5", "--samples", "4", "--seed", "1"]
    assert text(*sampled) == text(*sampled)
    assert text(*sampled) != text(*sampled[:-1], "2")
    assert len(text(*sampled).splitlines()) == 4


def test_plot_overlays_runs(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(workspace / "encoder"), str(workspace / "decoder"), "--out", str(tmp_path / "그림")]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.name for path in paths} >= {"loss.png", "accuracy.png"}
    assert all(path.stat().st_size > 5_000 for path in paths)


def test_a_resumed_run_needs_no_flag_again(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--run", str(workspace / "decoder"), "--resume", "auto"]) == 0
    assert "nothing left to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fill", "{decoder}", "a [MASK]"], "use fastlm generate"),
        (["generate", "{encoder}", "a"], "use fastlm fill"),
        (["fill", "{encoder}", "no blank"], r"no [MASK] to fill"),
        (["fill", "{encoder}", "word " * 300 + "[MASK]"], "the model reads at most 256"),
        (["generate", "{decoder}", "word " * 300], "the model reads at most 256"),
        (["generate", "{decoder}", "a", "--top-p", "0"], "--top-p"),
        (["eval", "{encoder}", "--which", "newest"], "not best, latest or a step"),
        (["eval", "{encoder}", "--which", "7"], "no checkpoint of step 7"),
        (["eval", "nowhere"], "no such run folder"),
        (["plot", "nowhere"], "nowhere"),
        (["train", "--run", "{encoder}"], "--resume"),
        (["train", "--run", "{encoder}", "--resume", "auto", "--layers", "3"], "layers"),
        (["train", "--data", "missing.txt"], "missing.txt"),
    ],
)
def test_faults_are_one_line(
    workspace: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"{encoder}": str(workspace / "encoder"), "{decoder}": str(workspace / "decoder")}
    assert main([named.get(word, word) for word in words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("fastlm: error: ")
    assert message in error


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--run", "{new}", *TINY],
        ["eval", "{encoder}"],
        ["fill", "{encoder}", "[MASK]"],
        ["generate", "{decoder}", "a"],
    ],
)
def test_an_unknown_backend_in_the_environment_is_one_line(
    workspace: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_backend, "_environment", "fast")  # it is read once, when fastlm.ops is imported
    named = {"{" + name + "}": str(workspace / name) for name in ("encoder", "decoder", "new")}
    assert main([named.get(word, word) for word in words]) == 2
    error = "fastlm: error: FASTLM_BACKEND: 'fast' is no backend; choose one of native, triton, reference\n"
    assert capsys.readouterr().err == error
    assert not (workspace / "new").exists()


@pytest.mark.skipif(_backend.native_fault() is not None, reason="the native library is not built")
@pytest.mark.parametrize("command", ["train", "fill"])  # the two places that ask
def test_an_instruction_set_that_is_not_here_is_one_line(workspace: Path, command: str) -> None:
    """In a process of its own, because the choice is made once."""
    words = {"train": ["--run", "new", *TINY, "--max-steps", "1"], "fill": [str(workspace / "encoder"), "[MASK]"]}
    done = subprocess.run(
        [sys.executable, "-m", "fastlm.cli.main", command, *words[command]],
        capture_output=True,
        text=True,
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "FASTLM_CPU_ISA": "sse9"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    error = "fastlm: error: FASTLM_CPU_ISA: 'sse9' is not available; this build and processor have portable"
    assert done.stderr.startswith(error)
    assert len(done.stderr.splitlines()) == 1
    assert not (workspace / "new").exists()


@pytest.mark.parametrize("words", [("fill", "encoder", "[MASK]"), ("eval", "encoder"), ("eval", "classifier")])
def test_a_backend_that_cannot_run_here_is_one_line(workspace: Path, classifier: Path, words: tuple[str, ...]) -> None:
    """Triton's kernels without its interpreter, on a CPU."""
    command, run, *rest = words
    done = subprocess.run(
        [sys.executable, "-m", "fastlm.cli.main", command, str(workspace / run), *rest],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "FASTLM_BACKEND": "triton",
            "TRITON_INTERPRET": "0",
        },
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fastlm: error: FASTLM_BACKEND triton: ") and done.stderr.endswith("; unset it\n")
    assert len(done.stderr.splitlines()) == 1


# Translation


@pytest.fixture(scope="module")
def translator(workspace: Path) -> Path:
    """The two runs merged and fine-tuned for some steps."""
    merged, run = workspace / "merged", workspace / "translator"
    assert main(["merge", str(workspace / "encoder"), str(workspace / "decoder"), "--out", str(merged)]) == 0
    words = ["train", "--model", "seq2seq", "--init", str(merged), "--run", str(run), "--lr", "3e-3", *SHORT]
    assert main([*words, "--data", str(workspace / "ko.txt"), str(workspace / "en.txt")]) == 0
    return run


def test_a_merged_model_learns_to_translate(translator: Path) -> None:
    lines = [json.loads(line) for line in (translator / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    valid = [line["loss"] for line in lines if line["split"] == "valid"]
    assert valid[-1] < valid[0]
    config = json.loads((translator / "config.json").read_text(encoding="utf-8"))["config"]["model"]
    assert (config["model"], config["layers"], config["d_model"]) == ("seq2seq", 2, 32)  # as the weights say


def test_lines_are_translated_in_order(
    translator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "나는 학교에 간다\n\nthe library\n"
    (tmp_path / "in.txt").write_text(text, encoding="utf-8")
    options = ["--max-new-tokens", "8", "--beams", "2"]
    capsys.readouterr()
    assert main(["translate", str(translator), str(tmp_path / "in.txt"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1] == "" and lines[0] and lines[2]
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["translate", str(translator), "--n-best", "2", "--scores", *options]) == 0
    scored = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [scored[0][1], scored[2][1], scored[4][1]] == lines
    assert float(scored[0][0]) >= float(scored[1][0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["translate", "encoder"],
            "its model is of kind encoder, fastlm translate needs kind seq2seq; use fastlm fill",
        ),
        (["translate", "translator", "none.txt"], "none.txt: No such file"),
        (["translate", "translator", "--n-best", "9"], "--n-best 9 needs as many --beams"),
        (["merge", "encoder", "encoder", "--out", "new"], "fastlm merge needs kind decoder"),
        (["merge", "encoder", "decoder", "--out", "merged"], "exists already"),
        (
            ["train", "--model", "encoder", "--init", "merged", "--data", "ko.txt"],
            "it has --model seq2seq, this run enc",
        ),
    ],
)
def test_translation_commands_refuse_in_one_line(
    translator: Path,
    workspace: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workspace)
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


# Classification


@pytest.fixture(scope="module")
def classifier(workspace: Path) -> Path:
    """Sentences by their language, which any model learns."""
    rows = [(pair[side], ("ko", "en")[side]) for pair in generate(pairs=150) for side in (0, 1)]
    text = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    (workspace / "labelled.tsv").write_text(text, encoding="utf-8")
    words = ["classify", str(workspace / "encoder"), "--data", str(workspace / "labelled.tsv"), "--pooling", "first"]
    words += ["--test", str(workspace / "labelled.tsv"), "--run", str(workspace / "classifier"), "--threads", "1"]
    assert main([*words, "--epochs", "4", "--warmup", "2", "--lr", "3e-3"]) == 0
    return workspace / "classifier"


def test_a_classifier_is_trained_and_reported(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("validation", "test"):
        report = json.loads((classifier / f"classes-{part}.json").read_text(encoding="utf-8"))
        assert report["accuracy"] > 0.9 and set(report["classes"]) == {"en", "ko"}
        assert (classifier / "charts" / f"classes-{part}.png").stat().st_size > 5_000
    assert report["texts"] == 300
    capsys.readouterr()
    assert main(["eval", str(classifier), "--data", str(classifier.parent / "labelled.tsv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_predicting(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.txt").write_text("나는 학교에 간다\nthe library is closed\n\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(classifier), str(tmp_path / "in.txt")]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["ko", "en"]
    assert main(["predict", str(classifier), str(tmp_path / "in.txt"), "--scores", "--top-k", "2"]) == 0
    first = capsys.readouterr().out.splitlines()[0].split("\t")
    assert first[1::2] == ["ko", "en"] and float(first[0]) + float(first[2]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "decoder", "--data", "labelled.tsv"], "is of kind decoder; a classifier begins with an encoder"),
        (["classify", "encoder", "--run", "new"], "a classifier learns from labelled texts"),
        (["predict", "encoder", "labelled.tsv"], "fastlm predict needs kind classifier; use fastlm fill"),
        (["fill", "classifier", "[MASK]"], "fastlm fill needs kind encoder; use fastlm predict"),
        (["eval", "classifier", "--sentences", "5"], "scored on all held-out texts"),
    ],
)
def test_classification_commands_refuse_in_one_line(
    classifier: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(classifier.parent)
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


# Export


@pytest.mark.parametrize("run", ["encoder", "decoder", "translator", "classifier"])
def test_an_exported_run_is_loaded_by_transformers(
    run: str,
    translator: Path,
    classifier: Path,
    workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    transformers = pytest.importorskip("transformers", reason="an export is loaded by transformers")
    capsys.readouterr()
    assert main(["export", str(workspace / run), str(tmp_path / "out")]) == 0
    assert "logits within" in capsys.readouterr().out
    folder = str(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if run == "encoder":
        filled = transformers.pipeline("fill-mask", folder, tokenizer=tokenizer)("나는 [MASK] 간다", top_k=3)
        assert main(["fill", str(workspace / run), "나는 [MASK] 간다", "--top-k", "3"]) == 0
        printed = capsys.readouterr().out
        assert all(one["token_str"].strip() in printed for one in filled)
    elif run == "decoder":
        written = transformers.pipeline("text-generation", folder, tokenizer=tokenizer)
        assert written("the", max_new_tokens=5, do_sample=False)[0]["generated_text"].startswith("the")
    elif run == "classifier":
        called = transformers.pipeline("text-classification", folder, tokenizer=tokenizer)
        assert [one["label"] for one in called(["나는 학교에 간다", "the library is closed"])] == ["ko", "en"]
    else:
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
        ids = tokenizer(["나는 학교에 간다"], return_tensors="pt")
        theirs = model.generate(
            **ids,
            num_beams=2,
            length_penalty=1.0,
            max_new_tokens=8,
            early_stopping=False,
            bad_words_ids=[[i] for i in range(7) if i != tokenizer.eos_token_id],
        )
        (tmp_path / "in.txt").write_text("나는 학교에 간다\n", encoding="utf-8")
        words = ["translate", str(workspace / run), str(tmp_path / "in.txt"), "--to", "en", "--beams", "2"]
        assert main([*words, "--max-new-tokens", "8"]) == 0
        assert capsys.readouterr().out.strip() == tokenizer.decode(theirs[0], skip_special_tokens=True).strip()


def test_an_export_that_differs_is_removed(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="an export is loaded by transformers")
    from fastlm.models import hf

    real = hf._mbart

    def wrong(*args: Any) -> Iterator[hf.Twin]:
        for twin in real(*args):
            yield twin._replace(tensor=twin.tensor * 1.01) if twin.name.endswith("0.fc1.weight") else twin

    monkeypatch.setattr(hf, "_mbart", wrong)
    assert main(["export", str(workspace / "decoder"), str(tmp_path / "out")]) != 0
    assert "logits differ" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("run", ["encoder", "decoder", "translator", "classifier"])
def test_an_exported_run_comes_back(
    run: str, translator: Path, classifier: Path, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written, read and saved again by transformers, imported: the same weights and tokenizer."""
    transformers = pytest.importorskip("transformers", reason="an import is compared with transformers")
    from fastlm.train import checkpoint

    assert main(["export", str(workspace / run), str(tmp_path / "out")]) == 0
    plain = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    getattr(transformers, plain["architectures"][0]).from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "hf")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "hf")
    capsys.readouterr()
    assert main(["import", str(tmp_path / "hf"), str(tmp_path / "back")]) == 0
    assert "logits within" in capsys.readouterr().out
    ours, back = checkpoint.load(workspace / run), checkpoint.load(tmp_path / "back")
    assert back.tokenizer.digest == ours.tokenizer.digest and back.config.model == ours.config.model
    for name, tensor in ours.model.state_dict().items():
        assert back.model.state_dict()[name].equal(tensor), name


def test_an_imported_run_trains_on(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="an import is compared with transformers")
    assert main(["export", str(workspace / "encoder"), str(tmp_path / "out")]) == 0
    assert main(["import", str(tmp_path / "out"), str(tmp_path / "back")]) == 0
    data = [str(workspace / "ko.txt"), str(workspace / "en.txt")]
    words = ["train", "--model", "encoder", "--init", str(tmp_path / "back"), "--data", *data]
    assert main([*words, "--run", str(tmp_path / "on"), *SHORT]) == 0
    lines = [json.loads(line) for line in (tmp_path / "on" / "metrics.jsonl").read_text("utf-8").splitlines()]
    before = [json.loads(line) for line in (workspace / "encoder" / "metrics.jsonl").read_text("utf-8").splitlines()]
    first, last = (next(x["loss"] for x in some if x["split"] == "valid") for some in (lines, before[::-1]))
    assert first < last  # it goes on where the other ended


def test_an_import_of_something_else_is_refused(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="an import is compared with transformers")
    assert main(["export", str(workspace / "encoder"), str(tmp_path / "out")]) == 0
    config = tmp_path / "out" / "config.json"
    plain = json.loads(config.read_text(encoding="utf-8"))
    for changed, message in (
        ({"architectures": ["BertForMaskedLM"]}, "architecture BertForMaskedLM: fastlm takes"),
        ({"hidden_act": "gelu_new"}, "activation gelu_new: fastlm has relu, gelu, silu"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps 1e-12: fastlm has 1e-05 alone"),
        ({"num_hidden_layers": 3}, "the weight is missing"),
        ({"num_hidden_layers": 1}, "has this weight, and fastlm does not"),
    ):
        config.write_text(json.dumps(plain | changed), encoding="utf-8")
        capsys.readouterr()
        assert main(["import", str(tmp_path / "out"), str(tmp_path / "back")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("run", ["encoder", "classifier"])
def test_an_onnx_graph_gives_transformers_logits(
    run: str, classifier: Path, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers", reason="the graph is made of transformers' model")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the graph is run by onnxruntime")
    capsys.readouterr()
    assert main(["export", str(workspace / run), str(tmp_path / "out"), "--onnx"]) == 0
    assert "model.onnx: logits within" in capsys.readouterr().out
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("나는 학교에 간다", return_tensors="np")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    (logits,) = session.run(None, {name: ids[name] for name in ("input_ids", "attention_mask")})
    if run == "classifier":
        assert logits.argmax() == 1  # ko
    else:
        assert logits.shape[1] == ids["input_ids"].shape[1] and abs(logits).max() < 100


def test_a_decoder_is_no_graph(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="an export is loaded by transformers")
    capsys.readouterr()
    assert main(["export", str(workspace / "decoder"), str(tmp_path / "out"), "--onnx"]) == 2
    assert "--onnx takes encoders and classifiers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
