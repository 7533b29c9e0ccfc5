"""Frames of clips as images: no frame of a scored clip is trained on, and labels are those of the column."""

import csv
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from video_files import write_video

from tubevit.training.data.data_config import DataConfig
from tubevit.training.data.video_datasets import load_video_dataset
from tubevit.training.experiments.clip_frames import choose_frames, read_labels, with_frames
from tubevit.training.experiments.folds import Fold, GroupedClips, read_groups
from tubevit.training.experiments.settings import Data


PLACES = ["roof", "yard", "", "in/out"]  # of every fourth clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """16 clips in two splits, each of one gray, by which its frames are recognized; four films."""
    folder = tmp_path_factory.mktemp("places")
    rows = []
    for index in range(16):
        label, split = ("left", "right")[index % 2], ("train", "val")[index // 10]
        path = folder / split / label / f"{index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, np.full((8, 16, 16, 3), 15 * index, np.uint8))
        name = path.relative_to(folder).as_posix()
        rows.append((name, label, split, f"film {index // 4}", PLACES[index % 4], "left" if index % 2 else "", index))
    header = ("file", "label", "split", "source", "place", "half", "number")
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    with open(folder / "a_notes.csv", "w", newline="") as file:  # has the column, and names other files
        csv.writer(file).writerows([("file", "label", "place"), ("other.mp4", "left", "roof")])
    return folder


def images_of(folder):
    """{(clip, place)} of the images in class folders, clips recognized by their gray, and the number of images of each clip."""
    found = [
        (round(np.asarray(Image.open(path)).mean() / 15), path.parent.name.replace("%2F", "/"))
        for path in folder.glob("*/*.jpg")
    ]
    return set(found), {sum(each == clip for each, _ in found) for clip, _ in found}


@pytest.mark.parametrize("kind", ["folds", "split"])
def test_no_frame_of_a_scored_clip_is_trained_on_and_labels_are_those_of_the_column(clips, tmp_path, kind):
    source = str(clips / "labels.csv")
    sides = [Fold(source, "source", 4, fold) for fold in range(4)]
    if kind == "split":
        sides, source = [Data.of_files(str(clips), None, 8, 14)], str(clips)
    scored_clips = []
    for side in sides:
        data = with_frames(side, "place", 14)
        data.write("image", tmp_path)
        options = data.options("image", tmp_path)
        listed = load_video_dataset(DataConfig(**options))
        assert listed.media == "image" and listed.class_names == ["in%2Fout", "roof", "yard"]
        train, counts = images_of(data.frame_folder(tmp_path) / "train")
        scored, _ = images_of(data.frame_folder(tmp_path) / "validation")
        assert counts == {4} and not {clip for clip, _ in train} & {clip for clip, _ in scored}
        assert train | scored == {(clip, PLACES[clip % 4]) for clip in range(16) if PLACES[clip % 4]}
        if kind == "folds":
            grouped = read_groups(source, "source", 4, 0)
            numbers = [int(path.rsplit("/", 1)[1][:-4]) for path in grouped.paths]
            own = {number for number, fold in zip(numbers, grouped.folds, strict=True) if fold == side.fold}
        else:
            own = set(range(10, 16))
        assert {clip for clip, _ in scored} == {clip for clip in own if PLACES[clip % 4]}
        scored_clips += own
        # The clips of the run are those of the data without images.
        for each in (side, data):
            each.write("video", tmp_path)
        plain, framed = (load_video_dataset(DataConfig(**each.options("video", tmp_path))) for each in (side, data))
        assert kind == "split" or len(plain.splits["train"]) == len(framed.splits["train"]) == 12
    assert kind == "split" or sorted(scored_clips) == list(range(16))


def test_images_are_written_once_and_those_of_changed_annotations_or_clips_are_replaced(clips, tmp_path):
    clips = shutil.copytree(clips, tmp_path / "clips")
    data = with_frames(Data.of_files(str(clips), None, 8, 14), "label", 14)
    data.write("image", tmp_path)
    folder = data.frame_folder(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*.jpg")}
    assert len(files) == 64 and {path.parent.name for path in files} == {"left", "right"}
    frames = sorted(folder.glob("train/left/0-*.jpg"))
    moved = [path.replace(folder / "train" / "right" / path.name) for path in frames]  # as of other annotations
    data.write("image", tmp_path)
    assert len(moved) == 4 and not any(path.exists() for path in moved)
    current = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*.jpg")}
    assert set(current) == set(files)
    assert {path for path in files if current[path] != files[path]} == set(frames)
    write_video(
        clips / "train" / "left" / "0.mp4", np.full((8, 16, 16, 3), 240, np.uint8)
    )  # another video, the same path
    data.write("image", tmp_path)
    new = set(folder.glob("*/*/*.jpg")) - set(files)
    assert len(new) == 4 and not any(path.exists() for path in frames)
    assert all(np.asarray(Image.open(path)).mean() > 230 for path in new)


def test_labels_of_a_folder_are_those_of_a_file_that_names_its_clips(clips):
    labels, where = read_labels(str(clips), None, "place")  # a_notes.csv has this column too
    assert where == "the column place of labels.csv" and sorted(filter(None, labels)) == 4 * ["in/out"] + 4 * [
        "roof"
    ] + 4 * ["yard"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("camera", "no annotation file in .* has this column .a_notes.csv has file, label, place; labels.csv has"),
        ("number", "no scored clip of fold 3 has a value that a training clip has"),
        ("half", "the training clips of fold 3 have the one value 'left', and images need two classes"),
    ],
)
def test_a_column_that_gives_no_labels_is_refused_in_one_line(clips, column, message):
    grouped = read_groups(str(clips / "labels.csv"), "source", 4, 0)
    with pytest.raises(ValueError, match=f"--image-labels {column}: .*{message}") as caught:
        labels, _ = read_labels(str(clips), None, column)
        choose_frames(grouped, labels, 3, column, " of fold 3")
    assert "\n" not in str(caught.value)


def test_clips_without_a_known_value_are_left_out_with_a_line():
    labels = ("a", "b", None, "a", "c")
    clips = GroupedClips(*[("x",) * 5] * 2, (None, 0, 0, 1, 1), ("g",) * 5, ("x",))
    found = choose_frames(clips, labels, 1, "place", " of fold 1")
    assert found.clips == {"train": [(0, "a"), (1, "b")], "validation": [(3, "a")]}
    assert [re.findall(r"1 of 5 clips|1 clips of fold 1|\(c\)", each) for each in found.messages] == [
        ["1 of 5 clips"],
        ["1 clips of fold 1", "(c)"],
    ]
    assert "of 2 training clips and 1 scored clips; training clips per class: a (1), b (1)" in found.describe("")
    with pytest.raises(ValueError, match="'New_York' and 'new york' differ in case"):
        choose_frames(clips, ("New_York", "new york", "a", "a", "a"), 1, "place")
