# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Video and image files of a folder: their suffixes, and a walk that reads the folder once.

The walk leaves out hidden files and the folders of archive tools, follows links, and records each file that it leaves out with
the reason. Every command that looks for videos uses it, so all commands see the same files.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tubevit.processing.frame_folders import find_frames, list_frames

from .recorded_inputs import record_folder


# Suffixes of the containers and raw streams that `tubevit.processing` decodes.
VIDEO_SUFFIXES = frozenset(
    # MPEG-4, QuickTime, 3GPP
    {".mp4", ".m4v", ".mp4v", ".mov", ".qt", ".mqv", ".f4v", ".mj2", ".3gp", ".3gpp", ".3g2", ".3gp2", ".ismv"}
    # Matroska, Ogg
    | {".mkv", ".mk3d", ".webm", ".ogv", ".ogg", ".ogm", ".ogx"}
    # AVI, Windows Media, Flash, RealMedia
    | {".avi", ".divx", ".xvid", ".amv", ".asf", ".wmv", ".wm", ".wtv", ".flv", ".swf", ".rm", ".rmvb"}
    # MPEG program and transport streams
    | {".mpg", ".mpeg", ".mpe", ".mpv", ".m2p", ".m1v", ".m2v", ".mp2v", ".vob", ".vro", ".evo", ".mod", ".tod"}
    | {".ts", ".m2ts", ".m2t", ".mts", ".tp", ".trp"}
    # professional formats, raw streams, animations
    | {".mxf", ".dv", ".dif", ".nut", ".ivf", ".obu", ".y4m"}
    | {".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".vc1"}
    | {".gif", ".apng"}
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", ".avif"})
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
ARCHIVE_SUFFIXES = (".tar", ".gz", ".tgz", ".zip", ".rar", ".7z", ".bz2", ".xz", ".zst")
NO_DATA_FOLDERS = frozenset({"__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found"})
NO_DATA_FILES = frozenset({"thumbs.db", "desktop.ini", "license", "readme"})
# Reasons for which a path is left out.
HIDDEN = "hidden"
NOT_UTF8 = "with a name that is not UTF-8"
LINK_AGAIN = "a link to a folder or file that is read already"
DANGLING = "a link to nothing"
ANIMATED_SUFFIXES = (".webp", ".png", ".avif")  # of images that may be animations
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WEBP_ANIMATION = 0x02  # in the flags of a WebP file
MIN_FRAMES = 2  # smallest number of numbered pictures that are the frames of a video
SHOWN = 3  # number of names listed in a message


def kind_of(path: str | Path) -> str:
    """
    `"image"` or `"video"`, by the suffix of a file or URL; a local WebP, PNG or AVIF file that holds an animation is a video. A
    suffix that is not in `IMAGE_SUFFIXES` is a video's.
    """
    name = urlsplit(str(path)).path if "://" in str(path) else path  # the name of a local file may contain "#" or "?"
    suffix = _suffix_of(str(name))
    if suffix not in IMAGE_SUFFIXES:
        return "video"
    return "video" if suffix in ANIMATED_SUFFIXES and _is_animation(Path(path)) else "image"


def _is_animation(path: Path) -> bool:
    """Whether the head of a WebP, PNG or AVIF file states an animation."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(32)
        if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
            return len(head) > 20 and bool(head[20] & WEBP_ANIMATION)
        if head[4:8] == b"ftyp":
            return head[8:12] == b"avis"
        if head[:8] != PNG_SIGNATURE:
            return False
        file.seek(len(PNG_SIGNATURE))
        while len(chunk := file.read(8)) == 8 and chunk[4:] not in (b"acTL", b"IDAT"):
            file.seek(int.from_bytes(chunk[:4], "big") + 4, os.SEEK_CUR)  # the content and its checksum
        return chunk[4:] == b"acTL"


def is_utf8(name: str) -> bool:
    """Whether a file name is valid text. Python replaces the bytes of other names by surrogates, which no table can hold."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def shorten(names: Iterable[str], number: int = SHOWN) -> str:
    """
    The first names of a list.

    >>> shorten(["a", "b", "c", "d", "e"])
    'a, b, c, ...'
    """
    names = list(names)
    return ", ".join(names[:number]) + (", ..." if len(names) > number else "")


def count(number: int, noun: str) -> str:
    """
    >>> count(1, "file"), count(2, "file")
    ('1 file', '2 files')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


@dataclass
class MediaFolder:
    """
    A folder with its files, as `scan_folder` found them.

    path: path of the folder.
    media: names of its videos and images, sorted. A link to a missing file is one of them: it is reported as unreadable.
    others: names of its other files, sorted.
    folders: its folders, sorted by name.
    links: those names in `media` that are links.
    left_out: reason to the paths of entries below the scanned folder that are not read; the same object in all its folders.
    replacements: file name to the file elsewhere that is read in place of the files of this name below the folder.
    """

    path: Path
    media: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list["MediaFolder"] = field(default_factory=list)
    links: set[str] = field(default_factory=set)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    replacements: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def num_media(self) -> int:
        """Number of videos and images in the folder and below it."""
        return len(self.media) + sum(folder.num_media for folder in self.folders)

    @property
    def media_folders(self) -> list["MediaFolder"]:
        """The folders of this folder that hold a video or image, at any depth."""
        return [folder for folder in self.folders if folder.num_media]

    def walk(self) -> Iterator["MediaFolder"]:
        """This folder and all folders below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    def files(
        self, suffixes: frozenset[str] = MEDIA_SUFFIXES, without: Collection[Path] = (), unique: bool = True
    ) -> list[Path]:
        """As `paths`, which needs a fifth of the time."""
        return [Path(path) for path in self.paths(suffixes, without, unique)]

    def paths(
        self, suffixes: frozenset[str] = MEDIA_SUFFIXES, without: Collection[Path] = (), unique: bool = True
    ) -> list[str]:
        """
        The paths of the videos and images below the folder, sorted folder by folder.

        without: folders whose own files are left out, such as frame folders. unique: list a file that is reached twice through links
            once; `False` for looking names up.
        """
        found: list[str] = []
        links: list[str] = []
        for folder in self.walk():
            start = prefix_of(folder.path)
            for name in folder.media if folder.path not in without else ():
                if _suffix_of(name) in suffixes:
                    (links if unique and name in folder.links else found).append(start + name)
        seen = set(map(os.path.realpath, found)) if links else set()
        for path in links:  # after the files
            target = os.path.realpath(path)
            if target not in seen:
                found.append(path)
            elif path not in (paths := self.left_out.setdefault(LINK_AGAIN, [])):
                paths.append(path)
            seen.add(target)
        return sorted(found, key=lambda path: path.split(os.sep))


def prefix_of(folder: Path) -> str:
    """
    What stands before a name in the path of an entry of a folder.

    >>> prefix_of(Path("videos")), prefix_of(Path("."))
    ('videos/', '')
    """
    return "" if folder == Path() else os.path.join(folder, "")


def scan_folder(root: str | Path) -> MediaFolder:
    """
    Read a folder and all folders below it. A link to a folder is followed, but each folder is read once in each folder of `root`,
    so links cannot form a loop.
    """
    tree = MediaFolder(Path(root))
    identity = _identity(tree.path)
    for folder, is_link in _read_entries(tree):
        seen = {identity}
        waiting = [(tree, folder)] if is_link else _scan_below(tree, folder, seen)
        while waiting:  # links, after the folders themselves
            parent, linked = waiting.pop(0)
            waiting += _scan_below(parent, linked, seen)
    for folder in tree.walk():
        folder.folders.sort(key=lambda each: each.name)
    return tree


def _scan_below(parent: MediaFolder, folder: MediaFolder, seen: set) -> list[tuple[MediaFolder, MediaFolder]]:
    """Read `folder` into `parent`. Returns the links to folders found below it, with the folders that hold the links."""
    identity = _identity(folder.path)
    if identity in seen:
        folder.left_out.setdefault(LINK_AGAIN, []).append(str(folder.path))
        return []
    seen.add(identity)
    parent.folders.append(folder)
    waiting = []
    for child, is_link in _read_entries(folder):
        waiting += [(folder, child)] if is_link else _scan_below(folder, child, seen)
    return waiting


def _read_entries(folder: MediaFolder) -> list[tuple[MediaFolder, bool]]:
    """Fill `media` and `others` of a folder; returns its folders and whether each is a link."""
    folders = []
    record_folder(folder.path)
    with os.scandir(folder.path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name, path = entry.name, str(folder.path / entry.name)
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith(".") or name.lower() in NO_DATA_FOLDERS:
                if suffix in MEDIA_SUFFIXES:
                    folder.left_out.setdefault(HIDDEN, []).append(path)
            elif not is_utf8(name):
                folder.left_out.setdefault(NOT_UTF8, []).append(os.fsencode(path).decode(errors="backslashreplace"))
            elif _is_kind(entry.is_dir):
                folders.append((MediaFolder(folder.path / name, left_out=folder.left_out), entry.is_symlink()))
            elif suffix in MEDIA_SUFFIXES:
                folder.media.append(name)
                if entry.is_symlink():
                    folder.links.add(name)
            elif entry.is_symlink() and not _is_kind(entry.is_file):
                folder.left_out.setdefault(DANGLING, []).append(path)
            else:
                folder.others.append(name)
    return folders


def _is_kind(test: Callable[[], bool]) -> bool:
    """The result of `is_dir` or `is_file`; a link to itself is neither."""
    try:
        return test()
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def list_files(folder: str | Path, suffixes: frozenset[str]) -> list[Path]:
    """The files below `folder` with one of `suffixes`, sorted by path, without hidden files and folders (leading dot)."""
    return scan_folder(folder).files(suffixes)


def is_frame_folder(folder: MediaFolder) -> bool:
    """
    Whether a folder holds the frames of one video: two or more numbered pictures with one prefix, hardly any other picture, and no
    video.
    """
    if len(folder.media) < MIN_FRAMES or not IMAGE_SUFFIXES.issuperset(map(_suffix_of, folder.media)):
        return False
    try:
        frames = find_frames(folder.media, folder.path)
    except ValueError:  # several series: photographs of several cameras
        return False
    return frames is not None and len(frames.names) >= max(MIN_FRAMES, len(frames.left_out))


def frame_folders(tree: MediaFolder) -> list[MediaFolder]:
    """The frame folders among `tree` and the folders below it, sorted by path."""
    return sorted((folder for folder in tree.walk() if is_frame_folder(folder)), key=lambda folder: folder.path)


def describe_frames(folders: Iterable[str]) -> list[str]:
    """Sentences for the user on frame folders that lack frames, and on pictures in them that are not frames."""
    gaps, left_out = [], []
    for folder in folders:
        try:
            frames = list_frames(folder)
        except (ValueError, OSError):  # reported with the reason when the folder is read
            continue
        left_out += [os.path.join(folder, name) for name in frames.left_out]
        if frames.num_missing:
            gaps.append(f"{folder}: {frames.num_missing} of {frames.num_missing + len(frames.names)}")
    messages = []
    if gaps:
        noun = "folder of frames lacks" if len(gaps) == 1 else "folders of frames lack"
        messages.append(f"{len(gaps)} {noun} frames ({shorten(gaps)}); the frames after a gap keep their times.")
    if left_out:
        messages.append(f"Left out: {count(len(left_out), 'picture')} in folders of frames ({shorten(left_out, 1)}).")
    return messages


def _suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def describe_left_out(tree: MediaFolder, folders: Collection[MediaFolder], media: str | None = None) -> list[str]:
    """
    A sentence for each reason for which files are left out, with their number and the first name.

    tree: the scanned folder, whose `left_out` is described.
    folders: folders whose other files are counted by suffix; if empty, hidden files are not mentioned either.
    media: "video" or "image" if files of the other kind are left out as well.
    """
    messages = [
        f"Left out: {count(len(paths), 'path')}, {reason} ({shorten(paths, 1)})."
        for reason, paths in tree.left_out.items()
        if folders or reason != HIDDEN
    ]
    suffixes: Counter = Counter()
    for folder in folders:
        suffixes.update(_suffix_of(name) or "no suffix" for name in folder.others if not _is_note(name))
        if media is not None:
            start = prefix_of(folder.path)
            suffixes.update(_suffix_of(name) for name in folder.media if kind_of(start + name) != media)
    if suffixes:
        listed = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.most_common(5))
        messages.append(
            f"Left out: {count(suffixes.total(), 'file')} without the suffix of {media or 'media'} files ({listed})."
        )
    return messages


def _is_note(name: str) -> bool:
    return name.lower() in NO_DATA_FILES or name.lower().startswith(("readme", "license"))
