"""Rows of tables of any format: which columns hold which language, and their cells under the reading policy.

A column is taken because the options name it (``ko=원문``; ``ko=#2`` is the second column of a table without a header),
because its name is a language, or because its name says "text" (:data:`TEXT_COLUMNS`) and its script says which
language. Anything else is refused with the list of columns; no column is ever taken for its place.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastlm.errors import DataError
from fastlm.text.readers.base import Policy, ReadOptions, ReadReport, Row
from fastlm.text.readers.delimited import delimited_rows
from fastlm.text.readers.files import File
from fastlm.text.readers.languages import language_of_texts, language_of_word, plain_name
from fastlm.text.readers.records import jsonl_records, parquet_records
from fastlm.text.readers.workbooks import workbook_rows

# Columns whose name says that they hold text, not which; the first group with all its names present is taken. The
# language is what the script says, or else the one here (AI-Hub's 원문 is Korean).
TEXT_COLUMNS: tuple[dict[str, str], ...] = (
    {"원문": "ko", "번역문": "en"},
    {"source": "", "target": ""},
    {"src": "", "tgt": ""},
    *(
        {name: ""}
        for name in ("text", "document", "sentence", "utterance", "content", "review", "본문", "문장", "원문")
    ),
)
_TEXT_NAMES = tuple(name for group in TEXT_COLUMNS if len(group) == 1 for name in group)
# Columns whose name says that they hold a class.
LABEL_COLUMNS = ("label", "class", "category", "target", "sentiment", "intent", "라벨", "분류")
_SAMPLE = 200  # rows looked at to tell a column's language

Cells = Sequence[object]
_GRIDS: dict[str, Callable[[File, ReadOptions, Policy], Iterator[tuple[int, list[Any]]]]] = {
    "delimited": delimited_rows,
    "xlsx": workbook_rows,
}
_RECORDS: dict[str, Callable[[File, ReadOptions, Policy], Iterator[tuple[int, dict[str, Any]]]]] = {
    "jsonl": jsonl_records,
    "parquet": parquet_records,
}
FORMATS = (*_GRIDS, *_RECORDS)


@dataclass
class _Table:
    """Column names, and the rows after the header as sequences in that order."""

    names: list[str]
    rows: Iterator[tuple[int, Cells]]
    sample: list[tuple[int, Cells]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sample = list(itertools.islice(self.rows, _SAMPLE))
        self.rows = itertools.chain(self.sample, self.rows)


def read_table(file: File, format_name: str, language: str, options: ReadOptions, report: ReadReport) -> Iterator[Row]:
    """The rows of a table that have text.

    Args:
        file: where it is.
        format_name: one of :data:`FORMATS`.
        language: of its one text column, where the user or the file's name says so; else empty.
        options: the reading policy.
        report: counts what is read and left out.

    Raises:
        DataError: damaged; no such column or sheet (those there are listed); a row or text at fault.
    """
    policy = Policy(file.label, options, report, "record" if format_name in _RECORDS else "row")
    headless = any(_is_number(column) for column in options.column_of.values())
    table = _open(file, format_name, options, policy, headless=headless)
    if table is None:
        return
    columns = _choose(file, table, language, options)
    for number, cells in table.rows:
        row = policy.row({language: cells[index] for language, index in columns.items()}, number)
        if row:
            yield row


def read_labelled(
    file: File, format_name: str, text: str, label: str, options: ReadOptions, report: ReadReport
) -> Iterator[tuple[str, str, int]]:
    """Text, label and number of every row that has both; labels are texts, also where they are numbers in the table.

    Args:
        file: where it is.
        format_name: one of :data:`FORMATS`.
        text, label: columns; ``#2`` is the second of a table without a header, empty the one that is named as such.
        options: the reading policy.
        report: counts what is read and left out.

    Raises:
        DataError: as `read_table`; a text without a label, or a label without a text.
    """
    policy = Policy(file.label, options, report, "record" if format_name in _RECORDS else "row")
    table = _open(file, format_name, options, policy, headless=_is_number(text) or _is_number(label))
    if table is None:
        return
    names = {"text": (text, _TEXT_NAMES, "--text-column"), "label": (label, LABEL_COLUMNS, "--label-column")}
    columns = {kind: _index(file, table, _named_as(file, table, *known)) for kind, known in names.items()}
    for number, cells in table.rows:
        cell = cells[columns["label"]]
        plain = int(cell) if isinstance(cell, float) and cell.is_integer() else cell
        row = policy.row({"text": cells[columns["text"]], "label": None if plain is None else str(plain)}, number)
        if row is None:
            continue
        if len(row.texts) == 2:
            yield row.texts["text"], row.texts["label"], number
        else:
            policy.bad_row(number, f"only a {next(iter(row.texts))}, where a text and its label belong", seen=True)


def _named_as(file: File, table: _Table, column: str, usual: Sequence[str], flag: str) -> str:
    """The column that the user named, or the first of the usual names that the table has."""
    present = {plain_name(name) for name in table.names}
    found = column or next((name for name in usual if name in present), "")
    if not found:
        raise DataError(f"{file.label}: none of its columns is named {' or '.join(usual)}; {flag} {_listed(table)}")
    return found


def _is_number(column: str) -> bool:
    return column.startswith("#")


def _open(file: File, format_name: str, options: ReadOptions, policy: Policy, *, headless: bool) -> _Table | None:
    """The table, or None where it is empty."""
    if format_name in _RECORDS:
        return _of_records(_RECORDS[format_name](file, options, policy))
    rows = _GRIDS[format_name](file, options, policy)
    first = next(rows, None)
    if first is None:
        return None
    number, header = first
    if headless:
        return _Table([f"#{i}" for i in range(1, len(header) + 1)], itertools.chain([(number, header)], rows))
    names = ["" if cell is None else unicodedata.normalize("NFC", str(cell)).strip() for cell in header]
    width = len(names)
    # A sheet's rows may be shorter than its header, where the last cells are blank.
    return _Table(
        names, ((n, cells if len(cells) >= width else [*cells, *[None] * (width - len(cells))]) for n, cells in rows)
    )


def _of_records(records: Iterator[tuple[int, dict[str, Any]]]) -> _Table | None:
    sample = list(itertools.islice(records, _SAMPLE))
    if not sample:
        return None
    names = list(dict.fromkeys(name for _, record in sample for name in record))
    rows = ((n, [record.get(name) for name in names]) for n, record in itertools.chain(sample, records))
    return _Table([unicodedata.normalize("NFC", name) for name in names], rows)


def _choose(file: File, table: _Table, language: str, options: ReadOptions) -> dict[str, int]:
    """Language to the index of its column."""
    if options.column_of:
        return {lang: _index(file, table, column) for lang, column in options.column_of.items()}
    named = _named(file, table)
    if language:
        named = {language: named[language]} if language in named else {}
    if named:
        return named
    present = {plain_name(name) for name in table.names}
    group = next((group for group in TEXT_COLUMNS if present.issuperset(group)), {})
    if not group or (language and len(group) > 1):
        raise DataError(
            f"{file.label}: no column is named as {language or 'ko or en'} text; "
            f"--columns LANG=COLUMN {_listed(table)}, or LANG=#2 where there is no header"
        )
    return _by_script(file, table, group, language)


def _named(file: File, table: _Table) -> dict[str, int]:
    """Columns whose name is a language; of a nested name, the last part (``translation.ko``)."""
    found: dict[str, int] = {}
    for index, name in enumerate(table.names):
        language = language_of_word(plain_name(name).rpartition(".")[2])
        if language and language in found:
            first = table.names[found[language]]
            raise DataError(
                f"{file.label}: columns {first!r} and {name!r} are both {language}; "
                f"--columns LANG=COLUMN {_listed(table)}"
            )
        if language:
            found[language] = index
    return found


def _by_script(file: File, table: _Table, group: Mapping[str, str], language: str) -> dict[str, int]:
    """The text columns of one group with the languages their cells are in."""
    columns: dict[str, int] = {}
    for name, usual in group.items():
        index = _index(file, table, name)
        cells = [row[index] for _, row in table.sample]
        found = language or language_of_texts(c for c in cells if isinstance(c, str)) or usual
        if not found:
            raise DataError(
                f"{file.label}: the language of column {name!r} cannot be told; --columns LANG={name} {_listed(table)}"
            )
        if found in columns:
            raise DataError(
                f"{file.label}: columns {' and '.join(group)} are both {found}; --columns LANG=COLUMN {_listed(table)}"
            )
        columns[found] = index
    return columns


def _index(file: File, table: _Table, column: str) -> int:
    """Where the column of that name is.

    Raises:
        DataError: there is none, or more than one.
    """
    names = table.names
    found = [i for i, name in enumerate(names) if name == column]
    found = found or [i for i, name in enumerate(names) if plain_name(name) == plain_name(column)]
    if len(found) == 1:
        return found[0]
    fault = "no column" if not found else f"{len(found)} columns"
    raise DataError(f"{file.label}: {fault} named {column!r}; {_listed(table)}")


def _listed(table: _Table) -> str:
    return "(columns: " + ", ".join(repr(name) for name in table.names if name) + ")"
