"""What `fastlm.models` offers, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastlm.models
from fastlm.models.config import ModelConfig


@pytest.mark.parametrize("module", ["fastlm.models", "fastlm.models.config", "fastlm.models.size"])
def test_import_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_build_gives_the_kind_asked_for() -> None:
    for kind, causal in (("encoder", False), ("decoder", True)):
        config = ModelConfig(model=kind, layers=1, d_model=16, heads=1, ff=16, vocab_size=8)
        model = fastlm.models.build(config)
        assert isinstance(model, fastlm.models.LanguageModel)
        assert model.config is config and model.causal is causal and model.training


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        _ = fastlm.models.bild
