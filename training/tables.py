# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Text tables for terminal output and reports."""

from typing import Any


def format_table(columns: list[str], rows: list[list[Any]]) -> str:
    """A table of text and numbers; the first column is left-aligned, the others right-aligned. `None` is an empty cell."""
    cells = [columns, *[[_format(value) for value in row] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def align(row: list[str]) -> str:
        others = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *others]).rstrip()

    return "\n".join(map(align, cells))


def _format(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        if value and abs(value) < 0.001:
            return f"{value:.0e}"
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
