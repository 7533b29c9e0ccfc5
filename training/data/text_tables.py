# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Reads text, tables and JSON of annotation files. A table is a CSV or TSV file with a header, JSON lines, a JSON list of objects,
a JSON object from file name to label, or a Parquet file. Every error is a one-line `ValueError` that names the file and, if
known, the line number.
"""

import csv
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .recorded_inputs import record_file


DELIMITERS = ",;\t"
LIST_SEPARATOR = ";"  # joins the items of a list in a cell
NAME_COLUMN, LABEL_COLUMN = "path", "label"  # of a JSON object from file name to label
SNIFFED_CHARACTERS = 65_536  # read from a file of unknown format, to find its first line


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. Raises `ValueError` for other encodings and empty files."""
    record_file(path)
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
    return _parse_json(path, read_text(path))


def _parse_json(where: str | Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if ", line" in str(where) else f", line {error.lineno}"
        raise ValueError(f"{where}{line}: not JSON ({error.msg}).") from None
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply for a file of annotations.") from None


def read_table(
    path: str | Path, required: Sequence[str], delimiter: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """
    Rows of a table as `(line or row number, {column: text})`. Columns may have any order; cells are stripped. A list in a cell
    of JSON or Parquet is joined with ";"; null and a missing cell are empty; columns of objects are left out.

    delimiter: of a CSV file; by default the most frequent of comma, semicolon and tab in the header.

    Raises `ValueError` for a missing column, a row of CSV with more or fewer cells than the header, and a file that is no table.
    """
    if _is_records(path):
        rows = _read_records(path)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        _check_header(path, columns, required)
        for number, row in enumerate(rows, start=1):
            yield number, {name: row.get(name, "") for name in columns}
    else:
        yield from _read_csv(path, required, delimiter)


def _is_records(path: str | Path) -> bool:
    return Path(path).suffix.lower() in (".json", ".jsonl", ".parquet")


def _read_records(path: str | Path) -> list[dict[str, str]]:
    """The rows of JSON lines, JSON or Parquet, with cells as text."""
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        rows = _read_parquet(path)
    elif suffix == ".jsonl":
        rows = [
            _parse_json(f"{path}, line {i}", line)
            for i, line in enumerate(read_text(path).splitlines(), 1)
            if line.strip()
        ]
    else:
        rows = read_json(path)
        if (
            isinstance(rows, dict) and rows and all("." in name for name in rows)
        ):  # file name to label or to its columns
            rows = [
                {NAME_COLUMN: name, **(value if isinstance(value, dict) else {LABEL_COLUMN: value})}
                for name, value in rows.items()
            ]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is not a table: it must hold one JSON object per video.")
    return [{name: text for name, cell in row.items() if (text := _cell_text(cell)) is not None} for row in rows]


def _cell_text(cell: Any) -> str | None:
    """The text of a cell; `None` for an object."""
    if isinstance(cell, (list, tuple)):
        items = [_cell_text(each) for each in cell]
        return None if None in items else LIST_SEPARATOR.join(items)
    if isinstance(cell, (dict, bytes)):
        return None
    return "" if cell is None else str(cell).strip()


def _read_parquet(path: str | Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    record_file(path)
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            plain = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_plain(kind)]
            return file.read(columns=plain).to_pylist() if plain else []
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _is_plain(kind: Any) -> bool:
    """Whether a column of this Arrow type holds text or numbers, or lists of them, rather than the bytes of videos."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return _is_plain(kind.value_type)
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _read_csv(
    path: str | Path, required: Sequence[str], delimiter: str | None
) -> Iterator[tuple[int, dict[str, str]]]:
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
    """The columns of a table."""
    if _is_records(path):
        return list(dict.fromkeys(name for row in _read_records(path) for name in row))
    line = read_text(path).strip().splitlines()[0]
    try:
        return _split_cells(line)
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: not CSV ({error}).") from None


def sniff_text(path: Path) -> str:
    """The first 64 K characters of a file; empty if `path` is not a file or not UTF-8 text."""
    record_file(path)
    if not path.is_file():
        return ""
    with open(path, encoding="utf-8-sig") as file:
        try:
            return file.read(SNIFFED_CHARACTERS)
        except UnicodeDecodeError:
            return ""


def sniff_json(path: Path) -> Any:
    """
    The beginning of a JSON file: a list of its first item, or a dictionary of its first entry. `None` if `path` is not a `.json` file
    of a list or a dictionary, or if the first item does not end within the first 64 K characters.
    """
    text = sniff_text(path).lstrip() if path.suffix.lower() == ".json" else ""
    start = re.match(r'\[\s*|\{\s*(?P<name>"(?:[^"\\]|\\.)*")\s*:\s*', text)
    if start is None:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start.end())
        return [value] if start["name"] is None else {json.loads(start["name"]): value}
    except (ValueError, RecursionError):
        return None


def sniff_line(path: Path) -> str:
    """The first line of a file that is not blank, stripped; empty if `path` is not a file or not UTF-8 text."""
    return next((line.strip() for line in sniff_text(path).splitlines() if line.strip()), "")


def sniff_header(path: Path) -> list[str]:
    """The columns of a table; an empty list if `path` is not a table. Of JSON and Parquet files all rows are read."""
    try:
        if _is_records(path):
            return read_header(path) if path.is_file() else []
        return _split_cells(sniff_line(path))
    except (ValueError, OSError, csv.Error):
        return []


def _split_cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=_guess_delimiter(line)), [])]


def _guess_delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count)
