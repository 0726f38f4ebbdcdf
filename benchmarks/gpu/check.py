"""``make gpu-check``: all that only a GPU can show, in one command of a few minutes.

``python -m benchmarks.gpu.check [--minutes N] [--quick] [--only STEP ...]`` builds for this machine's GPU, holds the
kernels to their tests there, then times them. Each step is a process with a time limit of its own; one that fails,
hangs or loses the GPU stops no other. ``benchmarks/results/gpu.json`` is written anew after every step, with ``gpu.md``
beside it, and both go to the folder ``$OUT`` where it is set. Steps of one group run side by side: they check. What is
timed is alone.

Exit status: 0 all green, 1 something failed or was not run, 2 no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.gpu import records, report

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "gpu-check"
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
MINUTES = 8.0
LEAST = 5.0  # seconds without which a step is not begun
LOG_BYTES = 2 << 20  # of each log, the end, in $OUT
SETUPTOOLS = 77  # of pyproject.toml
TRAINING_SECONDS, TRAINING_OVERHEAD = 40.0, 30.0  # at most; to start, and for the last evaluation


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: in reports and for ``--only``.
        seconds: its limit.
        command: the program; a function is called when the step begins, with the records of the steps before.
        group: steps of one group run side by side; empty, alone.
        environment: beside this process's.
    """

    name: str
    seconds: float
    command: Callable[[Run], list[str] | str]
    group: str = ""
    environment: Callable[[Run], dict[str, str]] = lambda run: {}


@dataclass
class Run:
    """What is known so far, and where it goes.

    Attributes:
        report: what gpu.json holds.
        end: the clock's reading at which no step runs any more.
    """

    report: dict[str, Any]
    end: float
    results: Path = RESULTS
    work: Path = WORK
    lock: threading.Lock = field(default_factory=threading.Lock)
    children: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def stop(self) -> None:
        """Ends the steps that run and begins no other; what they told is kept."""
        self.end = 0.0
        for child in list(self.children):
            _end(child)

    def fact(self, name: str) -> Any:
        """A fact of the machine, or None."""
        return next((record.get(name) for record in report.records_of(self.report, "facts")), None)

    def write(self) -> None:
        """gpu.json and gpu.md as of now; the same in $OUT, with the end of every log."""
        self.report["ok"] = all(step["status"] == "ok" for step in self.report["steps"].values())
        texts = {".json": json.dumps(self.report, indent=1) + "\n", ".md": report.document(self.report)}
        logs = "".join(f"==== {path.name}\n{_tail(path, LOG_BYTES)}\n" for path in sorted(self.work.glob("*.log")))
        out = os.environ.get("OUT")
        for suffix, text in texts.items():
            for place in (self.results.with_suffix(suffix), *([Path(out) / f"gpu{suffix}"] if out else [])):
                place.parent.mkdir(parents=True, exist_ok=True)
                unfinished = place.with_name(place.name + ".new")
                unfinished.write_text(text, encoding="utf-8")
                unfinished.replace(place)
        if out:
            (Path(out) / "gpu.log").write_text(logs, encoding="utf-8")


# ---- one step ------------------------------------------------------------------------------------------------------
def perform(step: Step, run: Run) -> None:
    """Runs a step to its end or limit, and writes what came of it."""
    begin = time.monotonic()
    allowed = min(step.seconds, run.end - begin)
    status, reason = "not run", "the time is used up"
    told = run.work / f"{step.name}.jsonl"
    told.unlink(missing_ok=True)
    log = run.work / f"{step.name}.log"
    log.unlink(missing_ok=True)
    if allowed >= LEAST:
        command = step.command(run)
        if isinstance(command, str):
            reason = command
        else:
            status, reason = _execute(run, command, step.environment(run), told, log, allowed)
    found = records.read(told)
    if status == "ok" and any(record.get("error") and not record.get("peer") for record in found):
        status = "failed"
    elif status == "ok" and found and all("skipped" in record for record in found):
        status, reason = "not run", "nothing that it checks is there"
    seconds = time.monotonic() - begin
    with run.lock:
        run.report["steps"][step.name] = {
            "status": status,
            "reason": reason,
            "seconds": round(seconds, 1),
            "limit": step.seconds,
            "records": found,
            "log": "" if status == "ok" else _tail(log, 3000),
        }
        run.write()
        print(f"{step.name}: {status}{f' ({reason})' if reason else ''}, {seconds:.0f} s", flush=True)


def _execute(
    run: Run, command: list[str], environment: dict[str, str], told: Path, log: Path, seconds: float
) -> tuple[str, str]:
    """Status and reason."""
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1", records.FILE: str(told), **environment}
    surroundings["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with open(log, "wb") as file:
        try:
            child = subprocess.Popen(
                command, cwd=ROOT, env=surroundings, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            return "failed", f"cannot be started: {error}"
        run.children.add(child)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return "timed out", f"after {seconds:.0f} s; what it had told is kept"
        finally:
            _end(child)
            run.children.discard(child)
    return ("ok", "") if code == 0 else ("failed", f"exit status {code}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a step and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _tail(path: Path, count: int) -> str:
    if not path.exists():
        return ""
    return path.read_bytes()[-count:].decode(errors="replace")


# ---- the steps -----------------------------------------------------------------------------------------------------
def module(name: str, *arguments: str) -> Callable[[Run], list[str]]:
    """A step of this package."""
    return lambda run: [sys.executable, "-m", f"benchmarks.gpu.{name}", *arguments]


def build_environment(run: Run) -> dict[str, str]:
    """For this GPU alone: "9.0a" has Hopper's own instructions; where it is not known, setup.py asks torch."""
    capability = run.fact("capability")
    archs = {"FASTLM_CUDA_ARCHS": f"{capability}a" if capability == "9.0" else capability} if capability else {}
    return {"FASTLM_REQUIRE_EXT": "1", "MAX_JOBS": str(len(os.sched_getaffinity(0))), **archs}


def tests(processes: int, *arguments: str) -> Callable[[Run], list[str] | str]:
    """Tests of the ops, on the GPU."""

    def command(run: Run) -> list[str] | str:
        missing = [name for name in ("pytest", "pytest_timeout") if importlib.util.find_spec(name) is None]
        if missing:
            return f"{' and '.join(missing)} not installed"
        workers = ["-n", str(processes)] if importlib.util.find_spec("xdist") else []
        plugin = ["-p", "benchmarks.gpu.matrix", "-p", "no:cacheprovider"]
        return [sys.executable, "-m", "pytest", *plugin, *workers, "-q", "--timeout", "60", *arguments]

    return command


def sanitizer(tool: str) -> Callable[[Run], list[str] | str]:
    """Every op once under compute-sanitizer."""

    def command(run: Run) -> list[str] | str:
        program = run.fact("compute_sanitizer")
        if not program:
            return "compute-sanitizer is not installed"
        options = ["--tool", tool, "--error-exitcode", "9"]
        return [program, *options, sys.executable, "-m", "benchmarks.gpu.behaviour", "sanitized"]

    return command


def training(name: str, model: str, *options: str) -> Step:
    """A short one, on the store that the step ``corpus`` made."""

    def command(run: Run) -> list[str] | str:
        target = run.work / name
        shutil.rmtree(target, ignore_errors=True)
        seconds = min(TRAINING_SECONDS, run.end - time.monotonic() - TRAINING_OVERHEAD)
        if seconds < LEAST:
            return "the time is used up"
        return module("training", model, f"{seconds:.0f}", str(target), str(run.work / "cache"), *options)(run)

    return Step(name, TRAINING_SECONDS + TRAINING_OVERHEAD, command)


def on_gpu(run: Run) -> dict[str, str]:
    return {"FASTLM_TEST_DEVICE": "cuda"}


def uncached(run: Run) -> dict[str, str]:
    return {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def corpus(run: Run) -> list[str]:
    return [sys.executable, "-m", "fastlm.cli.main", "prepare", "--cache", str(run.work / "cache")]


def pip(run: Run) -> list[str] | str:
    """Without network: what the build needs must be installed, and recent enough."""
    if int(version("setuptools").split(".")[0]) < SETUPTOOLS:
        return f"setuptools {version('setuptools')} is installed, and pyproject.toml needs {SETUPTOOLS}"
    return [sys.executable, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps", "-e", str(ROOT)]


REGISTERED = "tests/ops/test_registered_ops.py"
STEPS = [
    Step("facts", 60, module("facts", "facts")),
    Step("build", 240, pip, environment=build_environment),
    Step("installed", 60, module("facts", "installed"), "correctness"),
    Step("matrix", 95, tests(8, "tests/ops", f"--ignore={REGISTERED}", "-k", "not triton"), "correctness", on_gpu),
    Step("triton", 95, tests(5, "tests/ops", f"--ignore={REGISTERED}", "-k", "triton"), "correctness", on_gpu),
    Step("registered", 90, tests(2, REGISTERED), "correctness", on_gpu),
    *(Step(name, 75, module("behaviour", name), "correctness") for name in ("graphs", "streams", "repeats", "offsets")),
    *(Step(tool, 95, sanitizer(tool), "correctness", uncached) for tool in ("memcheck", "racecheck")),
    Step("corpus", 120, corpus, "correctness"),
    *(Step(name, limit, module("rows", name)) for name, limit in
      (("limits", 30), ("attention", 75), ("step", 90), ("linear_cross_entropy", 45), ("layer_norm", 45),
       ("softmax", 45), ("cross_entropy", 45))),
    training("train-encoder", "encoder"),
    training("train-decoder", "decoder"),
    training("train-compiled", "encoder", "--compile"),
    training("train-graphs", "encoder", "--graphs"),
]  # fmt: skip


# ---- the program ---------------------------------------------------------------------------------------------------
def commit() -> str:
    """The short name of what is checked: of FASTLM_COMMIT where the tree came without its history, else git's."""
    if given := os.environ.get("FASTLM_COMMIT"):
        return given
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "an unknown commit"


def check(steps: list[Step], run: Run) -> None:
    """All steps, in order, those of a group side by side."""
    run.work.mkdir(parents=True, exist_ok=True)
    for group, members in groupby(steps, key=lambda step: step.group or step.name):
        together = list(members)
        print(f"-- {group}", flush=True)
        with ThreadPoolExecutor(len(together)) as pool:
            for done in [pool.submit(perform, step, run) for step in together]:
                done.result()


def no_gpu() -> str | None:
    """Why there is nothing to check, or None."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    return None if torch.cuda.is_available() else "torch sees no CUDA device"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.check", description="all that only a GPU can show")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after which no step is begun or goes on")
    parser.add_argument("--quick", action="store_true", help="without peers that Inductor would compile for long")
    names = [step.name for step in STEPS]
    parser.add_argument("--only", nargs="+", metavar="STEP", choices=names, help=f"of {', '.join(names)}")
    options = parser.parse_args(argv)
    if options.quick:
        os.environ[records.QUICK] = "1"
    if reason := no_gpu():
        print(f"gpu-check: no GPU here: {reason}", file=sys.stderr)
        return 2
    started = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"started": started, "commit": commit(), "minutes": options.minutes, "ok": False, "steps": {}}
    run = Run(facts, time.monotonic() + options.minutes * 60)
    signal.signal(signal.SIGTERM, lambda *_: run.stop())
    check([step for step in STEPS if not options.only or step.name in options.only], run)
    print(report.document(run.report))
    return 0 if run.report["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
