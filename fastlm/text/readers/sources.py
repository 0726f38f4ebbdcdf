"""From the paths a user gives to the sources that are read: folders and archives opened up, languages told, files
paired.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastlm.config import nearest
from fastlm.errors import DataError
from fastlm.text.readers import files
from fastlm.text.readers.base import ReadOptions, ReadReport, Row
from fastlm.text.readers.files import File
from fastlm.text.readers.languages import language_of_name, language_of_texts
from fastlm.text.readers.lines import check_aligned, head, read_aligned, read_lines
from fastlm.text.readers.tables import read_table

_log = logging.getLogger("fastlm")

_TAGGED = re.compile(r"([a-z]{2,3})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """One thing that is read from start to end: a file, or line-aligned files. It can be pickled.

    Attributes:
        files: one file, or one per language.
        languages: of the files, in their order (Korean first); of a table, the language of its one text column, or ""
        to go by columns. format: "text", "delimited", "jsonl", "parquet" or "xlsx". domain: the name to report under:
        the stem of the file (NFC, without extensions), without a language tag (ko.txt and
            en.txt together are named after their folder).
    """

    files: tuple[File, ...]
    languages: tuple[str, ...]
    format: str
    domain: str

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files on disk (of archive members, the archive)."""
        return tuple(file.path for file in self.files)

    @property
    def label(self) -> str:
        """How messages call it."""
        return " + ".join(file.label for file in self.files)

    def read(self, options: ReadOptions, report: ReadReport) -> Iterator[Row]:
        """The rows that have text, in order; ``report`` counts on.

        Raises:
            DataError: as the options' policy has it; the file and line or row are named.
        """
        if self.format != "text":
            return read_table(self.files[0], self.format, self.languages[0], options, report)
        if len(self.files) > 1:
            return read_aligned(self.files, self.languages, options, report)
        return read_lines(self.files[0], self.languages[0], options, report)


@dataclass(frozen=True)
class _Found:
    """A file on its way to being a source."""

    file: File
    format: str
    language: str  # "" where unknown so far
    stem: str  # of its name, without language tag
    explicit: bool  # the user named the file, not its folder
    tagged: bool = False  # the user named the language


def find_sources(paths: Sequence[str], options: ReadOptions) -> list[Source]:
    """The sources that files, folders, archives and ``LANG=FILE`` stand for, in the order given.

    Two text files of one folder whose names differ only in the language are a parallel corpus, and so are neighbours
    given as ``ko=A en=B`` - unless ``align="no"``. With ``align="yes"`` neighbouring text files of different languages
    are paired whatever their names, and a text file left without a partner is refused.

    In a folder or archive, what has another extension is left out with a log line; so is a text file whose name says no
    language beside others whose names do, or whose script says none.

    Raises:
        DataError: nothing there, nothing readable, an unknown language, a content that is not what the name says, or
            aligned files of unequal length.
    """
    found: list[_Found] = []
    seen = set()
    for path in paths:
        for one in _resolve(path, options):
            key = (one.file.path.resolve(), one.file.member)
            if key in seen:
                _log.warning("%s is given twice; reading it once", one.file.label)
                continue
            seen.add(key)
            found.append(one)
    sources = _paired(found, options)
    for source in sources:
        if len(source.files) > 1:
            check_aligned(source.files, options)
    return sources


def _resolve(argument: str, options: ReadOptions) -> list[_Found]:
    """What one argument stands for."""
    tagged = _TAGGED.fullmatch(argument)
    language, name = ("", argument) if tagged is None or _exists(argument) else (tagged[1], tagged[2])
    path = _exists(name)
    if path is None:
        raise DataError(f"{name}: no such file or folder{_similar(Path(name))}")
    if path.is_dir():
        members = [file for p in sorted(path.rglob("*")) if _wanted(p, path) for file in _expand_in_folder(p)]
        return _of_many(str(path), members, language, options)
    members = files.expand(path)
    if members[0].member:
        return _of_many(str(path), [m for m in members if _known(m)], language, options)
    return [_look(members[0], language, options, explicit=True)]


def _exists(name: str) -> Path | None:
    """The path, also where the disk spells its name in another Unicode form (macOS writes NFD)."""
    for spelling in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
        path = Path(spelling).expanduser()
        try:
            if path.exists():
                return path
        except OSError:  # a name too long to be one
            return None
    return None


def _similar(path: Path) -> str:
    try:
        return nearest(path.name, [p.name for p in path.parent.iterdir()])
    except OSError:
        return ""


def _wanted(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return path.is_file() and not any(part.startswith((".", "~$")) or part == "__MACOSX" for part in parts)


def _expand_in_folder(path: Path) -> list[File]:
    return [member for member in files.expand(path) if _known(member)]


def _known(file: File) -> bool:
    if file.suffix in files.FORMATS:
        return True
    _log.info("%s is left out: %s is no text format", file.label, file.suffix or "a name without extension")
    return False


def _of_many(name: str, members: list[File], language: str, options: ReadOptions) -> list[_Found]:
    """The files of a folder or archive that can be read.

    Raises:
        DataError: there are none.
    """
    looked = [_look(file, language, options, explicit=False) for file in members]
    named = {f.file.folder for f in looked if f.format == "text" and language_of_name(f.file.stem)[0]}
    kept = []
    for one in looked:
        unnamed = one.format == "text" and not language and not language_of_name(one.file.stem)[0]
        if unnamed and (not one.language or one.file.folder in named):
            _log.warning(
                "%s is left out: its name says no language; give it as ko=%s to read it", one.file.label, one.file.path
            )
        else:
            kept.append(one)
    if not kept:
        raise DataError(f"{name}: no txt, tsv, csv, jsonl, parquet or xlsx file in it that can be read")
    return kept


def _look(file: File, language: str, options: ReadOptions, *, explicit: bool) -> _Found:
    """Format, language and stem of one file.

    Raises:
        DataError: its content is not what its name says, or (where ``explicit``) its language cannot be told.
    """
    format_name = files.format_of(file)
    by_name, stem = language_of_name(file.stem)
    tagged = bool(language)
    if format_name == "text":
        start = head(file, options).split("\n")
        start = start[:-1] or start  # the last one may be cut
        if _is_table(file, start):
            format_name = "delimited"
        else:
            language = language or by_name or language_of_texts(start)
            if explicit and not language and any(line.strip() for line in start):
                raise DataError(
                    f"{file.label}: its name and script tell no language; give it as ko={file.path} or en={file.path}"
                )
    return _Found(file, format_name, language, stem if format_name == "text" else file.stem, explicit, tagged)


def _is_table(file: File, start: list[str]) -> bool:
    """A .txt whose lines all have the same tabs is a table by another name (NSMC's are)."""
    tabs = {line.count("\t") for line in start if line.strip()}
    return file.suffix not in (".ko", ".en") and len(start) > 1 and len(tabs) == 1 and 0 not in tabs


def _paired(found: list[_Found], options: ReadOptions) -> list[Source]:
    """Sources in the order of their first file."""
    partners: dict[int, tuple[int, ...]] = {}
    if options.align != "no":
        partners = _by_name(found)
        _add_neighbours(found, partners, every=options.align == "yes")
    taken: set[int] = set()
    sources = []
    for index, one in enumerate(found):
        if index in taken:
            continue
        group = partners.get(index, (index,))
        if options.align == "yes" and one.format == "text" and len(group) == 1:
            raise DataError(
                f"{one.file.label}: no file of another language to align it with; give both, or --align auto"
            )
        taken.update(group)
        members = [found[i] for i in group]
        sources.append(
            Source(tuple(m.file for m in members), tuple(m.language for m in members), one.format, _domain(members))
        )
    return sources


def _by_name(found: list[_Found]) -> dict[int, tuple[int, ...]]:
    """Files of one folder and one name up to the language tag."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, one in enumerate(found):
        if one.format == "text" and one.language and language_of_name(one.file.stem)[0]:
            groups.setdefault((one.file.folder, one.stem), []).append(index)
    partners = {}
    for unsorted in groups.values():
        group = sorted(unsorted, key=lambda i: (found[i].language != "ko", found[i].language))
        if len(group) > 1 and len({found[i].language for i in group}) == len(group):
            partners.update(dict.fromkeys(group, tuple(group)))
    return partners


def _add_neighbours(found: list[_Found], partners: dict[int, tuple[int, ...]], *, every: bool) -> None:
    """Text files given one after the other in two languages, as ``ko=A en=B``."""
    for first in range(len(found) - 1):
        pair = (first, first + 1)
        both = [found[i] for i in pair]
        free = not any(i in partners for i in pair)
        meant = all(f.format == "text" and f.explicit and f.language and (every or f.tagged) for f in both)
        if free and meant and both[0].language != both[1].language:
            partners.update(dict.fromkeys(pair, pair if both[0].language == "ko" else pair[::-1]))


def _domain(members: list[_Found]) -> str:
    stems = {member.stem for member in members}
    stem = next(iter(stems)) if len(stems) == 1 else "+".join(member.stem for member in members if member.stem)
    return stem or _folder_name(members[0].file)


def _folder_name(file: File) -> str:
    folder = Path(file.folder) if file.member else file.path.resolve().parent
    name = folder.name.removesuffix(".zip") if file.member else folder.name
    return unicodedata.normalize("NFC", name) or "text"
