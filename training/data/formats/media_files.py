# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Which files are videos and which are images, told by their suffix, and how a folder of them is listed."""

from pathlib import Path
from urllib.parse import urlsplit


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
