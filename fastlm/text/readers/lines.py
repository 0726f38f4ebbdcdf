r"""Lines of text files: decoding, and splitting at ``\n`` alone.

A file is decoded in blocks, so that memory is bounded by the longest line - and not even by that where the caller
takes long lines in pieces. ``\r\n`` ends a line too (the ``\r`` is dropped); U+2028, form feeds and lone ``\r`` stay
inside it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from fastlm.errors import DataError
from fastlm.text.readers.base import Policy, ReadOptions, ReadReport, Row
from fastlm.text.readers.files import DAMAGED, File

_BLOCK = 1 << 20  # bytes
_LONG_LINE = 1 << 20  # characters
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK = "\udc80"


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Undecodable bytes become one lone surrogate, which the reading policy then drops or replaces."""
    assert isinstance(error, UnicodeDecodeError)
    return _MARK, error.end


codecs.register_error("fastlm.mark", _mark)


def head(file: File, options: ReadOptions) -> str:
    """The start of a text file, about 64 KiB, with what cannot be decoded replaced: for looking at, not for keeping."""
    with file.open() as stream:
        try:
            data = stream.read(1 << 16)
        except DAMAGED:
            data = b""
    decoder = codecs.getincrementaldecoder(_encoding(data, options))(errors="replace")
    return decoder.decode(data)


def _encoding(start: bytes, options: ReadOptions) -> str:
    """A byte order mark wins over the option."""
    return next((name for bom, name in _BOMS if start.startswith(bom)), options.encoding)


def _hint(start: bytes) -> str:
    """What a file that is not UTF-8 may be instead."""
    if start[:4096].count(0) > len(start[:4096]) // 10:
        return "--encoding utf-16-le" if start[1::2].count(0) >= start[::2].count(0) else "--encoding utf-16-be"
    try:
        korean = codecs.getincrementaldecoder("cp949")().decode(start)
    except UnicodeDecodeError:
        return ""
    return "--encoding cp949" if any("가" <= c <= "힣" for c in korean) else ""


def blocks(file: File, options: ReadOptions) -> Iterator[str]:
    """The decoded text in blocks of about a MiB.

    Raises:
        DataError: under ``on_bad_text="refuse"``, undecodable bytes (line, byte offset and likely encoding named);
            a damaged or cut-off archive (with its last whole line).
    """
    errors = "strict" if options.on_bad_text == "refuse" else "fastlm.mark"
    fed = newlines = 0
    start = b""
    decoder = None
    with file.open() as stream:
        while True:
            try:
                # read1: what a cut-off archive still gives arrives before its error does
                data = stream.read1(_BLOCK)  # type: ignore[attr-defined]
            except DAMAGED as error:
                raise DataError(
                    f"{file.label}: damaged or cut off ({error}); the last good line is {newlines}"
                ) from None
            except OSError as error:
                raise DataError(f"{file.label}: cannot be read ({error.strerror or error})") from None
            if decoder is None:
                start = data[: 1 << 16]
                encoding = _encoding(start, options)
                _refuse_nuls(file, start, encoding)
                decoder = codecs.getincrementaldecoder(encoding)(errors=errors)
            fed += len(data)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                offset = fed - len(error.object) + error.start
                line = newlines + 1 + error.object[: error.start].decode(encoding, errors="replace").count("\n")
                hint = _hint(start) or "--encoding NAME"
                raise DataError(
                    f"{file.label}:{line}:byte {offset}: not {encoding} "
                    f"(0x{error.object[error.start]:02x}: {error.reason}); {hint}, or --on-bad-text skip or replace"
                ) from None
            newlines += text.count("\n")
            yield text
            if not data:
                return


def _refuse_nuls(file: File, start: bytes, encoding: str) -> None:
    """UTF-16 without its mark is valid UTF-8 full of NULs where the text is English."""
    if "16" not in encoding and "32" not in encoding and start[:4096].count(0) > len(start[:4096]) // 10:
        raise DataError(f"{file.label}: a tenth of its bytes are NUL, so it is not {encoding} text; {_hint(start)}")


def lines(file: File, options: ReadOptions, longest: int = 0) -> Iterator[tuple[int, str]]:
    r"""1-based number and text of every line, without its end.

    With ``longest``, a line of more characters comes in pieces of about that, cut at a space where there is one, all
    under its number. A last line without ``\n`` counts; the nothing after a last ``\n`` does not.

    Raises:
        DataError: as :func:`blocks`.
    """
    number = 1
    tail: list[str] = []  # the unfinished line, joined once
    held = 0
    for block in blocks(file, options):
        parts = block.split("\n")
        if len(parts) > 1:
            tail.append(parts[0])
            parts[0] = "".join(tail)
            tail = [parts.pop()]
            held = 0
            for line in parts:
                yield number, line[:-1] if line.endswith("\r") else line
                number += 1
        else:
            tail.append(block)
        held += len(tail[-1])
        if longest and held > longest:
            whole = "".join(tail)
            cut = whole.rfind(" ", 1)
            cut = cut if cut > 0 else len(whole)
            yield number, whole[:cut]
            tail = [whole[cut:]]
            held = len(tail[0])
    last = "".join(tail)
    if last:
        yield number, last.removesuffix("\r")


def count_lines(file: File, options: ReadOptions) -> int:
    """How many lines :func:`lines` gives.

    Raises:
        DataError: as :func:`blocks`.
    """
    count, last = 0, "\n"
    for block in blocks(file, options):
        count += block.count("\n")
        last = block[-1:] or last
    return count + (last != "\n")


def check_aligned(files: tuple[File, ...], options: ReadOptions) -> None:
    """Refuse a parallel corpus whose files have different numbers of lines.

    Raises:
        DataError: with both counts.
    """
    counts = [count_lines(file, options) for file in files]
    if len(set(counts)) > 1:
        named = ", ".join(f"{file.label} has {count:,} lines" for file, count in zip(files, counts, strict=True))
        raise DataError(f"not line-aligned: {named}; mend the files, or --align no to read them as separate texts")


def read_lines(file: File, language: str, options: ReadOptions, report: ReadReport) -> Iterator[Row]:
    """One row per line of a file in one language; a line of more than a Mi characters gives several."""
    policy = Policy(file.label, options, report, "line")
    for number, line in lines(file, options, _LONG_LINE):
        row = policy.row({language: line}, number)
        if row and not language:  # its first 64 KiB were blank
            raise DataError(f"{file.label}: its language cannot be told; give it as ko={file.path} or en={file.path}")
        if row:
            yield row


def read_aligned(
    files: tuple[File, ...], languages: tuple[str, ...], options: ReadOptions, report: ReadReport
) -> Iterator[Row]:
    """One row per line number of line-aligned files. Where one side is blank, the other is a text of its own.

    Raises:
        DataError: unequal numbers of lines.
    """
    check_aligned(files, options)
    policy = Policy(" + ".join(file.label for file in files), options, report, "line")
    for together in zip(*(lines(file, options) for file in files), strict=True):
        row = policy.row(
            {language: line for language, (_, line) in zip(languages, together, strict=True)}, together[0][0]
        )
        if row:
            yield row
