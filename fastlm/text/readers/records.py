"""JSON lines and parquet: records whose fields have names. Nested records are flattened (``translation.ko``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastlm.errors import DataError
from fastlm.text.readers.base import Policy, ReadOptions
from fastlm.text.readers.files import File
from fastlm.text.readers.lines import lines

_BATCH = 4096


def jsonl_records(file: File, options: ReadOptions, policy: Policy) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and fields of every record; blank lines are records without fields.

    Raises:
        DataError: as `lines`; under ``on_bad_row="refuse"``, a line that is no JSON object (the last good record is
            named); always, a file that is one JSON array.
    """
    good = 0
    for number, line in lines(file, options):
        if not line.strip():
            yield number, {}
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == 1 and line.lstrip().startswith("["):
                raise DataError(f"{file.label}: one JSON array, not JSON lines; write one object per line") from None
            policy.bad_row(number, f"not JSON ({error}); the last good record is line {good}")
            continue
        if isinstance(record, dict):
            good = number
            yield number, _flat(record)
        elif number == 1 and isinstance(record, list):
            raise DataError(f"{file.label}: one JSON array, not JSON lines; write one object per line")
        else:
            policy.bad_row(number, f"a JSON {type(record).__name__}, not an object with named fields")


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    if not any(isinstance(value, dict) for value in record.values()):
        return record
    flat: dict[str, Any] = {}
    for name, value in record.items():
        inner = _flat(value) if isinstance(value, dict) else None
        flat.update({f"{name}.{key}": v for key, v in inner.items()} if inner is not None else {name: value})
    return flat


def parquet_records(file: File, options: ReadOptions, policy: Policy) -> Iterator[tuple[int, dict[str, Any]]]:
    """1-based number and fields of every record.

    Raises:
        DataError: damaged or cut off; the last good record is named.
    """
    import pyarrow
    import pyarrow.parquet

    good = 0
    with file.open_seekable() as stream:
        try:
            for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(_BATCH):
                for record in batch.to_pylist():
                    good += 1
                    yield good, _flat(record)
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            last = f"the last good record is {good}" if good else "no record can be read"
            raise DataError(f"{file.label}: not a whole parquet file ({reason}); {last}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{file.label}: a text after record {good} is not utf-8 ({error.reason})") from None
