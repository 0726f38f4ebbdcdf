"""Imports point downwards only (docs/design.md, sentence 3), and light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastlm"

# What each package may import, besides itself and the leaves.
ARROWS = {
    "": {"api"},
    "cli": {"api", "record", "train", "models", "data", "text", "info"},
    "record": {"train", "models", "data", "text"},
    "api": {"train", "models", "text"},
    "train": {"models", "data", "text", "ops"},
    "models": {"nn", "ops"},
    "nn": {"ops"},
    "data": {"text"},
    "text": set(),
    "ops": {"kernels", "_C"},
    "info": {"ops"},
    "testing": {"ops"},
    "_host": set(),
}
# Leaves: importable from everywhere, importing nothing but one another.
LEAVES = {"errors", "config", "batch"}
NATIVE_USERS = {"data"}  # the torch-free pybind11 module serves the data path alone


def imported_modules(path: Path) -> Iterator[str]:
    """Every absolute ``fastlm.*`` module that the file names in an import, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for name in node.names:
                yield f"{node.module}.{name.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield name.name


def owner(module: str) -> str:
    """The package a dotted name below ``fastlm`` belongs to; ``X.config`` modules are leaves."""
    parts = module.split(".")[1:]
    if parts and (parts[0] in LEAVES or parts[1:2] == ["config"]):
        return "leaf"
    return parts[0] if parts else ""


def source_files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem not in ("__init__",))


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    here = owner("fastlm." + ".".join([*relative.parts[:-1], relative.stem]))
    allowed = {"leaf"} if here == "leaf" else {"leaf", here} | ARROWS[here]
    if here in NATIVE_USERS:
        allowed |= {"_host"}
    for module in imported_modules(path):
        if module.startswith("fastlm.") and module != "fastlm.__version__":
            assert owner(module) in allowed, f"{relative} ({here}) imports {module}"


def test_the_arrow_test_sees_an_upward_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from fastlm.train import trainer\n")
    assert {owner(m) for m in imported_modules(bad)} == {"train"}
    assert "train" not in ARROWS["ops"] | ARROWS["models"] | ARROWS["nn"] | ARROWS["data"]


def test_command_line_needs_no_torch() -> None:
    code = (
        "import sys, fastlm.cli.main as m; m.build_parser(); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_kernels_include_no_torch_header() -> None:
    sources = [p for p in (ROOT / "kernels").rglob("*") if p.suffix in (".h", ".cuh", ".cu", ".cpp")]
    assert sources
    for path in sources:
        assert "torch/" not in path.read_text(encoding="utf-8"), f"{path} talks to PyTorch; that is csrc's part"


def test_kernels_folder_is_no_package() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists(), "it would shadow Hugging Face's `kernels` package"
