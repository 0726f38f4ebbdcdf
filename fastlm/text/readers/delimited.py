r"""TSV and CSV.

Separator: the tab for .tsv and .txt, the comma for .csv, unless the first line has none of it and does have the other
(or a semicolon).

Quotes: a tab-separated file is read unquoted, every ``"`` being text (film reviews are full of them). In the others a
field is quoted as RFC 4180 says - a quote at its start, the end right before a separator or the end of a line, quotes
inside doubled - and may run over several lines. A quote that does not keep these rules is text, so that
``"톰"이 말했다`` stays whole. So is one that would swallow rows: where every line up to the closing quote is a whole
row by itself.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache

from fastlm.text.readers.base import Policy, ReadOptions
from fastlm.text.readers.files import File
from fastlm.text.readers.lines import lines

_MOST_LINES = 1000  # in one row
_WHOLE, _OPEN, _BROKEN = "whole", "open", "broken"


def delimited_rows(file: File, options: ReadOptions, policy: Policy) -> Iterator[tuple[int, list[str]]]:
    """Number of its first line, and fields, of every row; the first is the header, if there is one.

    Blank lines are rows of empty fields. A row with more fields than the first (unless the rest is empty) or with fewer
    goes to ``policy.bad_row``.

    Raises:
        DataError: as `lines`; a row of the wrong shape under ``on_bad_row="refuse"``.
    """
    source = lines(file, options)
    first = next(source, None)
    if first is None:
        return
    separator = _separator(file, first[1])
    width = 0
    for number, fields in _records(itertools.chain([first], source), separator):
        width = width or len(fields)
        if len(fields) == 1 and not fields[0].strip():
            fields = [""] * width
        if len(fields) > width and not any(fields[width:]):
            fields = fields[:width]
        if len(fields) == width:
            yield number, fields
        else:
            policy.bad_row(number, f"{len(fields)} fields where the first row has {width}")


def _separator(file: File, header: str) -> str:
    usual = "," if file.suffix == ".csv" else "\t"
    if usual in header:
        return usual
    return next((other for other in "\t,;" if other in header), usual)


def _records(source: Iterator[tuple[int, str]], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Lines to fields, quoted fields over several lines joined."""
    width = 0
    ahead: deque[tuple[int, str]] = deque()  # lines looked at and given back
    while item := ahead.popleft() if ahead else next(source, None):
        number, line = item
        fields, state = (line.split("\t"), _WHOLE) if separator == "\t" else _fields(line, separator)
        if state == _OPEN:
            fields = _joined(item, fields, ahead, source, separator, width)
        width = width or len(fields)
        yield number, fields


def _joined(
    first: tuple[int, str],
    alone: list[str],
    ahead: deque[tuple[int, str]],
    source: Iterator[tuple[int, str]],
    separator: str,
    width: int,
) -> list[str]:
    """The fields of a row whose first line leaves a quote open; ``alone``, and no line taken, where it was no row."""
    taken = [first]
    fields, state = alone, _OPEN
    while state == _OPEN and len(taken) < _MOST_LINES and (item := ahead.popleft() if ahead else next(source, None)):
        taken.append(item)
        if '"' in item[1].replace('""', ""):  # here an open field closes, or it never was one
            fields, state = _fields("\n".join(text for _, text in taken), separator)
    swallows = width > 1 and all(len(_fields(text, separator)[0]) == width for _, text in taken)
    if state == _WHOLE and not swallows and len(fields) == (width or len(fields)):
        return fields
    ahead.extendleft(reversed(taken[1:]))
    return alone


@lru_cache
def _patterns(separator: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A whole quoted field, and the opening of one that does not close in this line."""
    body = r'"([^"]*(?:""[^"]*)*)'
    return re.compile(body + rf'"(?={re.escape(separator)}|\Z)'), re.compile(body + r"\Z")


def _fields(text: str, separator: str) -> tuple[list[str], str]:
    """Fields of one row, and whether it is whole, leaves a quoted field open, or breaks a line outside of one."""
    if '"' not in text:
        return text.split(separator), _WHOLE
    quoted, opening = _patterns(separator)
    fields, at, state = [], 0, _WHOLE
    while at <= len(text):
        match = quoted.match(text, at)
        if match:
            fields.append(match[1].replace('""', '"'))
            at = match.end() + 1
            continue
        if opening.match(text, at):
            state = _OPEN
        stop = text.find(separator, at)
        stop = stop if stop >= 0 else len(text)
        fields.append(text[at:stop])
        if state == _WHOLE and "\n" in fields[-1]:
            return fields, _BROKEN
        at = stop + 1
    return fields, state
