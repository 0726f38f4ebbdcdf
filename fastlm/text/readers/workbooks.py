"""xlsx workbooks, row by row."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import ParseError

from fastlm.errors import DataError
from fastlm.text.readers.base import Policy, ReadOptions
from fastlm.text.readers.files import File

_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ParseError, ValueError, OSError)


def workbook_rows(file: File, options: ReadOptions, policy: Policy) -> Iterator[tuple[int, list[Any]]]:
    """Spreadsheet row number and cell values of every row of the chosen sheet; the first is the header.

    Raises:
        DataError: a damaged workbook (the last good row is named), no such sheet, or several and none chosen.
    """
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    number = 0
    with file.open_seekable() as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "no default style" and its kind say nothing about the text
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            sheet = book[_sheet(file, book.sheetnames, options.sheet)]
            sheet.reset_dimensions()  # what the file says of its own size is often wrong
            for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                yield number, list(cells)
        except DataError:
            raise
        except (*_BROKEN, InvalidFileException) as error:
            last = f"the last good row is {number}" if number else "no row can be read"
            raise DataError(f"{file.label}: a broken xlsx workbook ({type(error).__name__}: {error}); {last}") from None


def _sheet(file: File, names: list[str], wanted: str) -> str:
    if wanted in names:
        return wanted
    if not wanted and len(names) == 1:
        return names[0]
    fault = f"no sheet named {wanted!r}" if wanted else "several sheets"
    raise DataError(f"{file.label}: {fault}; --sheet NAME (sheets: {', '.join(map(repr, names))})")
