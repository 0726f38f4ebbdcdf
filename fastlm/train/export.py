"""A trained model as a folder that Hugging Face's ``from_pretrained`` reads, proved by reading it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fastlm.batch import Source
from fastlm.errors import ConfigError, FastlmError
from fastlm.models.classifier import TextClassifier
from fastlm.models.classify import batch_of
from fastlm.models.generate import pack
from fastlm.models.hf import ARCHITECTURES, check_exportable, hf_config, hf_weights
from fastlm.models.language_model import LanguageModel
from fastlm.models.seq2seq import Seq2SeqLM
from fastlm.text.specials import SPECIAL_TOKENS
from fastlm.text.tokenizer import Tokenizer
from fastlm.train.checkpoint import Loaded

#: largest difference of a logit that the two may have, beside the largest logit
TOLERANCE = 1e-5
#: random sentences that are compared, and their longest
SENTENCES, LONGEST = 8, 40


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its logits are from ours at most, as a share of the largest."""

    architecture: str
    difference: float


def check_available() -> None:
    """Refuses, in words, where transformers is missing: what cannot be loaded again is not written."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise ConfigError("what is written or read is compared with transformers: pip install transformers") from None


def export(loaded: Loaded, out: Path) -> Exported:
    """Writes ``config.json``, ``model.safetensors`` and the tokenizer's files, and loads them again.

    Raises:
        ConfigError: an option without a twin.
        FastlmError: the loaded model's logits differ by more than TOLERANCE, or the tokenizer's ids differ; nothing
            is left in ``out``.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    config = loaded.config.model
    check_exportable(config)
    out.mkdir(parents=True)
    try:
        ids = {"pad": tokenizer.pad_id, "begin": tokenizer.bos_id, "end": tokenizer.eos_id}
        plain = hf_config(config, **ids)
        if config.model == "seq2seq":
            plain["decoder_start_token_id"] = tokenizer.en_id
        _write_json(out / "config.json", plain)
        # Tied weights are files' own copies: transformers ties them again.
        weights = {name: tensor.clone() for name, tensor in hf_weights(model, pad=tokenizer.pad_id).items()}
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
        if config.model in ("decoder", "seq2seq"):
            _write_json(out / "generation_config.json", _generation(loaded))
        _write_tokenizer(tokenizer, out, ends=config.model != "decoder", longest=config.seq_len)
        return compare(loaded, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # nobody shall take it for a model
        raise


def _generation(loaded: Loaded) -> dict[str, Any]:
    """What ``generate`` does unless told otherwise: what ``fastlm generate`` and ``fastlm translate`` do."""
    tokenizer, config = loaded.tokenizer, loaded.config.model
    plain = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
        "bad_words_ids": [[i] for i in range(tokenizer.special_count) if i != tokenizer.eos_id],
        "max_length": config.seq_len,
    }
    if config.model == "decoder":
        return plain
    search = {"num_beams": 4, "length_penalty": 1.0, "early_stopping": False}
    return plain | search | {"decoder_start_token_id": tokenizer.en_id, "forced_eos_token_id": None}


def _write_json(path: Path, plain: dict[str, Any]) -> None:
    path.write_text(json.dumps(plain, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _write_tokenizer(tokenizer: Tokenizer, out: Path, *, ends: bool, longest: int) -> None:
    """With ``[BOS]``, and ``[EOS]`` where a model reads it, put around a text."""
    tokenizer.save(out / "tokenizer.json")
    plain = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    specials = {"[BOS]": tokenizer.bos_id, **({"[EOS]": tokenizer.eos_id} if ends else {})}
    whole = [{"SpecialToken": {"id": "[BOS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    whole += [{"SpecialToken": {"id": "[EOS]", "type_id": 0}}] if ends else []
    plain["post_processor"] = {
        "type": "TemplateProcessing",
        "single": whole,
        "pair": [*whole, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in specials.items()},
    }
    _write_json(out / "tokenizer.json", plain)
    names = ("pad", "unk", "bos", "eos", "mask")
    own = {f"{name}_token": token for name, token in zip(names, SPECIAL_TOKENS, strict=False)}
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **own,
            "additional_special_tokens": list(SPECIAL_TOKENS[len(names) :]),
            "model_max_length": longest,
            "clean_up_tokenization_spaces": False,
            # RobertaPreLayerNorm and MBart have one kind of token.
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )


def compare(loaded: Loaded, out: Path) -> Exported:
    """Our model beside what transformers reads in a folder: logits of random sentences, ids of some texts.

    Raises:
        FastlmError: they differ.
    """
    import transformers

    config = loaded.config.model
    kind = getattr(transformers, ARCHITECTURES[config.model])
    theirs, info = kind.from_pretrained(out, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        raise FastlmError(f"{out}: transformers reads other weights than were written: {info}")
    generator = torch.Generator().manual_seed(0)
    longest = min(LONGEST, config.seq_len)
    first, last = loaded.tokenizer.special_count, config.vocab_size
    worst = largest = 0.0
    for i in range(SENTENCES):
        lengths = [1 + (longest - 1) * i // (SENTENCES - 1), longest]
        texts = [torch.randint(first, last, (length,), generator=generator) for length in lengths]
        with torch.no_grad():
            ours, other = _logits(loaded, texts), _their_logits(theirs.eval(), loaded, texts)
        worst = max(worst, float((ours - other).abs().max()))
        largest = max(largest, float(ours.abs().max()))
    if not worst <= TOLERANCE * largest:
        raise FastlmError(f"{out}: logits differ by {worst:g} beside {largest:g}: it is another model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    for text in ("나는 학교에 간다", "The library is closed, isn't it?", "", "밖 é 🙂\t x"):
        if tokenizer(text, add_special_tokens=False)["input_ids"] != loaded.tokenizer.encode(text):
            raise FastlmError(f"{out}: transformers' tokenizer gives other ids for {text!r}")
    return Exported(ARCHITECTURES[config.model], worst / largest)


def _logits(loaded: Loaded, texts: list[Tensor]) -> Tensor:
    """Of the first text, at every token or of its class; a translation model's first text translates the second."""
    model, device = loaded.model, loaded.model.device
    packed = pack([texts[0].tolist()], device)
    if isinstance(model, TextClassifier):
        return model(batch_of([texts[0].tolist()], device))[0]  # type: ignore[no-any-return]
    if isinstance(model, Seq2SeqLM):
        memory = model.encode(Source(*pack([texts[1].tolist()], device)))
        return model.decoder.hidden_states(*packed, memory=memory) @ model.decoder.embedding.tokens.weight.T
    assert isinstance(model, LanguageModel)
    logits: Tensor = model(*packed)
    return logits


def _their_logits(theirs: Any, loaded: Loaded, texts: list[Tensor]) -> Tensor:
    if isinstance(loaded.model, Seq2SeqLM):
        logits: Tensor = theirs(input_ids=texts[1][None], decoder_input_ids=texts[0][None]).logits[0]
        return logits
    logits = theirs(input_ids=texts[0][None]).logits[0]
    return logits
