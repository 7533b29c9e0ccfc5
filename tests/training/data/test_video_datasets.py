"""Lists, tables, class folders and `datasets` are read to rows of video, label and id; damaged annotations raise."""

import math
import random
from pathlib import Path

import datasets
import pytest
from dataset_files import add_clip, add_table, class_folders, clip_bytes, error_of, load, ssv2, table
from PIL import Image

from tubevit.processing import decode_video
from tubevit.training.data.check_data import check_videos
from tubevit.training.data.class_names import LabelEncoder, read_class_names
from tubevit.training.data.dataset_columns import check_frame_rates, row_source
from tubevit.training.data.formats.registry import Source, detect_format
from tubevit.training.data.video_datasets import DataConfig, adapt_datasets


# Lists


@pytest.mark.parametrize("separator", [" ", "   ", ",", "\t", ";"])
def test_lists_of_every_separator_and_paths_with_spaces(tmp_path, separator):
    add_clip(tmp_path / "my clips, old" / "take 2.mp4")
    (tmp_path / "train.txt").write_text(f"my clips, old/take 2.mp4{separator}1\n\nb.mp4{separator}0\n")
    data = load(train_data=tmp_path / "train.txt", validation_fraction=0.0)
    assert data.data_format == "list" and data.class_names == ["0", "1"]
    assert table(data, "train") == [("my clips, old/take 2.mp4", "1", "take 2.mp4"), ("b.mp4", "0", None)]


def test_list_with_class_names_file(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 2\n")
    (tmp_path / "classes.txt").write_text("hop\nskip\njump\n")
    data = load(train_data=tmp_path / "train.txt", class_names_file=tmp_path / "classes.txt", validation_fraction=0.0)
    assert [row[1] for row in table(data, "train")] == ["hop", "jump"]
    (tmp_path / "classes.txt").write_text("hop\nskip\n")
    message = error_of(train_data=tmp_path / "train.txt", class_names_file=tmp_path / "classes.txt")
    assert "b.mp4" in message and "label 2 is out of range: there are 2 classes" in message


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classInd.txt", "1 hop\n2 skip\n3 big jump\n"),
        ("names.csv", "id,name\n1,hop\n2,skip\n3,big jump\n"),
        ("names.tsv", "hop\t1\nskip\t2\nbig jump\t3\n"),
        ("names.json", '{"hop": 1, "skip": 2, "big jump": 3}'),
        ("index.json", '{"3": "big jump", "1": "hop", "2": "skip"}'),
        ("zero.txt", "0: zero\n1: hop\n2: skip\n3: big jump\n"),
    ],
)
@pytest.mark.parametrize("names", [None, ["skip", "Big_jump", "hop"]], ids=["own classes", "of a checkpoint"])
def test_names_belong_to_the_numbers_of_the_file_that_declares_them(tmp_path, file, text, names):
    (tmp_path / "train.txt").write_text("a.mp4 1\nb.mp4 2\nc.mp4 3\n")
    (tmp_path / file).write_text(text)
    config = {"train_data": tmp_path / "train.txt", "class_names_file": tmp_path / file, "validation_fraction": 0.0}
    data = load(class_names=names, **config)
    found = [row[1] for row in table(data, "train")]
    assert found == (["hop", "skip", "big jump"] if names is None else ["hop", "skip", "Big_jump"])
    assert len(data.class_names) == 3 + (file == "zero.txt" and names is None)
    if file == "zero.txt" and names is None:
        assert "1 of 4 classes have no training video (zero)." in data.messages


def test_lists_that_count_from_1_have_no_empty_class_and_no_shift(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 1\nb.mp4 2\nc.mp4 3\n")
    (tmp_path / "val.txt").write_text("d.mp4 3\n")
    data = load(data=tmp_path)
    assert data.class_names == ["1", "2", "3"] and [row["label"] for row in data.splits["validation"]] == [2]
    (tmp_path / "val.txt").write_text("d.mp4 0\n")
    assert "label 0 is out of range: there are 3 classes, with indices from 1" in error_of(data=tmp_path)
    (tmp_path / "val.txt").write_text("d.mp4 1\ne.mp4 2\n")
    config = {"validation_data": tmp_path / "val.txt", "class_names": ["hop", "skip", "jump"]}
    assert "integers from 1 to 2 without 0: they may count from 0 or from 1" in error_of(**config)
    (tmp_path / "names.txt").write_text("hop\nskip\njump\n")
    assert "without 0" in error_of(class_names_file=tmp_path / "names.txt", **config)
    (tmp_path / "names.txt").write_text("1 hop\n2 skip\n3 jump\n")
    data = load(class_names_file=tmp_path / "names.txt", **config)
    assert [row[1] for row in table(data, "validation")] == ["hop", "skip"]


@pytest.mark.parametrize(
    "text", ["7 up\nhop\n", "12 angry men\n12 years\n", "take 1\ntake 2\n", "c000 Do 0\nc001 Do 1\n"]
)
def test_numbers_that_belong_to_names_are_kept(tmp_path, text):
    (tmp_path / "names.txt").write_text(text)
    assert read_class_names(tmp_path / "names.txt") == text.splitlines()
    (tmp_path / "names.txt").write_text("1 a\n3 b\n")
    with pytest.raises(ValueError, match="indices 0 to 1, or 1 to 2"):
        read_class_names(tmp_path / "names.txt")


def test_too_large_class_index_raises(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 4000000000\n")
    assert "label 4000000000 is not a class index" in error_of(train_data=tmp_path / "train.txt")


def test_lists_with_several_labels(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0 3\nb.mp4 1 3 1\n")
    data = load(train_data=tmp_path / "train.txt", multi_label=True, validation_fraction=0.0)
    assert data.problem_type == "multi_label_classification" and len(data.class_names) == 4
    assert [row["label"] for row in data.splits["train"]] == [[0, 3], [1, 3]]


@pytest.mark.parametrize(
    ("line", "multi_label", "expected"),
    [
        ("v1 4 1", False, ("v1", "1", 0, 4)),
        ("v1,4,1", False, ("v1", "1", 0, 4)),
        ("v1 2 3 1", False, ("v1#frames=2,5", "1", 2, 5)),  # two frames are left out
        ("a 2 3 1", False, ("a 2", "1", 0, 3)),  # the folder "a 2" exists
        ("v1 1", False, ("v1", "1", 0, 6)),
        ("v1 4 0 1", True, ("v1", ["0", "1"], 0, 4)),
        ("v1 1", True, ("v1", ["1"], 0, 6)),
    ],
)
def test_lists_of_frame_folders(tmp_path, line, multi_label, expected):
    for folder in ("v1", "a 2"):
        (tmp_path / folder).mkdir()
        for number in range(1, 7):
            Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(tmp_path / folder / f"img_{number:05d}.png")
    (tmp_path / "train.txt").write_text(f"gone.mp4 0\n{line}\n")
    options = {"train_data": tmp_path / "train.txt", "validation_fraction": 0.0, "multi_label": multi_label}
    data = load(**options, frame_folder_fps=5)
    row, (video_id, label, first, last) = data.splits["train"][1], expected
    assert table(data, "train")[1][:2] == (video_id, label) and row["fps"] == 5
    assert "1 of 2 videos are folders of frames, 5 frames per second." in data.messages
    frames, metadata = decode_video(row_source(row, "video"))
    assert frames[:, 0, 0, 0].tolist() == [10 * number + 10 for number in range(first, last)]
    assert metadata.timestamps.tolist() == pytest.approx([index / 5 for index in range(last - first)])
    unknown = load(**options)
    assert any("without a frame rate, which frame_folder_fps sets" in message for message in unknown.messages)
    with pytest.raises(ValueError, match="set frame_folder_fps"):
        check_frame_rates(unknown.splits["train"], "fixed_rate")
    check_frame_rates(data.splits["train"], "fixed_rate")
    check_frame_rates(unknown.splits["train"], "uniform")


def test_a_frame_folder_with_fewer_frames_than_its_list_states_is_corrupt(tmp_path):
    (tmp_path / "v1").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "v1" / f"{number}.png")
    (tmp_path / "train.txt").write_text("v1 5 0\n")
    (corrupt,), _ = check_videos(load(data=tmp_path / "train.txt", validation_fraction=0.0), num_workers=1)
    assert "has 3 frames; the segment frames 0 to 5 is outside of the video" in corrupt.reason


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("film.mp4 3.5 7 1", "the numbers '3.5 7' stand between a video and its class index"),
        ("imgs 0 1", "the number of frames must be at least 1"),
        ("imgs 5 -1", "a class index is at least 0"),
    ],
)
def test_lists_with_other_numbers_raise(tmp_path, line, message):
    (tmp_path / "train.txt").write_text(f"{line}\n")
    assert message in error_of(train_data=tmp_path / "train.txt")


def test_frame_rate_without_frame_folders_has_no_effect(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 0\n")
    assert (
        "frame_folder_fps has no effect: no video is a folder of frames."
        in load(data=tmp_path / "train.txt", frame_folder_fps=5).messages
    )


def test_absolute_paths_and_repeated_files(tmp_path):
    clip = add_clip(tmp_path / "elsewhere" / "a.mp4")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.csv").write_text(f"{clip} 0\n{clip} 1\n")
    data = load(data=tmp_path / "lists" / "train.csv", validation_fraction=0.0)
    assert [row["video"]["path"] for row in data.splits["train"]] == [str(clip)] * 2
    assert [row[0] for row in table(data, "train")] == [str(clip), f"{clip}#2"]
    assert "1 of 2 rows of the train split repeat the video of an earlier row." in data.messages


def test_files_with_one_stem_in_two_folders_are_two_videos(tmp_path):
    for folder in "ab":
        add_clip(tmp_path / folder / "clip.mp4")
    (tmp_path / "train.txt").write_text("a/clip.mp4 0\nb/clip.mp4 1\n")
    data = load(data=tmp_path / "train.txt", validation_fraction=0.0)
    assert [row[0] for row in table(data, "train")] == ["a/clip.mp4", "b/clip.mp4"]


def test_a_prepared_copy_with_another_suffix_is_found(tmp_path):
    add_clip(tmp_path / "copies" / "x" / "a.mp4")
    (tmp_path / "train.txt").write_text("x/a.avi 0\nx/a.avi 0\n")
    data = load(data=tmp_path / "train.txt", video_root=tmp_path / "copies", validation_fraction=0.0)
    assert table(data, "train")[0] == ("x/a.avi", "0", "a.mp4")


# CSV


def test_csv_with_splits(tmp_path):
    rows = [
        {"note": "x", "path": "a.mp4", "label": "run", "split": "train"},
        {"note": "", "path": "b.mp4", "label": "walk", "split": "training"},
        {"note": "", "path": "c.mp4", "label": "run", "split": "Val"},
        {"note": "", "path": "d.mp4", "label": "", "split": "test"},
    ]
    file = add_table(tmp_path / "mine.csv", rows)
    data = load(data=file)
    assert data.data_format == "csv" and data.class_names == ["run", "walk"]
    assert {split: table(data, split) for split in data.splits} == {
        "train": [("a.mp4", "run", None), ("b.mp4", "walk", None)],
        "validation": [("c.mp4", "run", None)],
        "test": [("d.mp4", None, None)],
    }
    only = load(train_data=file, validation_data=file)
    assert [row[0] for row in table(only, "train")] == ["a.mp4", "b.mp4"]
    assert [row[0] for row in table(only, "validation")] == ["c.mp4"]


def test_numeric_labels_are_sorted_numerically(tmp_path):
    rows = [{"path": f"{index}.mp4", "label": index} for index in (10, 9, 100)]
    assert load(data=add_table(tmp_path / "a.csv", rows), validation_fraction=0.0).class_names == ["9", "10", "100"]


def test_csv_with_several_labels(tmp_path):
    rows = [{"path": "a.mp4", "label": "run; jump"}, {"path": "b.mp4", "label": ""}]
    data = load(data=add_table(tmp_path / "a.csv", rows), multi_label=True, validation_fraction=0.0)
    assert [row[1] for row in table(data, "train")] == [["run", "jump"], []]


def test_semicolons_and_byte_order_marks(tmp_path):
    rows = [{"path": "a, b.mp4", "label": "x"}, {"path": "c.mp4", "label": "y"}]
    data = load(data=add_table(tmp_path / "a.csv", rows, delimiter=";", bom=True), validation_fraction=0.0)
    assert [row[0] for row in table(data, "train")] == ["a, b.mp4", "c.mp4"]


def test_class_of_validation_only_raises(tmp_path):
    rows = [{"path": "a.mp4", "label": "run", "split": "train"}, {"path": "b.mp4", "label": "rum", "split": "val"}]
    message = error_of(data=add_table(tmp_path / "a.csv", rows))
    assert "b.mp4 (validation)" in message and "'rum'" in message and "'run'" in message


def test_labels_are_matched_with_those_of_a_checkpoint_by_name(tmp_path):
    rows = [{"path": "a.mp4", "label": "Passing_American football"}, {"path": "b.mp4", "label": "zumba"}]
    names = ["zumba", "abseiling", "passing american football"]
    data = load(data=add_table(tmp_path / "a.csv", rows), class_names=names, validation_fraction=0.0)
    assert [row["label"] for row in data.splits["train"]] == [2, 0] and data.class_names == names


def test_numbers_are_matched_with_the_numbers_of_a_checkpoint(tmp_path):
    """Also if the checkpoint sorted the numbers as text."""
    (tmp_path / "train.txt").write_text("".join(f"{index}.mp4 {index}\n" for index in range(11)))
    names = sorted(map(str, range(11)))
    data = load(train_data=tmp_path / "train.txt", class_names=names, validation_fraction=0.0)
    assert [row[1] for row in table(data, "train")] == list(map(str, range(11)))


def test_codes_of_charades_are_matched_with_those_of_a_checkpoint(tmp_path):
    add_table(tmp_path / "Charades_v1_train.csv", [{"id": "A", "actions": "c003 1.0 2.0"}])
    codes, named = [f"c{index:03d}" for index in range(156, -1, -1)], [f"Doing {index}" for index in range(157)]
    for names, label in ((codes, "c003"), (named, "Doing 3")):
        data = load(train_data=tmp_path / "Charades_v1_train.csv", class_names=names, validation_fraction=0.0)
        assert [row[1] for row in table(data, "train")] == [[label]]


def test_class_names_file_must_match_the_checkpoint(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    (tmp_path / "names.txt").write_text("hop\n")
    config = {"train_data": tmp_path / "train.txt", "class_names_file": tmp_path / "names.txt"}
    assert "label 'hop' is not one of the 1 classes; the classes are skip." in error_of(class_names=["skip"], **config)


def test_real_labels_csv(shared_data):
    from_csv, from_folders = load(data=shared_data / "finetune" / "labels.csv"), load(data=shared_data / "finetune")
    lists = load(
        train_data=shared_data / "finetune" / "train.txt",
        validation_data=shared_data / "finetune" / "val.txt",
        class_names_file=shared_data / "finetune" / "classes.txt",
    )
    for split, number in (("train", 53), ("validation", 49)):
        views = [
            sorted((row["video"]["path"], row["label"]) for row in data.splits[split])
            for data in (from_csv, from_folders, lists)
        ]
        assert len(views[0]) == number and views[0] == views[1] == views[2]
        assert all(Path(path).is_file() for path, _ in views[0])


# Class folders and images


def test_class_folders_include_files_that_videofolder_ignores(tmp_path):
    class_folders(tmp_path, {"train": {"b": 1, "a": 1}}, ".webm")
    class_folders(tmp_path, {"train": {"b": 0, "a": 1}, "val": {"a": 1}}, ".MP4")
    data = load(data=tmp_path)
    assert data.data_format == "class_folders" and data.class_names == ["a", "b"]
    assert [row[0] for row in table(data, "train")] == ["a/0.MP4", "a/0.webm", "b/0.webm"]
    assert [row[:2] for row in table(data, "validation")] == [("a/0.MP4", "a")]


def test_validation_fraction_is_held_out_without_validation_split(tmp_path):
    class_folders(tmp_path, {"": {"a": 8, "b": 4}})
    data = load(data=tmp_path)
    labels = sorted(row["label"] for row in data.splits["validation"])
    assert labels == [0, 0, 1] and len(data.splits["train"]) == 9
    assert data.messages == ["There is no validation split: 3 of 12 samples are held out for it."]
    assert table(data, "validation") == table(load(data=tmp_path), "validation")
    assert list(load(data=tmp_path, validation_fraction=0.0).splits) == ["train"]


def test_class_with_one_video_stays_in_training_and_is_reported(tmp_path):
    rows = [{"path": f"{index}.mp4", "label": label} for index, label in enumerate(["a", "a", "b", ""])]
    data = load(data=add_table(tmp_path / "a.csv", rows))
    assert [row[1] for row in table(data, "validation")] == ["a"] and "b" in data.messages[1]


def test_samples_of_one_file_are_in_one_split(tmp_path):
    rows = [{"path": f"{index % 4}.mp4", "label": "a"} for index in range(16)]
    data = load(data=add_table(tmp_path / "a.csv", rows))
    sides = [{row["video"]["path"] for row in data.splits[split]} for split in ("train", "validation")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_unknown_class_of_the_validation_folder_raises(tmp_path):
    class_folders(tmp_path, {"train": {"a": 1, "b": 1}, "val": {"a": 1, "stray": 1}})
    assert "'stray' is not one of the" in error_of(data=tmp_path)


def test_image_folders(tmp_path):
    for name in ("train/cat/1.png", "train/dog/2.jpg", "val/cat/3.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    data = load(data=tmp_path)
    assert (data.data_format, data.media) == ("image_folders", "image")
    assert data.splits["train"].features["image"] == datasets.Image(decode=False)
    assert table(data, "validation") == [("cat/3.webp", "cat", "3.webp")]


# `datasets`


def video_table(labels, num: int = 4, features=None) -> datasets.Dataset:
    columns = {"clip": [{"path": f"{index}.mp4", "bytes": clip_bytes()} for index in range(num)], "extra": [0] * num}
    if labels is not None:
        columns["label"] = labels
    return datasets.Dataset.from_dict(columns).cast_column("clip", datasets.Video(decode=False))


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        ([1, 0, 1, -1], datasets.ClassLabel(names=["hop", "skip"])),
        (["skip", "hop", "skip", None], None),
        ([[1], [0], [1], []], datasets.List(datasets.ClassLabel(names=["hop", "skip"]))),
    ],
    ids=["class labels", "text", "several"],
)
def test_datasets_of_every_label_type(labels, feature, streaming):
    dataset = video_table(labels)
    if feature is not None:
        dataset = dataset.cast_column("label", feature)
    config = DataConfig(data="x", validation_fraction=0.0)
    if streaming:
        dataset = dataset.to_iterable_dataset()
    names = ["hop", "skip"] if feature is None and streaming else None
    data = adapt_datasets({"train": dataset}, config, names)
    rows = list(data.splits["train"])
    assert data.class_names == ["hop", "skip"] and data.media == "video"
    assert data.multi_label == (isinstance(feature, datasets.List))
    assert [set(row) for row in rows] == [{"video", "label", "video_id"}] * 4
    expected = [[1], [0], [1], []] if data.multi_label else [1, 0, 1, None]
    assert [row["label"] for row in rows] == expected
    assert all(row["video"]["bytes"] == clip_bytes() for row in rows)
    assert [row["video_id"] for row in rows] == [f"train/{index:06d}" for index in range(4)]


@pytest.mark.parametrize("label", [2, -2])
def test_class_number_out_of_range_names_the_row(label):
    """A table may hold numbers that its ClassLabel column does not declare; casts are checked, tables of Arrow are not."""
    dataset = video_table([0, 1, 0, label])
    features = {**dataset.features, "label": datasets.ClassLabel(names=["hop", "skip"])}
    dataset = datasets.Dataset(dataset.data, info=datasets.DatasetInfo(features=datasets.Features(features)))
    with pytest.raises(ValueError, match=rf"Row 3 of the train split: the label is {label}, .* the numbers 0 to 1"):
        adapt_datasets({"train": dataset}, DataConfig(data="x", validation_fraction=0.0), None)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
def test_decoded_columns_are_read_undecoded(streaming):
    """torchcodec, which decodes `datasets.Video()`, is not installed where the tests run."""
    names = ["hop", "skip"]
    columns = {"label": datasets.ClassLabel(names=names), "clip": datasets.Video(), "depth": datasets.Video()}
    dataset = video_table([1, 0, 1, 0]).add_column("depth", video_table(None)["clip"])
    for name, feature in columns.items():
        dataset = dataset.cast_column(name, feature)
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    data = adapt_datasets({"train": dataset}, DataConfig(data="x", validation_fraction=0.0, video_column="clip"), None)
    rows = list(data.splits["train"])
    assert [row["label"] for row in rows] == [1, 0, 1, 0]
    assert all(row["video"]["bytes"] == clip_bytes() for row in rows)


def test_names_of_a_checkpoint_reorder_class_labels():
    dataset = video_table([0, 1, 0, 1]).cast_column("label", datasets.ClassLabel(names=["hop", "skip"]))
    data = adapt_datasets({"test": dataset}, class_names=["jump", "skip", "hop"])
    assert [row["label"] for row in data.splits["test"]] == [2, 1, 2, 1]


def test_streamed_data_set_without_class_names_raises():
    with pytest.raises(ValueError, match="set class_names_file"):
        adapt_datasets({"train": video_table(["a", "b", "a", "b"]).to_iterable_dataset()})


def test_parquet_and_saved_data_sets_open_by_folder(tmp_path):
    dataset = video_table([0, 1, 0, 1]).cast_column("label", datasets.ClassLabel(names=["hop", "skip"]))
    datasets.DatasetDict({"train": dataset, "validation": dataset}).save_to_disk(tmp_path / "saved")
    for streaming in (False, True):
        data = load(data=tmp_path / "saved", streaming=streaming)
        assert data.data_format == "datasets" and list(data.splits) == ["train", "validation"]
        assert [row["label"] for row in data.splits["validation"]] == [0, 1, 0, 1]


def test_image_data_sets():
    images = [{"path": None, "bytes": b"x"}] * 2
    dataset = datasets.Dataset.from_dict({"image": images, "label": [0, 1]}).cast_column("image", datasets.Image())
    data = adapt_datasets({"train": dataset}, DataConfig(data="x", validation_fraction=0.0))
    assert data.media == "image" and data.splits["train"][0]["image"] == {"bytes": b"x", "path": None}
    assert data.class_names == ["0", "1"]


def test_missing_columns_raise_with_available_columns():
    with pytest.raises(ValueError, match="no column 'x'; it has: clip, extra"):
        adapt_datasets({"train": video_table(None)}, DataConfig(data="x", video_column="x"))
    with pytest.raises(ValueError, match="has no video column; set video_column"):
        adapt_datasets({"train": datasets.Dataset.from_dict({"a": [1]})})


# Errors


def test_missing_files_raise(tmp_path):
    assert "There is no file or folder" in error_of(data=tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    assert "holds no videos in class folders" in error_of(data=tmp_path / "empty")
    (tmp_path / "train.csv").write_text("path,label\n")
    assert "There are no videos in" in error_of(data=tmp_path / "train.csv", data_format="csv")
    (tmp_path / "a.csv").write_text("path,label\na.mp4,b\n")
    assert "There is no folder" in error_of(data=tmp_path / "a.csv", video_root=tmp_path / "no")


def test_missing_csv_columns_raise_with_the_nearest_name(tmp_path):
    (tmp_path / "a.csv").write_text("path,lable\na.mp4,b\n")
    assert "did you mean 'lable'?" in error_of(data=tmp_path / "a.csv", data_format="csv")
    assert "in no known format" in error_of(data=tmp_path / "a.csv")
    (tmp_path / "k.csv").write_text("youtube_id,time_start,end\na,1,2\n")
    assert "no column 'time_end'" in error_of(data=tmp_path / "k.csv", data_format="kinetics")


def test_two_files_of_one_split_raise_unless_one_has_the_exact_name(tmp_path):
    for name in ("a_train.txt", "b_train.txt"):
        (tmp_path / name).write_text("a.mp4 0\n")
    assert "several files of the train split (a_train.txt, b_train.txt)" in error_of(data=tmp_path)
    (tmp_path / "train.txt").write_text("c.mp4 0\n")
    assert [row[0] for row in table(load(data=tmp_path, validation_fraction=0.0), "train")] == ["c.mp4"]


def test_invalid_settings():
    for config in (
        {},
        {"data": "a", "train_data": "b"},
        {"data": "a", "data_format": "x"},
        {"data": "a", "num_classes": 0},
        {"data": "a", "shuffle_buffer_size": 0},
        {"data": "a", "split_seed": -5},
        *({"data": "a", "validation_fraction": value} for value in (1.0, -0.1, math.nan, math.inf)),
    ):
        with pytest.raises(ValueError, match=list(config)[-1] if config else "Give data"):
            DataConfig(**config)


def test_single_and_multi_label_mismatch_raises(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    add_table(tmp_path / "Charades_v1_train.csv", [{"id": "A", "actions": "c003 1.0 2.0"}])
    add_table(tmp_path / "kinetics_train.csv", [{"label": "a", "youtube_id": "b", "time_start": 1, "time_end": 2}])
    message = error_of(train_data=tmp_path / "Charades_v1_train.csv", multi_label=False)
    assert "charades has several labels per video; multi_label=false needs one of" in message
    assert (
        "ssv2, ssv1, diving48, activitynet, kinetics, hacs_clips, epic_kitchens, hmdb51, ucf101, moments_in_time, list, csv"
        in message
    )
    message = error_of(train_data=tmp_path / "kinetics_train.csv", multi_label=True, num_classes=1)
    assert (
        "kinetics has one label per video; multi_label=true needs one of shards, activitynet, charades, list, csv"
        in message
    )
    dataset = video_table([0, 1, 0, 1])
    dataset.save_to_disk(tmp_path / "saved")
    assert "multi_label=true, but the label column holds one label" in error_of(
        data=tmp_path / "saved", multi_label=True
    )


def test_options_without_effect_are_reported(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    options = {"validation_fraction": 0.0, "label_column": "x", "shuffle_buffer_size": 3, "video_root": tmp_path}
    data = load(train_data=tmp_path / "train.txt", **options)
    assert data.messages == [
        "label_column has no effect: the format list does not use it.",
        "shuffle_buffer_size has no effect: the format list does not use it.",
    ]
    class_folders(tmp_path / "set", {"": {"a": 2, "b": 2}})
    assert load(data=tmp_path / "set", video_root=tmp_path).messages[0].startswith("video_root has no effect")


def test_file_without_splits_is_the_training_split_with_a_note(tmp_path):
    (tmp_path / "val.txt").write_text("a.mp4 0\n")
    data = load(data=tmp_path / "val.txt", validation_fraction=0.0)
    assert data.messages == [
        f"The format list names no splits: {tmp_path / 'val.txt'} (1 rows) is the training split."
    ]
    assert load(validation_data=tmp_path / "val.txt").messages == []


def test_unknown_names_and_indices():
    find = LabelEncoder(["a b", "A_B"])
    assert find("a b") == 0 and find("A_B") == 1  # the exact name is used if the normalized name is ambiguous
    with pytest.raises(ValueError, match="not one of the 2 classes"):
        find("A B ")
    with pytest.raises(ValueError, match="out of range"):
        find(2)


GOOD_FILES = {
    "kinetics": "label,youtube_id,time_start,time_end,split\nrun,abcdefghijk,1,11,train\n",
    "charades": 'id,actions\nA,"c001 1.0 2.0;c002 1.0 3.0"\n',
    "csv": "path,label,split\na.mp4,run,train\nb.mp4,walk,val\n",
    "list": "a.mp4 0\nb c.mp4 1\n",
    "ssv2": '[{"id": "1", "label": "x", "template": "Doing [something] 1 to [something]", "placeholders": ["a"]}]',
}


@pytest.mark.parametrize("data_format", GOOD_FILES)
def test_damaged_annotations_are_read_or_raise_one_line(tmp_path, data_format):
    rng = random.Random(0)
    ssv2(tmp_path)
    path, good = tmp_path / "file", GOOD_FILES[data_format].encode()
    outcomes = set()
    for _ in range(300):
        content = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 5])):
            place, kind = rng.randrange(len(content)), rng.choice("scidx")
            if kind == "s":
                content[place] = rng.randrange(256)
            elif kind == "c":
                del content[place : place + rng.randrange(1, 9)]
            elif kind == "i":
                content[place:place] = rng.choice(
                    [b'"', b",", b"\n", b"\0", b"\xff", b"[", b"{", b"-", b"1e999", b"NaN"]
                )
            elif kind == "d":
                content = content[:place]
            else:
                content += content[place:]
            content = content or bytearray(b" ")
        path.write_bytes(content)
        try:
            data = load(train_data=path, data_format=data_format, num_classes=None, class_names=None)
            assert all(len(rows) for rows in data.splits.values())
            outcomes.add("read")
        except (ValueError, OSError) as error:
            assert "\n" not in str(error) and str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"} or data_format == "kinetics"


def test_invalid_json_structures_raise(tmp_path):
    ssv2(tmp_path)
    for text in (
        "{}",
        "[1]",
        "[[]]",
        '[{"id": 1.5}]',
        '[{"id": "1", "label": "x"}]',
        "[" * 100_000,
        '[{"id": "1", "template": 3}]',
    ):
        (tmp_path / "x.json").write_text(text)
        assert error_of(train_data=tmp_path / "x.json").startswith(str(tmp_path / "x.json"))
    for text in ('{"a": 0, "b": 2}', '{"a": "x"}', "[1, 2]", "3", '["a", "a"]', '{"a": true}'):
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(ValueError):
            read_class_names(tmp_path / "names.json")
    (tmp_path / "names.json").write_text('{"1": "b", "0": "a"}')
    assert read_class_names(tmp_path / "names.json") == ["a", "b"]


def test_formats_are_detected_by_content(tmp_path):
    for name, text in GOOD_FILES.items():
        path = tmp_path / f"{name}.{'json' if name == 'ssv2' else 'csv'}"
        path.write_text(text)
        assert detect_format([Source(str(path), "train")]).name == name
    with pytest.raises(ValueError, match="different formats"):
        detect_format([Source(str(tmp_path / "csv.csv"), "train"), Source(str(tmp_path / "list.csv"), "validation")])
