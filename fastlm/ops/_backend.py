"""Which family of kernels runs an op, and why: native (C++/CUDA), Triton, or the PyTorch reference.

A backend is a (forward, backward) pair with one signature, or one function where there is no gradient. The device is
chosen by PyTorch's dispatcher, since native kernels of every device share one schema; the *family* is a Python string
that each public function asks for once per call. Under ``torch.compile`` that string is a constant of the graph: the
two module globals it depends on are read by traced code, so Dynamo guards on them and recompiles when ``set_backend``
changes them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

BACKENDS = ("native", "triton", "reference")  # the order in which `None` tries them

library = torch.library.Library("fastlm", "DEF")
_libraries: list[torch.library.Library] = []  # those of add_family: definitions go with them
_faults: dict[str, str] = {}  # family -> why all of it is missing

_logger = logging.getLogger("fastlm")
_environment: str | None = os.environ.get("FASTLM_BACKEND") or None  # read once, when fastlm.ops is imported
_choice: str | None = None  # set_backend / use_backend; process-wide, because autograd threads must see it too
_reported: set[tuple[str, str]] = set()  # (op, device) whose fall-back was logged


@dataclass(frozen=True)
class Pair:
    """Forward and backward of one op, as called by its autograd.Function."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


_families: dict[str, dict[str, Any]] = {}  # op -> its kernels by family
_registered: dict[str, tuple[str, ...]] = {}  # op -> the names it is registered under
_helpers: dict[str, dict[str, Callable[..., Any]]] = {}  # names among them beside a pair -> their kernels by family
_schemas: dict[str, tuple[str, Callable[..., Any]]] = {}  # such a name -> its schema and fake
_names = list(BACKENDS)  # and what add_family added


def define(op: str, forward: str, backward: str, fakes: Pair) -> dict[str, Pair]:
    """Register the schemas ``{op}_forward`` and ``{op}_backward`` with their fakes.

    Args:
        op: the public name, e.g. ``"softmax"``.
        forward: the first one's schema without a name: ``"(Tensor x) -> Tensor"``.
        backward: the second one's.
        fakes: shape functions of both.

    Returns:
        The op's table of pairs by family, holding the native one: a family absent from it has no kernels in this build.
    """
    native_forward = register(op, f"{op}_forward", forward, fakes.forward)
    native_backward = register(op, f"{op}_backward", backward, fakes.backward)
    _families[op] = pairs = {"native": Pair(native_forward, native_backward)}
    return pairs


def define_single(op: str, name: str, schema: str, fake: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Register an op without a gradient, under ``name`` (which ends in _ where the op works in place).

    Returns:
        The op's table of kernels by family, as that of :func:`define`.
    """
    _families[op] = kernels = {"native": register(op, name, schema, fake)}
    return kernels


def define_helper(op: str, name: str, schema: str, fake: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Register under ``name`` what an op needs beside its pair.

    Returns:
        The helper's kernels by family.
    """
    _helpers[name] = kernels = {"native": register(op, name, schema, fake)}
    return kernels


def register(op: str, name: str, schema: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """Register one schema with its fake; devices without a kernel of it do not count as running the op natively.

    Args:
        op: the public name.
        name: what it is registered under.
        schema: without a name.
        fake: shape function.

    Returns:
        The overload, to be called.
    """
    _registered[op] = (*_registered.get(op, ()), name)
    _schemas[name] = (schema, fake)
    return _define(library, name)


def _define(into: torch.library.Library, name: str) -> Callable[..., Any]:
    schema, fake = _schemas[name]
    into.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"{into.ns}::{name}", fake, lib=into)
    overload: Callable[..., Any] = getattr(getattr(torch.ops, into.ns), name).default
    return overload


def add_family(family: str, fill: Callable[[torch.library.Library], None]) -> None:
    """Let ``backend=family`` run the kernels that ``fill`` registers, for any devices, under ``fastlm_{family}``.

    Args:
        family: its name.
        fill: is given a library that has the schemas of every op. An op that it leaves out, or gives to some devices
            alone, cannot run there.
    """
    into = torch.library.Library(_namespace(family), "DEF")
    overloads = {name: _define(into, name) for name in _schemas}
    fill(into)
    _libraries.append(into)
    if family not in _names:
        _names.append(family)
    for op, names in _registered.items():
        for name in _helpers.keys() & names:
            _helpers[name][family] = overloads[name]
        kernels = [overloads[name] for name in names if name not in _helpers]
        _families[op][family] = Pair(*kernels) if isinstance(_families[op]["native"], Pair) else kernels[0]


def _namespace(family: str) -> str:
    return "fastlm" if family == "native" else f"fastlm_{family}"


def load_native() -> None:
    """Load ``fastlm/_C*.so``; a library that is missing or does not load is remembered as the reason, not raised."""
    found = sorted(Path(__file__).resolve().parents[1].glob("_C*.so"))
    if not found:
        _faults["native"] = "the C++ ops are not built (`pip install -e .` with a C++ compiler makes fastlm/_C*.so)"
        return
    try:
        torch.ops.load_library(str(found[0]))
    except (OSError, RuntimeError) as error:  # another torch or libc, or a schema of another fastlm
        _faults["native"] = f"{found[0].name} does not load: {str(error).strip().splitlines()[0]}"


def load_triton() -> None:
    """Register the Triton kernels, where there is a Triton; it is imported when the first of them runs."""
    if importlib.util.find_spec("triton") is None:
        _faults["triton"] = "Triton is not installed (it comes with torch's CUDA wheels)"
        return
    try:
        kernels = importlib.import_module("fastlm.kernels")
    except ImportError as error:
        _faults["triton"] = f"fastlm.kernels was not installed with fastlm ({error})"
        return
    add_family("triton", kernels.register)


def native_fault() -> str | None:
    """Why the C++ library is not loaded, or None where it is."""
    return _faults.get("native")


def triton_fault() -> str | None:
    """Why there are no Triton kernels, or None where there are."""
    return _faults.get("triton")


def cpu_isa_fault() -> str | None:
    """Why the CPU kernels cannot run as FASTLM_CPU_ISA asks, with what there is instead, or None where they can."""
    if native_fault() is not None:
        return None
    try:
        torch.ops.fastlm.cpu_isa()
    except RuntimeError as error:
        line = str(error).strip().splitlines()[0]
        return line[max(line.find("FASTLM_CPU_ISA"), 0) :]  # without the C++ place in front of it
    return None


def environment_fault() -> str | None:
    """What is wrong with FASTLM_BACKEND or FASTLM_CPU_ISA, with what there is instead, or None.

    Commands ask this before they begin; whoever calls an op gets its ValueError or RuntimeError.
    """
    if _environment is not None and _environment not in BACKENDS:
        return f"FASTLM_BACKEND: {_environment!r} is no backend; choose one of {', '.join(BACKENDS)}"
    return cpu_isa_fault()


def set_backend(name: str | None) -> None:
    """Use one family for every op of this process; ``None`` returns to FASTLM_BACKEND or the best available.

    Raises:
        ValueError: the name is not one of ``native``, ``triton``, ``reference``.
    """
    global _choice
    if name is not None:
        _check_name(name, "set_backend")
    _choice = name


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """``set_backend`` for the body of a ``with`` statement (process-wide, like ``set_backend``)."""
    previous = _choice
    set_backend(name)
    try:
        yield
    finally:
        set_backend(previous)


def select(op: str, backend: str | None, device: str, limits: str | None) -> str:
    """The family that runs this call.

    Args:
        op: the public name.
        backend: the caller's ``backend=`` argument.
        device: device type of the tensors.
        limits: why these inputs are outside what compiled kernels take (dtype, head_dim), or None.

    Raises:
        ValueError: a family was named (argument, use_backend, FASTLM_BACKEND) that cannot run this call.
    """
    if backend is not None:
        requested: str | None = backend
        source = "backend"
    elif _choice is not None:
        requested, source = _choice, "use_backend"
    else:
        requested, source = _environment, "FASTLM_BACKEND"
    family: str = _resolve_constant(op, requested, source, device, limits)
    return family


def _resolve(op: str, requested: str | None, source: str, device: str, limits: str | None) -> str:
    if requested is not None:
        _check_name(requested, source)
        if (reason := why_not(op, requested, device, limits)) is not None:
            raise ValueError(
                f"{op}: backend {requested!r} (from {source}) cannot run this call: {reason}; "
                f"name another backend, or none to let fastlm choose"
            )
        return requested
    reasons: dict[str, str] = {}
    for family in BACKENDS:
        reason = why_not(op, family, device, limits)
        if reason is None:
            if reasons and (op, device) not in _reported:
                _reported.add((op, device))
                why = "; ".join(f"{name}: {text}" for name, text in reasons.items())
                _logger.warning("%s on %s runs on the %s backend (%s)", op, device, family, why)
            return family
        reasons[family] = reason
    raise AssertionError("the reference runs everywhere")


# Its arguments are constants that Dynamo guards on, so its result is one; tracing it would meet logger and dispatcher.
_resolve_constant: Callable[..., str] = torch._dynamo.assume_constant_result(_resolve)


def why_not(op: str, family: str, device: str, limits: str | None = None) -> str | None:
    """Why a family cannot run an op on a device type, or None where it can."""
    if family == "reference":
        return None
    if fault := _faults.get(family):
        return fault
    key = torch._C._dispatch_key_for_device(device)
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    if not all(has_kernel(f"{_namespace(family)}::{name}", key) for name in _registered[op]):
        return f"this build has no {family} kernels of {op} for {device}"
    return limits


def native_ops(device: str) -> list[str]:
    """The ops that this build has native kernels of for a device type, be there such a device or not."""
    return [op for op in sorted(_families) if why_not(op, "native", device) is None]


def explain() -> dict[str, dict[str, Any]]:
    """What each op would pick, per device type of this machine, and why it passes over the others.

    Returns:
        ``{op: {device: {"pick": family, "passed_over": {family: reason}}}}``, for fp32 inputs of a supported shape and
        under the choice now in force (set_backend, FASTLM_BACKEND). ``pick`` is None where that choice cannot run.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {op: {device: _explain(op, device) for device in devices} for op in sorted(_families)}


def _explain(op: str, device: str) -> dict[str, Any]:
    asked = _choice or _environment
    reasons = {family: why_not(op, family, device) for family in BACKENDS}
    able = [family for family in BACKENDS if reasons[family] is None]
    pick = next((family for family in able if asked in (None, family)), None)
    preferred = f"{asked or pick} is asked for" if asked else f"{pick} comes first"
    return {"pick": pick, "passed_over": {f: reasons[f] or preferred for f in BACKENDS if f != pick}}


class OpFunction(torch.autograd.Function):
    """An autograd.Function that refuses vmap in words."""

    @classmethod
    def call(cls, *args: Any) -> Any:
        """``apply`` where there is a gradient to come, else the forward alone.

        ``apply`` binds its arguments anew at every call, which takes longer than a small op; and in a traced graph
        Dynamo would hand ``forward`` a context, as if the class had no ``setup_context`` (torch 2.13). Under
        torch.func's transforms it is ``apply`` that knows what to do.
        """
        wanted = torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        transformed = not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
        if wanted or transformed:
            return cls.apply(*args)
        return cls.forward(*args)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> NoReturn:
        raise NotImplementedError(
            "fastlm ops do not support torch.func.vmap: sequences and rows are already batched, so call the op once on "
            "the whole batch, or use backend='reference'"
        )


def rows_contiguous(x: Tensor) -> Tensor:
    """Return x itself where its last dimension is contiguous (what kernels read), else a contiguous copy."""
    return x if x.size(-1) <= 1 or x.stride(-1) == 1 else x.contiguous()


def _check_name(name: str, source: str) -> None:
    if name not in _names:
        raise ValueError(f"{source}: {name!r} is no backend; choose one of {', '.join(_names)}")
