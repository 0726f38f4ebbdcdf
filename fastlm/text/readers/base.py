"""What every reader shares: the options, the rows it yields, and the policy for text and rows that are at fault."""

from __future__ import annotations

import codecs
import dataclasses
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fastlm.errors import ConfigError, DataError
from fastlm.text.normalise import REMOVED
from fastlm.text.specials import SPECIAL_TOKENS

_LANGUAGE = re.compile(r"[a-z]{2,3}")
# Characters that need more than NFC; one search finds out that a text has none of them.
_care = re.compile(f"[{REMOVED}\ud800-\udfff]")
_removed = re.compile(f"[{REMOVED}]")
_surrogates = re.compile("[\ud800-\udfff]+")


@dataclass(frozen=True)
class ReadOptions:
    """How sources are read; the fields are `DataConfig`'s of the same name.

    Raises:
        ConfigError: an encoding Python does not know, a choice that is none, or a column not written ``LANG=COLUMN``.
    """

    encoding: str = "utf-8"
    on_bad_text: str = "refuse"
    on_bad_row: str = "refuse"
    columns: tuple[str, ...] = ()
    sheet: str = ""
    align: str = "auto"

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ConfigError(f"--encoding {self.encoding}: unknown; try utf-8, cp949 or utf-16") from None
        choices = {
            "on_bad_text": ("refuse", "skip", "replace"),
            "on_bad_row": ("refuse", "skip"),
            "align": ("auto", "yes", "no"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: not one of {', '.join(allowed)}")
        self.column_of  # noqa: B018  (its checks are wanted now)

    @classmethod
    def from_config(cls, config: object) -> ReadOptions:
        """The fields of that name of a `DataConfig`."""
        return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})

    @property
    def column_of(self) -> dict[str, str]:
        """Language to column, as ``columns`` names them (NFC)."""
        pairs = {}
        for entry in self.columns:
            language, _, column = entry.partition("=")
            if not _LANGUAGE.fullmatch(language) or not column or language in pairs:
                raise ConfigError(f"--columns {entry}: write LANG=COLUMN once per language, such as ko=원문 or ko=#2")
            pairs[language] = unicodedata.normalize("NFC", column)
        return pairs


class Row(NamedTuple):
    """One row of a source.

    Attributes:
        texts: language to normalised, non-empty text; two languages make a pair. White space around a text is dropped.
        row: 1-based number as an editor or a spreadsheet shows it (of the record, in parquet). The pieces of a very
            long line share theirs.
    """

    texts: dict[str, str]
    row: int


@dataclass
class ReadReport:
    """What was read and what was left out.

    Attributes:
        rows: rows seen, of all kinds.
        texts: texts taken.
        blanks: cells or lines that were empty, only white space, missing or NaN.
        bad_texts: rows dropped, or texts repaired with U+FFFD, because of undecodable bytes or lone surrogates.
        bad_rows: rows dropped because of their shape or a cell that is not text.
        normalised: texts that normalisation changed.
        special_texts: texts that contain the name of a special token, which is encoded as plain text.
    """

    rows: int = 0
    texts: int = 0
    blanks: int = 0
    bad_texts: int = 0
    bad_rows: int = 0
    normalised: int = 0
    special_texts: int = 0


class Policy:
    """Turns the cells of one source's rows into `Row`s under the user's policy, and counts."""

    def __init__(self, label: str, options: ReadOptions, report: ReadReport, row_name: str = "row") -> None:
        self.label = label
        self.options = options
        self.report = report
        self.row_name = row_name

    def row(self, cells: Mapping[str, object], number: int) -> Row | None:
        """The row's texts by language, or None where nothing of it can be used.

        Raises:
            DataError: text or a cell at fault, unless the options say otherwise.
        """
        report = self.report
        report.rows += 1
        texts: dict[str, str] = {}
        for language, value in cells.items():
            if value is None or (isinstance(value, float) and math.isnan(value)):
                report.blanks += 1
                continue
            if not isinstance(value, str):
                self.bad_row(number, f"the {language} text is {value!r} ({type(value).__name__}), not text", seen=True)
                return None
            text = value
            if _care.search(text):
                repaired = self._repair(text, number, language)
                if repaired is None:
                    return None
                text = repaired
            text = unicodedata.normalize("NFC", text)
            report.normalised += text != value
            text = text.strip()
            if not text:
                report.blanks += 1
                continue
            if "[" in text and any(name in text for name in SPECIAL_TOKENS):
                report.special_texts += 1
            texts[language] = text
        report.texts += len(texts)
        return Row(texts, number) if texts else None

    def _repair(self, text: str, number: int, language: str) -> str | None:
        bad = _surrogates.search(text)
        if bad:
            if self.options.on_bad_text == "refuse":
                raise DataError(
                    f"{self.label}: {self.row_name} {number}: the {language} text has the lone surrogate "
                    f"U+{ord(bad[0][0]):04X} at character {bad.start()}; --on-bad-text skip or replace"
                )
            self.report.bad_texts += 1
            if self.options.on_bad_text == "skip":
                return None
            text = _surrogates.sub("\ufffd", text)
        return _removed.sub("", text)

    def bad_row(self, number: int, fault: str, *, seen: bool = False) -> None:
        """Stop at a row of the wrong shape, or count it (``seen``: it is among ``report.rows`` already).

        Raises:
            DataError: under ``on_bad_row="refuse"``.
        """
        if self.options.on_bad_row == "refuse":
            raise DataError(f"{self.label}: {self.row_name} {number}: {fault}; mend it, or --on-bad-row skip")
        self.report.rows += not seen
        self.report.bad_rows += 1
