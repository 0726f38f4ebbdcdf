"""Translating and writing beside transformers' ``generate`` on the exported model.

``python -m benchmarks.generation RUN --text FILE`` takes a translation run or a decoder run and real sentences. Both
read the same sentences in the same batches, with the same beams, dtype and threads; that both write the same is checked
first. Prints a Markdown table: seconds are medians of rounds in which the two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastlm.api import Run, load
from fastlm.models.generate import generate
from fastlm.models.translate import translate
from fastlm.train.checkpoint import load as load_checkpoint
from fastlm.train.evaluate import autocast
from fastlm.train.export import export

Texts = list[list[int]]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--text", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--to", choices=("ko", "en"), default="en", help="of a translation run")
    parser.add_argument("--sentences", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32, help="sentences at once, of both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    args = parser.parse_args()
    run = load(args.run)
    lines = [line for line in args.text.read_text(encoding="utf-8").splitlines() if line.strip()]
    kinds: dict[str, Callable[..., list[Texts]]] = {"seq2seq": _translations, "decoder": _continuations}
    with tempfile.TemporaryDirectory() as folder:
        export(load_checkpoint(args.run), Path(folder) / "hf")
        theirs = _theirs(Path(folder) / "hf")
        print(f"{run.kind}, {args.sentences} sentences in batches of {args.batch}, {torch.get_num_threads()} threads\n")
        print("| beams | dtype | same texts | tokens | fastlm, tokens/s | transformers, tokens/s | ratio |")
        print("|---|---|---|---|---|---|---|")
        for beams in (1, 4) if run.kind == "seq2seq" else (1,):
            for dtype in (torch.float32, torch.bfloat16):
                _row(run, theirs, kinds[run.kind], _batches(run, lines, args), beams, dtype, args)


def _theirs(folder: Path) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    plain = transformers.AutoConfig.from_pretrained(folder)
    return getattr(transformers, plain.architectures[0]).from_pretrained(folder).eval()


def _batches(run: Run, lines: list[str], args: argparse.Namespace) -> list[Texts]:
    """Sentences as ids, like lengths together; of a decoder the first half of each, to be gone on with.

    MBart counts places from the first column, padding or not: a batch's beginnings are cut to the shortest.
    """
    tokenizer, room = run.tokenizer, run.config.model.seq_len - args.max_new_tokens - 2
    ids = [tokenizer.encode(line)[:room] for line in lines[: args.sentences]]
    if run.kind == "decoder":
        texts = [[tokenizer.bos_id, *text[: max(1, len(text) // 2)]] for text in ids]
    else:
        texts = [[tokenizer.bos_id, *text, tokenizer.eos_id] for text in ids]
    texts.sort(key=len)
    batches = [texts[i : i + args.batch] for i in range(0, len(texts), args.batch)]
    if run.kind == "decoder":
        batches = [[text[: len(batch[0])] for text in batch] for batch in batches]
    return batches


def _row(
    run: Run,
    theirs: Any,
    kind: Callable[..., list[Texts]],
    batches: list[Texts],
    beams: int,
    dtype: torch.dtype,
    args: argparse.Namespace,
) -> None:
    model = theirs if dtype == torch.float32 else _copy(theirs, dtype)
    seconds: dict[str, list[float]] = {"fastlm": [], "transformers": []}
    written: dict[str, Texts] = {}
    for turn in range(args.rounds + 1):  # the first warms up
        for who, taken in seconds.items():
            begun = time.perf_counter()
            written[who] = kind(who, run, model, batches, beams, dtype, args)
            if turn:
                taken.append(time.perf_counter() - begun)
    ours, other = written["fastlm"], written["transformers"]
    same = sum(a == b for a, b in zip(ours, other, strict=True))
    rates = {who: sum(map(len, written[who])) / statistics.median(taken) for who, taken in seconds.items()}
    print(
        f"| {beams} | {str(dtype).removeprefix('torch.')} | {same} of {len(ours)} | {sum(map(len, ours)):,} | "
        f"{rates['fastlm']:,.0f} | {rates['transformers']:,.0f} | {rates['fastlm'] / rates['transformers']:.2f} |",
        flush=True,
    )


def _copy(model: Any, dtype: torch.dtype) -> Any:
    import copy

    return copy.deepcopy(model).to(dtype)


def _translations(
    who: str, run: Run, theirs: Any, batches: list[Texts], beams: int, dtype: torch.dtype, args: argparse.Namespace
) -> Texts:
    tokenizer = run.tokenizer
    language = tokenizer.en_id if args.to == "en" else tokenizer.ko_id
    options = {"beams": beams, "max_new_tokens": args.max_new_tokens, "length_penalty": 1.0}
    banned = [i for i in range(tokenizer.special_count) if i != tokenizer.eos_id]
    found: Texts = []
    for batch in batches:
        if who == "fastlm":
            with autocast(torch.device("cpu"), dtype):
                best = translate(
                    run.model,
                    batch,
                    [language] * len(batch),
                    eos_id=tokenizer.eos_id,
                    banned=banned,
                    batch_tokens=1 << 30,
                    **options,
                )  # type: ignore[arg-type]
            found += [list(some[0].ids) for some in best]
            continue
        with torch.no_grad():
            rows = theirs.generate(
                **_padded(batch, tokenizer.pad_id),
                decoder_start_token_id=language,
                num_beams=beams,
                do_sample=False,
                max_length=None,
                max_new_tokens=args.max_new_tokens,
                length_penalty=1.0,
                early_stopping=False,
            )
        found += [_text(row[1:].tolist(), tokenizer.eos_id) for row in rows]
    return found


def _continuations(
    who: str, run: Run, theirs: Any, batches: list[Texts], beams: int, dtype: torch.dtype, args: argparse.Namespace
) -> Texts:
    tokenizer = run.tokenizer
    banned = [i for i in range(tokenizer.special_count) if i != tokenizer.eos_id]
    found: Texts = []
    for batch in batches:
        if who == "fastlm":
            with autocast(torch.device("cpu"), dtype):
                found += generate(
                    run.model,
                    batch,
                    max_new_tokens=args.max_new_tokens,
                    eos_id=tokenizer.eos_id,
                    banned=banned,
                    batch_tokens=1 << 30,
                )  # type: ignore[arg-type]
            continue
        given = _padded(batch, tokenizer.pad_id)
        with torch.no_grad():
            rows = theirs.generate(**given, do_sample=False, max_length=None, max_new_tokens=args.max_new_tokens)
        found += [_text(row[given["input_ids"].shape[1] :].tolist(), tokenizer.eos_id) for row in rows]
    return found


def _padded(texts: Texts, pad: int) -> dict[str, torch.Tensor]:
    longest = max(map(len, texts))
    ids = torch.tensor([text + [pad] * (longest - len(text)) for text in texts])
    return {"input_ids": ids, "attention_mask": (ids != pad).long()}


def _text(ids: list[int], end: int) -> list[int]:
    """Up to the end."""
    return ids[: ids.index(end)] if end in ids else ids


if __name__ == "__main__":
    main()
