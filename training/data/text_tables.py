# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Reads text, CSV tables and JSON of annotation files. Every error is a one-line `ValueError` that names the file and, if
known, the line number.
"""

import csv
import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


DELIMITERS = ",;\t"
SNIFFED_CHARACTERS = 65_536  # read from a file of unknown format, to find its first line


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. Raises `ValueError` for other encodings and empty files."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start}): annotation files must be UTF-8 text."
        ) from None
    if not text.strip():
        raise ValueError(f"{path} is empty.")
    return text


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises `ValueError` for text that is not JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply for a file of annotations.") from None


def read_table(
    path: str | Path, required: Sequence[str], delimiter: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """
    Rows of a CSV file with a header, as `(line number, {column: text})`. Columns may have any order; cells are stripped.

    delimiter: by default the most frequent of comma, semicolon and tab in the header.

    Raises `ValueError` for a missing column, a row with more or fewer cells than the header, and text that is not CSV.
    """
    text = read_text(path)
    delimiter = delimiter or _guess_delimiter(text.lstrip().splitlines()[0])
    lines = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
    header = None
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _check_header(path, cells, required)
            elif len(cells) != len(header):
                raise ValueError(
                    f"{path}, line {lines.line_num}: {len(cells)} cells where the header has {len(header)}; quote cells that "
                    f"contain {delimiter!r}."
                )
            else:
                yield lines.line_num, dict(zip(header, map(str.strip, cells), strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, line {lines.line_num}: not CSV ({error}).") from None


def _check_header(path: str | Path, cells: list[str], required: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    for name in required:
        if name not in header:
            close = difflib.get_close_matches(name, header, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(header)[:200]}."
            raise ValueError(f"{path} has no column {name!r}; {hint}")
    if repeated := {name for name in header if header.count(name) > 1}:
        raise ValueError(f"{path} has more than one column {min(repeated)!r}.")
    return header


def read_header(path: str | Path) -> list[str]:
    """The cells of the first line of a CSV file."""
    line = read_text(path).strip().splitlines()[0]
    try:
        return _split_cells(line)
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: not CSV ({error}).") from None


def sniff_line(path: Path) -> str:
    """The first line of a file that is not blank, stripped; empty if `path` is not a file or not UTF-8 text."""
    if not path.is_file():
        return ""
    with open(path, encoding="utf-8-sig") as file:
        try:
            lines = file.read(SNIFFED_CHARACTERS).splitlines()
        except UnicodeDecodeError:
            return ""
    return next((line.strip() for line in lines if line.strip()), "")


def sniff_header(path: Path) -> list[str]:
    """The cells of the first line of a CSV file; an empty list if `path` is not a file or not CSV."""
    try:
        return _split_cells(sniff_line(path))
    except csv.Error:
        return []


def _split_cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=_guess_delimiter(line)), [])]


def _guess_delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count)
