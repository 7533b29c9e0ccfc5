# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Videos or images in one folder per class: `<root>/<class>/*.mp4`, or `<root>/train|val|test/<class>/*.mp4`.
"""

from pathlib import Path

from ..media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, MediaFolder, count, describe_left_out, scan_folder, shorten
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of


SUFFIXES = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}


def first_media(folder: Path) -> str | None:
    """The kind of the first video or image in a folder of `folder`, "video" or "image"; `None` if there is no such file."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            for path in entry.rglob("*"):
                for media, suffixes in SUFFIXES.items():
                    if path.suffix.lower() in suffixes:
                        return media
    return None


def list_samples(folder: MediaFolder, media: str, messages: list[str]) -> list[VideoSample]:
    """
    A sample of each video (or image) in a folder of `folder`; the label is the name of that folder.

    messages: a sentence is appended for each kind of files or folders that are left out.
    """
    samples = [
        VideoSample(str(path), each.name, path.relative_to(folder.path).as_posix())
        for each in folder.folders
        for path in each.files(SUFFIXES[media])
    ]
    empty = sorted({each.name for each in folder.folders} - {sample.label for sample in samples})
    if empty:
        messages.append(
            f"Left out: {count(len(empty), 'folder')} of {folder.path} without {media}s ({shorten(empty)})."
        )
    inner = [split_of(Path(sample.video_id).parts[1]) for sample in samples if sample.video_id.count("/") > 1]
    if len(inner) == len(samples) and None not in inner and len(set(inner)) > 1:  # <class>/train/*.mp4
        samples = [sample._replace(split=split) for sample, split in zip(samples, inner, strict=True)]
        messages.append("The splits are the folders in the class folders.")
    if folder.media:
        messages.append(
            f"Left out: {count(len(folder.media), 'file')} beside the class folders ({shorten(folder.media, 1)})."
        )
    messages += describe_left_out(folder, [each for top in folder.folders for each in top.walk()], media)
    return samples


def _register(name: str, media: str, priority: int) -> None:
    def sniff(path: Path) -> bool:
        return first_media(path) == media

    def read(path: Path, context: ReadContext) -> list[VideoSample]:
        messages = [] if context.messages is None else context.messages
        return list_samples(context.folder or scan_folder(path), media, messages)

    register_format(
        AnnotationFormat(
            name=name,
            description=f"{media}s in one folder per class",
            sniff=sniff,
            read=read,
            priority=priority,
            layout="folder",
            media=media,
            options=(),
        )
    )


_register("class_folders", "video", 60)
_register("image_folders", "image", 70)
