"""Files as streams of bytes, whether plain, in a .gz or in a .zip, with the type that their content shows."""

from __future__ import annotations

import gzip
import io
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from fastlm.errors import DataError

TEXT = "plain text"
XLSX = "an xlsx workbook"
ZIP = "a zip archive"
GZIP = "gzip data"
PARQUET = "parquet"
_MAGIC = (
    (b"\x1f\x8b", GZIP),
    (b"PAR1", PARQUET),
    (b"%PDF", "a PDF document"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"BZh", "bzip2 data"),
    (b"SQLite format 3\x00", "an SQLite database"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

FORMATS = {
    **dict.fromkeys((".txt", ".text", ".ko", ".en", ".kor", ".eng"), "text"),
    **dict.fromkeys((".tsv", ".csv", ".tab"), "delimited"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
}
_CONTENT = {"text": TEXT, "delimited": TEXT, "jsonl": TEXT, "parquet": PARQUET, "xlsx": XLSX}
_OLD_EXCEL = (".xls",)

# What reading a damaged or cut-off stream raises.
DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile)


@dataclass(frozen=True)
class File:
    """One file, or one member of a zip archive; ``.gz`` around either is undone when it is opened.

    Attributes:
        path: on disk.
        member: the member's name as the archive spells it, empty for a file of its own.
        name: the file's own name in NFC, without ``.gz``; for a member, its recovered name without folders.
        folder: where it lies, to tell namesakes apart: the folder, or the archive and the folder inside.
    """

    path: Path
    member: str = ""
    name: str = ""
    folder: str = ""

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.path}/{self.name}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """Lower-case extension without ``.gz``."""
        return Path(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        """The name without the extensions of formats and archives; a language as extension (``train.ko``) stays."""
        return (
            self.name[: -len(self.suffix)]
            if self.suffix in FORMATS and self.suffix not in _LANGUAGE_SUFFIXES
            else self.name
        )

    def open(self) -> BinaryIO:
        """The decompressed bytes from the start.

        Raises:
            DataError: missing, forbidden, or a damaged or password-protected archive.
        """
        try:
            stream = self._raw()
        except OSError as error:
            raise DataError(f"{self.label}: cannot be read ({error.strerror or error})") from None
        except zipfile.BadZipFile as error:
            raise DataError(f"{self.label}: the zip archive is damaged ({error})") from None
        except RuntimeError:  # zipfile's word for encryption
            raise DataError(f"{self.label}: the zip archive is password-protected; unpack it first") from None
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if self._is_gz else stream

    def open_seekable(self) -> BinaryIO:
        """As :meth:`open`, for formats that are read from their end; out of archives they are held in memory.

        Raises:
            DataError: as :meth:`open`, or cut off.
        """
        stream = self.open()
        if isinstance(stream, io.BufferedReader) and not self.member:
            return stream
        with stream:
            try:
                return io.BytesIO(stream.read())
            except DAMAGED as error:
                raise DataError(
                    f"{self.label}: the archive is damaged or cut off ({error}); no record can be read"
                ) from None

    @property
    def _is_gz(self) -> bool:
        return (self.member or self.path.name).lower().endswith(".gz")

    def _raw(self) -> BinaryIO:
        if self.member:
            return cast(BinaryIO, zipfile.ZipFile(self.path).open(self.member))
        return open(self.path, "rb")


_LANGUAGE_SUFFIXES = (".ko", ".en", ".kor", ".eng")


def expand(path: Path) -> list[File]:
    """The file at ``path``, or the members of the zip archive there, in the archive's order.

    Raises:
        DataError: unreadable; a damaged archive, or one without files.
    """
    name = _without_gz(unicodedata.normalize("NFC", path.name))
    file = File(path, "", name, str(path.parent))
    if not path.name.lower().endswith(".zip"):
        return [file]
    if (seen := content(file)) != ZIP:
        raise DataError(f"{path}: named .zip, but it holds {seen}: rename it to what it is")
    members = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            recovered = member_name(info)
            parts = recovered.split("/")
            if info.is_dir() or parts[0] == "__MACOSX" or parts[-1].startswith((".", "~$")):
                continue
            inside = File(path, info.filename, _without_gz(parts[-1]), "/".join([str(path), *parts[:-1]]))
            if inside.suffix == ".zip":
                raise DataError(f"{inside.label}: a zip archive inside a zip archive; unpack the outer one")
            members.append(inside)
    if not members:
        raise DataError(f"{path}: the zip archive holds no files")
    return members


def _without_gz(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def member_name(info: zipfile.ZipInfo) -> str:
    """A member's name in NFC; where the archive does not say UTF-8, zipfile read as cp437 what usually is CP949."""
    name = info.filename
    if not info.flag_bits & 0x800:
        raw = name.encode("cp437", errors="replace")
        for encoding in ("utf-8", "cp949"):
            try:
                name = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    return unicodedata.normalize("NFC", name)


def content(file: File) -> str:
    """What the bytes are, whatever the name says; "nothing" for an empty file."""
    with file.open() as stream:
        try:
            head = stream.read(4096)
        except DAMAGED as error:
            raise DataError(
                f"{file.label}: the archive is damaged or cut off ({error}); no record can be read"
            ) from None
    if not head:
        return "nothing"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_content(file)
    if head.startswith(_OLE):
        return _ole_content(file)
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), TEXT)


def _zip_content(file: File) -> str:
    """Office documents are zip archives; their member names say which."""
    with file.open_seekable() as stream:
        try:
            names = set(zipfile.ZipFile(stream).namelist())
        except zipfile.BadZipFile:
            return "a zip archive (or xlsx workbook) that is damaged or cut off"
    kinds = {"xl/workbook.xml": XLSX, "xl/workbook.bin": "an xlsb workbook", "word/document.xml": "a Word document"}
    kinds["content.xml"] = "an OpenDocument file"
    return next((kind for name, kind in kinds.items() if name in names), ZIP)


def _ole_content(file: File) -> str:
    with file.open_seekable() as stream:
        data = stream.read()
    if "EncryptedPackage".encode("utf-16-le") in data:
        return "a password-protected Office document"
    return "an old Excel workbook (xls) or other OLE document"


_ADVICE = {
    "a password-protected Office document": "remove the password in Excel (save as .xlsx)",
    "an old Excel workbook (xls) or other OLE document": "save it as .xlsx",
    XLSX: "rename it to .xlsx",
    PARQUET: "rename it to .parquet",
    ZIP: "rename it to .zip",
    GZIP: "name it with .gz at the end",
    TEXT: "rename it to .txt, .csv, .tsv or .jsonl",
}


def format_of(file: File) -> str:
    """One of "text", "delimited", "jsonl", "parquet", "xlsx": by the name, and the content must agree.

    An unknown extension goes by the content alone.

    Raises:
        DataError: a content that cannot be read, or not the one the extension says; the type seen is named.
    """
    named = FORMATS.get(file.suffix)
    seen = content(file)
    if seen == "nothing" and named in (None, "text", "delimited", "jsonl"):
        return named or "text"
    if named and _CONTENT[named] == seen:
        return named
    by_content = {TEXT: "text", XLSX: "xlsx", PARQUET: "parquet"}
    if not named and file.suffix not in _OLD_EXCEL and seen in by_content:
        return by_content[seen]
    advice = _ADVICE.get(seen, "give txt, tsv, csv, jsonl, parquet or xlsx")
    raise DataError(f"{file.label}: named {file.suffix or 'without extension'}, but it holds {seen}; {advice}")
