"""A prepared store in words: what was read, left out, held out and encoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastlm.data.store import Store
from fastlm.text.columns import pad, widest

_DOMAINS_SHOWN = 12
# Counts of the read report worth a line, and only when there are any.
_LEFT_OUT = {
    "blanks": "blank cells or lines left out",
    "bad_texts": "texts dropped or repaired: undecodable",
    "bad_rows": "rows dropped: wrong shape",
    "normalised": "texts changed by normalisation (NFC)",
    "special_texts": "texts that contain a special token's name, encoded as plain text",
}


def summary(store: Store) -> str:
    """Several lines for a person."""
    manifest = store.manifest
    rows, tokenizer = manifest["rows"], manifest["tokenizer"]
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    lines = [
        f"store      {store.path}  ({size / 1e6:,.1f} MB, digest {store.digest[:12]})",
        f"tokenizer  {tokenizer['kind']}, {tokenizer['vocab_size']:,} entries, digest {tokenizer['digest'][:12]}",
        f"rows       {rows['read']:,} read, {rows['repeats']:,} repeats removed; "
        f"the largest group sharing sentences has {rows['largest_group']:,}",
    ]
    lines += [
        f"           {manifest['read'][name]:,} {words}" for name, words in _LEFT_OUT.items() if manifest["read"][name]
    ]
    lines += ["", *_table("language", store.language_names, manifest["counts"])]
    if len(store.domain_names) > 1:
        lines += ["", *_table("domain", store.domain_names, manifest["counts"])]
    return "\n".join(lines)


def _table(kind: str, names: list[str], counts: list[dict[str, Any]]) -> Iterable[str]:
    groups = {name: [entry for entry in counts if entry[kind] == name] for name in names}
    groups = dict(sorted(groups.items(), key=lambda item: -_total(item[1], "sentences")))
    shown = dict(list(groups.items())[:_DOMAINS_SHOWN])
    width = widest([*shown, "all", kind])
    yield (
        f"{kind:{width}} {'training':>12} {'held out':>10} {'tokens':>13} {'a sentence':>11} {'characters/token':>17}"
    )
    for name, entries in [*shown.items(), ("all", counts)]:
        sentences, tokens = _total(entries, "sentences"), _total(entries, "tokens")
        held = _total([entry for entry in entries if entry["split"] == "valid"], "sentences")
        per_token = _total(entries, "characters") / max(1, tokens)
        yield (
            f"{pad(name, width)} {sentences - held:>12,} {held:>10,} {tokens:>13,} "
            f"{tokens / max(1, sentences):>11.1f} {per_token:>17.2f}"
        )
    if len(groups) > len(shown):
        yield f"and {len(groups) - len(shown)} smaller ones"


def _total(entries: list[dict[str, Any]], field: str) -> int:
    return sum(entry[field] for entry in entries)
