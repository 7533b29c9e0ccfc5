# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
What every annotation format is read into, a `VideoSample` per video, and what the readers share: text and tables with errors
that name the line, names of splits, and a folder of clips that is listed once.

Readers look at annotations only. Whether a file is there and can be decoded is for `check_data` to find out, so that one
missing clip in 240,000 is a line in a report, not the end of reading.
"""

import csv
import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit


SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev"),
    "test": ("test", "testing"),
}


class VideoSample(NamedTuple):
    """
    A video of a data set.

    path: where the file is, or should be.
    label: name or index of its class, a tuple of them for several classes, `None` where the label is not known.
    video_id: what the annotations call it; the same whatever folder the files lie in.
    split: "train", "validation", "test", or `None` where the annotations do not say.
    """

    path: str
    label: str | int | tuple | None
    video_id: str
    split: str | None = None


def split_of(name: str) -> str | None:
    """
    The split that a word stands for, `None` if it is none.

    >>> split_of("Val"), split_of("validate"), split_of("monkey")
    ('validation', 'validation', None)
    """
    word = name.strip().lower()
    return next((split for split, names in SPLIT_NAMES.items() if word in names), None)


def split_of_file(path: Path) -> str | None:
    """
    The split that the name of an annotation file contains.

    >>> split_of_file(Path("kinetics-400_val.csv")), split_of_file(Path("something-something-v2-labels.json"))
    ('validation', None)
    """
    found = {split_of(word) for word in re.split(r"[^a-z]+", path.stem.lower())} - {None}
    return found.pop() if len(found) == 1 else None


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. Raises `ValueError` for other bytes and for none."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): it cannot hold annotations.") from None
    if not text.strip():
        raise ValueError(f"{path} is empty.")
    return text


def read_table(
    path: str | Path, required: Sequence[str], delimiter: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """
    Rows of a CSV file with a header, `(line number, {column: text})`, columns by name in any order, cells stripped.

    delimiter: the header's own by default, of comma, semicolon and tab.

    Raises `ValueError` for a missing column, a row with more or fewer cells than the header, and what is no CSV.
    """
    text = read_text(path)
    delimiter = delimiter or max(",;\t", key=text.lstrip().splitlines()[0].count)
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
        return [cell.strip() for cell in next(csv.reader([line], delimiter=max(",;\t", key=line.count)))]
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: not CSV ({error}).") from None


class VideoFolder:
    """
    Finds the files of a data set in a folder. Folders are listed once each: asking the file system for each of 240,000
    names is slow where it is a network's.

    A file is found under its own name or with another video suffix: copies of a set are often converted.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"There is no folder {self.root} of videos.")
        self.folders: dict[str, dict[str, list[str]]] = {}  # folder to its files: name without suffix to names
        self.clips: dict[str, list[str]] | None = None  # name without suffix to relative paths, of all files below

    def find(self, name: str) -> str:
        """
        Path of the file that annotations call `name`: absolute, or relative to the folder.

        Where there is none, the path at which it should be.
        """
        path = os.path.normpath(os.path.join(self.root, name))
        if os.path.isabs(name):
            return path
        folder, file = os.path.split(path)
        if folder not in self.folders:
            self.folders[folder] = _list_videos(folder)
        others = self.folders[folder].get(os.path.splitext(file)[0], [])
        return path if file in others or not others else os.path.join(folder, min(others))

    def find_clip(self, stems: Sequence[str], folder: str | None = None) -> str | None:
        """
        Path of a file with one of the names `stems` (without suffix; the first one that is there) anywhere below.

        folder: of several such files, the one in the folder of this name; spaces and underscores count as the same.
        """
        if self.clips is None:
            self.clips = defaultdict(list)
            for relative in _walk(self.root):
                stem, suffix = os.path.splitext(relative.rpartition("/")[2])
                if suffix.lower() in VIDEO_SUFFIXES:
                    self.clips[stem].append(relative)
        for stem in stems:
            found = sorted(self.clips.get(stem, []))
            inside = [path for path in found if folder and _plain(path.split("/")[-2:-1]) == _plain([folder])]
            if found:
                return str(self.root / (inside or found)[0])
        return None


def _list_videos(folder: str) -> dict[str, list[str]]:
    videos = defaultdict(list)
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in VIDEO_SUFFIXES:
            videos[stem].append(name)
    return videos


def _plain(parts: Sequence[str]) -> str:
    return "/".join(parts).lower().replace("_", " ")


def _walk(root: Path) -> Iterator[str]:
    """Relative paths of all files; links to folders are followed, each folder is entered once, hidden ones are not."""
    entered, waiting = set(), [""]
    while waiting:
        prefix = waiting.pop()
        identity = os.path.realpath(root / prefix)
        if identity in entered:
            continue
        entered.add(identity)
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append(f"{prefix}{entry.name}/")
                else:
                    yield f"{prefix}{entry.name}"


VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)


IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def kind_of(path: str | Path) -> str:
    """`"image"` or `"video"`, by the name of a file or URL. What is not known as an image is tried as a video."""
    name = urlsplit(str(path)).path if "://" in str(path) else path  # a file's own name may hold a "#" or "?"
    return "image" if Path(name).suffix.lower() in IMAGE_SUFFIXES else "video"


def list_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """The files with one of `suffixes` in `folder` and below, sorted by path; what is hidden (a leading dot) is left out."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
