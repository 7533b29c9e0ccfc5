# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Videos or images in one folder per class: `<root>/<class>/*.mp4`, or `<root>/train|val|test/<class>/*.mp4`. A video may be a folder
of frames, `<class>/<video>/img_00001.jpg`.

A data set holds videos, or frame folders, or images. If its folders hold several of these, the most frequent kind is read, and
the others are left out with a message. A picture that has the name of a video beside it is a thumbnail.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..media_files import (
    MediaFolder,
    count,
    describe_left_out,
    frame_folders,
    is_frame_folder,
    kind_of,
    prefix_of,
    scan_folder,
    shorten,
)
from .registry import AnnotationFormat, ReadContext, register_format
from .samples import VideoSample, split_of


class ClassMedia(NamedTuple):
    """
    What class folders hold, as `(class, path)`.

    videos: video files. frames: frame folders. images: pictures outside of frame folders. thumbnails: pictures of the videos.
    """

    videos: list[tuple[str, str]]
    frames: list[tuple[str, str]]
    images: list[tuple[str, str]]
    thumbnails: list[tuple[str, str]]


def find_class_media(tree: MediaFolder) -> ClassMedia:
    """The videos and images in the folders of `tree`."""
    found = ClassMedia([], [], [], [])
    found.frames.extend(_class_frame_folders(tree))
    inside = {Path(path) for _, path in found.frames}
    for folder in tree.folders:
        for path in folder.paths(without=inside):
            (found.videos if kind_of(path) == "video" else found.images).append((folder.name, path))
    stems = {(name, _stem_of(path)) for name, path in found.videos} if found.images else set()
    found.thumbnails.extend(entry for entry in found.images if (entry[0], _stem_of(entry[1])) in stems)
    if found.thumbnails:
        found.images[:] = [entry for entry in found.images if (entry[0], _stem_of(entry[1])) not in stems]
    return found


def _stem_of(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _class_frame_folders(tree: MediaFolder) -> list[tuple[str, str]]:
    """
    Frame folders below the class folders. If each class holds one and all have the same name, as in `<class>/images/0001.jpg`,
    they hold images.
    """
    found = [
        (top.name, str(each.path)) for top in tree.folders for child in top.folders for each in frame_folders(child)
    ]
    names = {os.path.relpath(path, tree.path / name) for name, path in found}
    return [] if len(names) == 1 and len(found) > 1 else found


def main_media(trees: Iterable[MediaFolder]) -> str | None:
    """The most frequent kind of media in class folders, "video" or "image"; `None` if they hold neither. Videos win a tie."""
    found = [find_class_media(tree) for tree in trees]
    num_videos = max(sum(len(each.videos) for each in found), sum(len(each.frames) for each in found))
    num_images = sum(len(each.images) for each in found)
    if not num_videos and not num_images:
        return None
    return "video" if num_videos >= num_images else "image"


def list_samples(folder: MediaFolder, media: str, messages: list[str]) -> list[VideoSample]:
    """
    A sample of each video (or image) in a folder of `folder`; the label is the name of that folder.

    messages: a sentence is appended for each kind of files or folders that are left out.
    """
    found = find_class_media(folder)
    if media == "image" and len(found.frames) > len(found.images):  # the user stated that the pictures are images
        pictures = [(top.name, path) for top in folder.folders for path in top.paths() if kind_of(path) == "image"]
        found = found._replace(images=pictures, frames=[])
    if media == "image":
        kind, chosen, others = "images", found.images, {"folder of frames": found.frames}
    elif len(found.videos) >= len(found.frames):
        kind, chosen, others = "video files", found.videos, {"folder of frames": found.frames}
    else:
        kind, chosen = "folders of frames", found.frames
        others = {"video file": found.videos, "picture": found.images + found.thumbnails}
    start = len(prefix_of(folder.path))  # all paths begin with the path of the folder
    replaced = {name: str(path) for name, path in folder.replacements.items()}
    samples = [
        VideoSample(
            replaced.get(os.path.basename(path), path) if replaced else path, name, path[start:].replace(os.sep, "/")
        )
        for name, path in chosen
    ]
    samples.sort(key=lambda sample: (sample.label, sample.path))
    for noun, entries in others.items():
        if entries:
            noun = noun.replace("folder of", "folders of") if len(entries) > 1 and "folder" in noun else noun
            number = count(len(entries), noun) if "folder" not in noun else f"{len(entries):,} {noun}"
            messages.append(
                f"Left out: {number} ({entries[0][1][start:]}), because the data set has more {kind} "
                f"({len(chosen):,})."
            )
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
    numbered = [top.name for top in folder.folders if is_frame_folder(top)] if media == "image" else []
    if len(numbered) > 1 and len(numbered) == len(folder.media_folders):
        messages.append(
            f"Each of {shorten(f'{name}/' for name in numbered)} is a class of numbered pictures. If each holds the frames of one "
            "video, give the labels in an annotation file with the columns path and label."
        )
    inside = {Path(path) for _, path in found.frames}
    walked = [each for top in folder.folders for each in top.walk() if each.path not in inside]
    messages += describe_left_out(folder, walked, None if chosen is found.frames else media)
    return samples


def _register(name: str, media: str, priority: int) -> None:
    def sniff_folders(folders: list[MediaFolder]) -> bool:
        return main_media(folders) == media

    def sniff(path: Path) -> bool:
        return path.is_dir() and sniff_folders([scan_folder(path)])

    def read(path: Path, context: ReadContext) -> list[VideoSample]:
        messages = [] if context.messages is None else context.messages
        return list_samples(context.folder or scan_folder(path), media, messages)

    register_format(
        AnnotationFormat(
            name=name,
            description=f"{media}s in one folder per class"
            + (" (files, or folders of frames)" if media == "video" else ""),
            sniff=sniff,
            sniff_folders=sniff_folders,
            read=read,
            priority=priority,
            layout="folder",
            media=media,
            options=("frame_folder_fps",) if media == "video" else (),
        )
    )


_register("class_folders", "video", 60)
_register("image_folders", "image", 70)
