"""Rows of text out of files, folders and archives: :func:`find_sources`, then :meth:`Source.read`."""

from fastlm.text.readers.base import ReadOptions, ReadReport, Row
from fastlm.text.readers.sources import Source, find_sources

__all__ = ["ReadOptions", "ReadReport", "Row", "Source", "find_sources"]
