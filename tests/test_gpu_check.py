"""``make gpu-check`` where there is no GPU: all of it but the GPU."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import steps
from benchmarks.gpu import behaviour, cases, check, facts, records, report, rows, timing, training
from benchmarks.gpu.check import Run, Step
from fastlm.ops import _backend
from fastlm.testing import LENGTHS

# ---- the runner ----------------------------------------------------------------------------------------------------
TELL = "import os, json; open(os.environ['FASTLM_GPU_RECORDS'], 'a').write(json.dumps({'name': 'told'}) + '\\n'); "


def step(name: str, code: str, seconds: float = 60.0, **options: Any) -> Step:
    return Step(name, seconds, lambda run: [sys.executable, "-c", code], **options)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    facts = {"started": "today", "commit": "abc", "ok": False, "steps": {}}
    return Run(facts, time.monotonic() + 100, tmp_path / "results" / "gpu", tmp_path / "work")


def test_a_step_that_fails_or_hangs_stops_no_other_and_keeps_what_it_told(run: Run, tmp_path: Path) -> None:
    hangs = (
        TELL + "import time, subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    check.check(
        [
            step("dies", TELL + "import os; print('last words'); os.kill(os.getpid(), 11)"),
            step("hangs", hangs + "; time.sleep(60)", seconds=6),
            step("missing", "", group="pair"),
            step(
                "good", TELL + "assert os.environ['EXTRA'] == '1'", group="pair", environment=lambda run: {"EXTRA": "1"}
            ),
            Step("told_why", 60, lambda run: "no such tool"),
            step("never", "", seconds=check.LEAST - 1),
        ],
        run,
    )
    saved = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert {name: (s["status"], s["reason"]) for name, s in saved["steps"].items()} == {
        "dies": ("failed", "exit status -11"),
        "hangs": ("timed out", "after 6 s; what it had told is kept"),
        "missing": ("ok", ""),
        "good": ("ok", ""),
        "told_why": ("not run", "no such tool"),
        "never": ("not run", "the time is used up"),
    }
    told = {name: [record["name"] for record in s["records"]] for name, s in saved["steps"].items()}
    assert told == {"dies": ["told"], "hangs": ["told"], "missing": [], "good": ["told"], "told_why": [], "never": []}
    assert "last words" in saved["steps"]["dies"]["log"] and not saved["ok"]
    assert (tmp_path / "out" / "gpu.json").read_text() == (tmp_path / "results" / "gpu.json").read_text()
    assert "| hangs | timed out" in (tmp_path / "out" / "gpu.md").read_text()
    assert "last words" in (tmp_path / "out" / "gpu.log").read_text()


def test_a_record_with_an_error_fails_its_step_unless_it_is_a_peers(run: Run) -> None:
    said = "from benchmarks.gpu.records import Records as R; R().add('x', %s)"
    ours, theirs = step("ours", said % "error='wrong'"), step("theirs", said % "error='wrong', peer=True")
    check.check([ours, theirs, step("none", said % "skipped='no kernels'")], run)
    assert [s["status"] for s in run.report["steps"].values()] == ["failed", "ok", "not run"]
    found = list(report.faults(run.report))
    assert found[:2] == ["- ours: x: wrong", "- theirs: x: wrong"]
    assert found[2].startswith("- none: not run: nothing that it checks is there")
    assert found[3:] == ["- none: 1 not run: no kernels"]


def test_steps_of_a_group_run_side_by_side_and_stop_ends_them(run: Run) -> None:
    meet = "import time, pathlib as p; p.Path('{0}/{1}').touch()\nwhile not p.Path('{0}/{2}').exists(): time.sleep(.05)"
    run.work.mkdir()
    pair = [step(a, meet.format(run.work, a, b), group="pair") for a, b in (("left", "right"), ("right", "left"))]

    def slow(run: Run) -> list[str]:
        threading.Timer(1.0, run.stop).start()  # as SIGTERM does
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    check.check([*pair, Step("stopped", 60, slow), step("after", "")], run)
    statuses = {name: s["status"] for name, s in run.report["steps"].items()}
    assert statuses == {"left": "ok", "right": "ok", "stopped": "failed", "after": "not run"}


def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("here is a GPU")
    assert check.main([]) == 2
    assert capsys.readouterr().err.startswith("gpu-check: no GPU here: torch") and not capsys.readouterr().out


def test_the_build_is_for_this_gpu_alone(run: Run) -> None:
    assert "FASTLM_CUDA_ARCHS" not in check.build_environment(run)
    for capability, archs in (("9.0", "9.0a"), ("8.6", "8.6")):
        run.report["steps"]["facts"] = {"records": [{"name": "facts", "capability": capability}]}
        assert check.build_environment(run)["FASTLM_CUDA_ARCHS"] == archs


def test_every_command_is_one(run: Run) -> None:
    run.report["steps"]["facts"] = {"records": [{"name": "facts", "compute_sanitizer": "/bin/compute-sanitizer"}]}
    run.work.mkdir()
    for each in check.STEPS:
        command = each.command(run)
        assert isinstance(command, list) and all(isinstance(word, str) for word in command), each.name
        if command[1] == "-m" and command[2].startswith("benchmarks.gpu."):
            assert (check.ROOT / (command[2].replace(".", "/") + ".py")).exists()
    assert {s.name for s in check.STEPS} >= {*rows.GROUPS, *(set(behaviour.CHECKS) - {"sanitized"}), "offsets"}


def test_outcomes_of_tests_become_records(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 1 == 2, 'oh'\ndef test_c(): pytest.skip('no')\n"
        "@pytest.fixture\ndef f(): raise OSError('gone')\ndef test_d(f): pass\n"
    )
    told = tmp_path / "told.jsonl"
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "benchmarks.gpu.matrix", "test_it.py"]
    environment = {"PYTHONPATH": str(check.ROOT), records.FILE: str(told), "PATH": ""}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    found = records.read(told)
    assert [record["name"] for record in found] == ["test_it.py::test_b", "test_it.py::test_d", "1 tests", "tests"]
    assert "oh" in found[0]["error"] and "gone" in found[1]["error"] and found[2]["skipped"] == "no"
    assert found[3] == {"name": "tests", "passed": 1, "skips": 1}


# ---- what holds of every op ----------------------------------------------------------------------------------------
NATIVE = [
    case for case in cases.cases(torch.device("cpu"), "native") if _backend.why_not(case.op, "native", "cpu") is None
]


def replayed(function: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
    """A graph's stand-in: calls again, and writes where the first results lie."""
    results = [x.clone() for x in function()]

    def replay() -> None:
        for place, value in zip(results, function(), strict=True):
            place.copy_(value)

    return replay, results


@pytest.mark.parametrize("case", NATIVE, ids=lambda case: case.name)
def test_cases_repeat_and_replay(case: cases.Case) -> None:
    behaviour.repeats(case, count=2)
    behaviour.graphs(case, replayed)


def test_every_op_has_a_case() -> None:
    assert {case.op for case, _ in cases.available("cpu")} == set(_backend._families)


def test_a_graph_that_writes_nothing_or_holds_its_first_inputs_is_found() -> None:
    case = NATIVE[0]
    with pytest.raises(AssertionError, match=r"result 0: .* elements differ"):
        behaviour.graphs(case, lambda function: (lambda: None, function()))

    def frozen(function: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        results = function()
        first = [x.clone() for x in results]
        return lambda: [a.copy_(b) for a, b in zip(results, first, strict=True)] and None, results

    with pytest.raises(AssertionError, match=r"result 0: .* elements differ"):
        behaviour.graphs(case, frozen)


def test_bits_that_change_are_found() -> None:
    calls: list[int] = []

    def unsteady(x: Tensor, *_: Tensor) -> Tensor:
        calls.append(0)
        return x + 1e-6 * (len(calls) == 3)

    with pytest.raises(AssertionError, match="elements differ, by up to"):
        behaviour.repeats(cases.Case("softmax", "unsteady", NATIVE[0].make, unsteady), count=5)


@pytest.mark.parametrize("op", behaviour.OFFSETS)
def test_checks_of_offsets_hold_for_small_tensors(op: str) -> None:
    behaviour.OFFSETS[op]("cpu", 40, 64)


def test_offsets_that_wrap_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = behaviour.ops.softmax
    wrapped = lambda x, **o: right(torch.cat([x[:-5], x[:5]]) if len(x) > 5 else x, **o)  # noqa: E731
    monkeypatch.setattr(behaviour.ops, "softmax", wrapped)
    with pytest.raises(AssertionError, match="result 0"):
        behaviour.offsets_of_softmax("cpu", 40, 64)


@pytest.mark.parametrize("name", ["repeats", "offsets"])
def test_ops_without_kernels_are_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases._backend, "why_not", lambda op, family, device: f"no {family} kernels of {op}")
    told = records.Records(tmp_path / "told.jsonl")
    assert behaviour.check(name, told, "cpu") == 0
    found = [(record["name"].split(), record["skipped"]) for record in records.read(told.path)]
    assert len(found) >= 3
    for name, reason in found:
        family, op = name[:2] if name[0] in ("native", "triton") else ("native", name[0])
        assert reason == f"no {family} kernels of {op.rstrip('_')}"


# ---- torch.cuda, by stand-ins that keep its names ------------------------------------------------------------------
class Event:
    def __init__(self, enable_timing: bool) -> None:
        self.at = 0.0 if enable_timing else None

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, other: Event) -> float:
        return (other.at - self.at) * 1e3


class Stream:
    def wait_stream(self, other: Stream) -> None:
        pass

    def synchronize(self) -> None:
        pass


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code for torch.cuda runs through; what it finds is the CPU's."""

    def replay(self: Any) -> None:
        raise NotImplementedError("a graph")

    nothing = ("synchronize", "reset_peak_memory_stats", "_sleep")
    stand_ins = {name: lambda *_: None for name in nothing} | {
        "memory_allocated": lambda: 100,
        "max_memory_allocated": lambda: 107,
        "Event": Event,
        "Stream": Stream,
        "stream": contextlib.nullcontext,
        "current_stream": Stream,
        "graph": contextlib.nullcontext,
        "CUDAGraph": type("CUDAGraph", (), {"replay": replay}),
        "get_device_properties": lambda _: SimpleNamespace(
            name="GPU", major=9, minor=0, multi_processor_count=132, total_memory=1, L2_cache_size=1
        ),
    }
    for name, stand_in in stand_ins.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, stand_in)


@pytest.mark.usefixtures("no_cuda")
def test_the_clock_of_a_gpu_times_calls() -> None:
    calls = []
    found = timing.gpu_clock(lambda: calls.append(time.sleep(1e-3)))
    assert 1e-3 <= found["fastest"] <= found["seconds"] <= found["slowest"] < 1e-2
    assert found["peak_bytes"] == 7 and found["samples"] >= timing.LEAST
    assert len(calls) >= timing.WARM_UP + 2 + 3 * timing.LEAST  # four milliseconds a sample


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("case", NATIVE[:3], ids=lambda case: case.name)
def test_streams_and_graphs_ask_torch_for_what_there_is(case: cases.Case) -> None:
    behaviour.streams(case)
    behaviour.sanitized(case)
    with pytest.raises(NotImplementedError, match="a graph"):
        behaviour.graphs(case)


def test_a_stream_that_is_not_waited_for_is_found(monkeypatch: pytest.MonkeyPatch, no_cuda: None) -> None:
    case, made = NATIVE[0], []

    def stale(*tensors: Tensor) -> Tensor:  # reads what was in `static` before the copy
        made.append(tensors[0].detach().clone())
        return case.call(*(made[0] if len(made) > 2 + 2 * behaviour.ROUNDS else tensors[0], *tensors[1:]))

    unordered = cases.Case(case.op, case.name, case.make, lambda *t: stale(*t) + 0 * t[0])
    with pytest.raises(AssertionError, match="elements differ"):
        behaviour.streams(unordered)


@pytest.mark.usefixtures("no_cuda")
def test_facts_of_a_machine_are_json() -> None:
    found = json.loads(json.dumps(facts.machine()))
    assert (found["gpu"], found["capability"]) == ("GPU", "9.0") and found["packages"]["torch"] == torch.__version__


# ---- rows ----------------------------------------------------------------------------------------------------------
SMALL = rows.Sizes(tokens=512, dense=64, batch=8, rows=64, masked=20, width=32, classes=130, model=steps.SMOKE)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> rows.Bench:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    return rows.Bench(records.Records(tmp_path / "rows.jsonl"), "cpu", timing.host_clock, SMALL)


@pytest.mark.parametrize("group", [group for group in rows.GROUPS if group != "limits"])
def test_rows_are_verified_and_timed(bench: rows.Bench, group: str) -> None:
    rows.GROUPS[group](bench)
    found = records.read(bench.records.path)
    ours = [record for record in found if record["provider"].startswith("fastlm")]
    assert ours and all(0 < record["fastest"] <= record["seconds"] <= record["slowest"] for record in ours)
    assert {record["provider"] for record in found if "seconds" in record} > {"fastlm"}
    for record in found:
        if "of_error_budget" in record:
            assert 0 <= record["of_error_budget"] <= 1
            assert record["bytes"] > 0 or record["flops"] > 0
        elif "error" in record:
            assert record["provider"] == "varlen" and record["peer"]  # it has no kernels for a CPU
    assert not bench.records.failed


@pytest.mark.parametrize("group", ["softmax", "layer_norm", "step"])
def test_quick_compiles_nothing(bench: rows.Bench, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(records.QUICK, "1")
    monkeypatch.delattr(torch, "compile")
    rows.GROUPS[group](bench)
    found = records.read(bench.records.path)
    assert any(record["provider"] == "fastlm" and "seconds" in record for record in found)
    assert not any("compiled" in record["provider"] and "seconds" in record for record in found)


def test_wrong_results_are_not_timed(bench: rows.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    right = rows.ops.softmax
    monkeypatch.setattr(rows.ops, "softmax", lambda x: right(x * 1.2))
    rows.softmax(bench)
    (found,) = records.read(bench.records.path)
    assert "softmax: off by" in found["error"] and "seconds" not in found and bench.records.failed == 1


def test_limits(bench: rows.Bench) -> None:
    rows.limits(bench, copied=1 << 16, side=64)
    assert [record["name"] for record in records.read(bench.records.path)] == ["copy", "product"]


@pytest.mark.parametrize("tokens", [300, 6_400, 65_536])
def test_sentences_have_25_tokens_on_average(tokens: int) -> None:
    lengths = rows.sentence_lengths(tokens)
    assert sum(lengths) == tokens and min(lengths) > 0 and max(lengths) <= 256  # which the models read
    assert abs(tokens / len(lengths) - rows.MEAN) < 2.5


def test_needs_are_those_of_the_goals() -> None:
    """The floors of the goals, in microseconds: an H200's for 65,536 tokens."""
    for width, forward, backward in ((64, 63, 125), (96, 94, 188)):
        for lengths in (rows.sentence_lengths(65_536), [256] * 256):
            needs = rows.attention_needs(lengths, width)
            floors = [report.floor(needs[d], report.BANDWIDTH, report.RATE) * 1e6 for d in ("forward", "backward")]
            assert floors == pytest.approx([forward, backward], abs=1)
    logits = 65_536 * 30_000 * 2.0
    assert logits * 2 / report.BANDWIDTH * 1e6 == pytest.approx(1829, abs=1)
    head = 3 * 2 * 9_830 * 512 * 30_000.0
    assert head / report.RATE * 1e6 == pytest.approx(1147, abs=1)


# ---- the report ----------------------------------------------------------------------------------------------------
def timed(work: str, provider: str, microseconds: float, **needs: float) -> dict[str, Any]:
    return {"name": f"{work}: {provider}", "work": work, "provider": provider, "seconds": microseconds / 1e6} | needs


def by_hand() -> dict[str, Any]:
    forward, backward = "attention sentences d64 forward", "attention sentences d64 backward"
    found = [
        timed(forward, "fastlm", 125, bytes=430e6, flops=1e9) | {"backend": "native"},  # floors: 100 us, here 143 us
        timed(forward, "varlen", 400),
        timed(backward, "fastlm", 250, bytes=860e6, flops=1e9) | {"backend": "native"},
        timed(backward, "varlen", 900),
        timed("encoder step, 65,536 tokens", "fastlm", 3000, bytes=0.0, flops=0.79e12),  # 1 ms
        timed("encoder step, 65,536 tokens", "fastlm compiled", 1900, bytes=0.0, flops=0.79e12),
        timed("attention one batch in a graph forward", "fastlm", 11, bytes=1e6, flops=0.0) | {"backend": "native"},
    ]
    facts = {"name": "facts", "gpu": "A GPU", "cuda": "13.0", "packages": {"torch": "2.11.0"}}
    facts["nvidia_smi"] = {"driver_version": "580"}
    skipped = [{"name": f"case {i}", "skipped": "no kernels"} for i in range(3)]

    def done(status: str, *told: dict[str, Any], reason: str = "") -> dict[str, Any]:
        return {"status": status, "reason": reason, "seconds": 12.0, "records": list(told)}

    return {
        "started": "2026-11-26T05:00:00+00:00",
        "commit": "abc1234",
        "ok": False,
        "steps": {
            "facts": done("ok", facts),
            "graphs": done("failed", {"name": "softmax", "error": "wrong\n bits"}, *skipped, reason="exit status 1"),
            "attention": done("ok", *found),
            "train-encoder": done(
                "ok",
                {"name": "train", "tokens_per_second": 1e6, "steps": 600, "first_loss": 10.1, "last_loss": 3.0},
            ),
            "train-decoder": done("not run", reason="the time is used up"),
            "rows": done("failed", reason="exit status 1") | {"log": "Traceback:\n\nOSError: gone\n"},
        },
    }


def test_the_table_has_each_goal_as_a_ratio_to_its_floor() -> None:
    text = report.document(by_hand())
    lines = {line.split(" (")[0].strip("| "): line for line in text.splitlines() if line.startswith("|")}
    forward = "| 125.0 | 100 | 1.25 |  |  | <= 1.35x, >= 2.5x faster than varlen | met | varlen 3.20 |"
    assert lines["attention sentences d64 forward"].endswith(forward)
    backward = "| 250.0 | 200 | 1.25 |  |  | <= 1.5x, >= 4x faster than varlen | missed | varlen 3.60 |"
    assert lines["attention sentences d64 backward"].endswith(backward)
    assert lines["encoder step, 65,536 tokens"].endswith(
        "compiled, model) | 1,900.0 | 1,000 | 1.90 |  |  | <= 2x | met |  |"
    )
    assert lines["attention one batch in a graph forward"].endswith("| <= 10 us | missed |  |")
    for goal in report.GOALS:
        assert goal.work in text
    assert text.count("| not measured |") == len(report.GOALS) - 4


def test_another_card_is_held_to_its_own_copy_and_product() -> None:
    found = by_hand()
    rates = [{"name": "copy", "rate": 3e12, "seconds": 1.0}, {"name": "product", "rate": 790e12, "seconds": 1.0}]
    found["steps"]["limits"] = {"status": "ok", "seconds": 1.0, "records": rates}
    found["steps"]["attention"]["records"][0]["seconds"] = 190e-6  # of 143 us here
    text = report.document(found)
    assert "| 190.0 | 100 | 1.90 | 143 | 1.33 | <= 1.35x, >= 2.5x faster than varlen | missed | varlen 2.11 |" in text
    assert "a copy moves 3.00 TB/s" in text


def test_the_report_says_what_failed_and_what_was_not_done() -> None:
    text = report.document(by_hand())
    assert "A GPU, driver 580, torch 2.11.0, CUDA 13.0. Not every step is green." in text
    assert "| graphs | failed: exit status 1 | 12 | 4 | 1 | 3 |" in text
    assert "- graphs: softmax: wrong bits\n" in text and "\n- graphs: 3 not run: no kernels\n" in text
    assert "| train-decoder | not run: the time is used up |" in text
    assert "- train-decoder: not run: the time is used up\n- rows: failed: exit status 1: OSError: gone" in text
    assert "- train-encoder: 1,000,000 tokens/s (median line), 600 steps, loss 10.100 to 3.000" in text


def test_a_report_of_nothing_is_one() -> None:
    text = report.document({"started": "today", "commit": "abc", "ok": False, "steps": {}})
    assert text.count("| not measured |") == len(report.GOALS)


# ---- training ------------------------------------------------------------------------------------------------------
def test_a_runs_speed_is_that_of_its_later_lines(tmp_path: Path) -> None:
    lines = [
        {"split": split, "step": i, "tokens_per_second": speed, "loss": 9.0 - i, "skipped": 0}
        for i, (split, speed) in enumerate([("train", 10.0), ("train", 500.0), ("valid", 3.0), ("train", 700.0)])
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = training.result(tmp_path)
    assert (found["tokens_per_second"], found["first_loss"], found["last_loss"], found["steps"]) == (600.0, 9.0, 6.0, 3)
    file.write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(ValueError, match="1 training lines: too few"):
        training.result(tmp_path)


def test_its_command_is_one_that_the_command_line_takes(tmp_path: Path) -> None:
    from fastlm.cli.main import main

    command = training.command("encoder", 40, tmp_path / "run", tmp_path / "cache", "--compile")
    missing = str(tmp_path / "none.txt")
    assert main([*command[3:], "--data", missing]) != 0  # it reads all flags, and then finds no text
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "metrics.jsonl").exists()


def test_lengths_for_graphs_differ_and_fit() -> None:
    first, second = cases.LENGTHS
    assert first != second and sum(first) == sum(second) and max(first) == max(second)
    assert set(first) & set(LENGTHS["zero_lengths"])  # an empty sentence among them
