"""The official annotation files of Kinetics, Something-Something V2 and Charades."""

from pathlib import Path

import pytest
from dataset_files import add_clip, add_json, add_table, error_of, load, ssv2, table

from tubevit.training.data.class_names import flip_pairs, has_left_right, read_class_names
from tubevit.training.data.formats.samples import VideoFolder


# Kinetics


KINETICS = [
    {"label": "abseiling", "youtube_id": "-_a-b_c_d-1", "time_start": 7, "time_end": 17, "split": "train"},
    {"label": "air drumming", "youtube_id": "ZZZZZZZZZZZ", "time_start": 100, "time_end": 110, "split": "train"},
    {"label": "zumba", "youtube_id": "YYYYYYYYYYY", "time_start": 1, "time_end": 11, "split": "train"},
]


@pytest.mark.parametrize("layout", ["flat", "class folders", "underscores", "bare ids", "another suffix"])
def test_kinetics_clips_are_found_in_every_layout(tmp_path, layout):
    clips = tmp_path / "clips"
    for row in KINETICS:
        name = f"{row['youtube_id']}_{row['time_start']:06d}_{row['time_end']:06d}.mp4"
        folder = {"class folders": row["label"], "underscores": row["label"].replace(" ", "_")}.get(layout, ".")
        name = {"bare ids": f"{row['youtube_id']}.mp4", "another suffix": f"{name[:-4]}.webm"}.get(layout, name)
        add_clip(clips / folder / name)
    annotations = add_table(tmp_path / "kinetics_train.csv", KINETICS)
    data = load(train_data=annotations, video_root=clips, num_classes=3, validation_fraction=0.0)
    assert data.data_format == "kinetics" and data.class_names == ["abseiling", "air drumming", "zumba"]
    found = table(data, "train")
    assert [row[:2] for row in found] == [
        ("-_a-b_c_d-1_000007_000017", "abseiling"),
        ("ZZZZZZZZZZZ_000100_000110", "air drumming"),
        ("YYYYYYYYYYY_000001_000011", "zumba"),
    ]
    assert all(row[2] for row in found)


@pytest.mark.parametrize("has_class_folders", [False, True])
def test_data_format_selects_annotation_files_over_class_folders(tmp_path, has_class_folders):
    """A common layout of Kinetics: train.csv and val.csv beside train/ and val/."""
    for split, rows in {"train": KINETICS[:2], "val": KINETICS[2:]}.items():
        add_table(tmp_path / f"{split}.csv", [{**row, "split": split} for row in rows])
        for row in rows:
            name = f"{row['youtube_id']}_{row['time_start']:06d}_{row['time_end']:06d}.mp4"
            add_clip(tmp_path / split / (row["label"] if has_class_folders else ".") / name)
    names = ["abseiling", "air drumming", "zumba"]
    data = load(data=tmp_path, data_format="kinetics", class_names=names)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 2, "validation": 1}
    assert all(row[2] for split in data.splits for row in table(data, split))
    assert load(data=tmp_path, class_names=names).data_format == ("class_folders" if has_class_folders else "kinetics")


def test_kinetics_columns_are_found_by_name(tmp_path):
    # Further columns, another order of columns, and cells that are quoted because they contain a comma.
    rows = [{"is_cc": 0, "split": "val", **row, "label": f"{row['label']}, slowly", "x": "y"} for row in KINETICS]
    data = load(validation_data=add_table(tmp_path / "a.csv", rows, bom=True), num_classes=3)
    assert list(data.splits) == ["validation"]
    assert [row[1] for row in table(data, "validation")] == [
        "abseiling, slowly",
        "air drumming, slowly",
        "zumba, slowly",
    ]


def test_kinetics_test_files_have_no_labels(tmp_path):
    rows = [
        {name: row[name] for name in ("youtube_id", "time_start", "time_end")} | {"split": "test"} for row in KINETICS
    ]
    train = add_table(tmp_path / "train.csv", KINETICS)
    test = add_table(tmp_path / "test.csv", rows)
    data = load(train_data=train, test_data=test, num_classes=3, validation_fraction=0.0)
    assert [row[1] for row in table(data, "test")] == [None] * 3
    alone = load(test_data=test)
    assert alone.class_names == [] and [row["label"] for row in alone.splits["test"]] == [None] * 3


def test_clip_in_two_class_folders_is_found_in_its_class(tmp_path):
    name = "abcdefghijk_000001_000011.mp4"
    for folder in ("a_b", "c d"):
        add_clip(tmp_path / folder / name)
    found = VideoFolder(tmp_path)
    assert found.find_clip([name[:-4]], "a b") == str(tmp_path / "a_b" / name)
    assert found.find_clip([name[:-4]], "c d") == str(tmp_path / "c d" / name)


def test_kinetics_class_count_is_checked(tmp_path):
    annotations = add_table(tmp_path / "train.csv", KINETICS)
    message = error_of(train_data=annotations)
    assert "3 classes, expected 400 or 600 or 700" in message and "num_classes=3" in message
    assert "expected 4:" in error_of(train_data=annotations, num_classes=4)


def test_missing_clips_are_rows_with_their_expected_path(tmp_path):
    annotations = add_table(tmp_path / "train.csv", KINETICS)
    data = load(train_data=annotations, num_classes=3, validation_fraction=0.0)
    paths = [Path(row["video"]["path"]) for row in data.splits["train"]]
    assert paths[0] == tmp_path / "-_a-b_c_d-1_000007_000017.mp4"
    assert not any(path.exists() for path in paths)


def test_official_kinetics_heads(shared_data):
    formats = shared_data / "labels" / "formats"
    for name, num_videos in (("kinetics-400_val.head.csv", 5), ("kinetics-600_val.head.csv", 5)):
        data = load(validation_data=formats / name, num_classes=1)
        assert (data.data_format, data.class_names) == ("kinetics", ["abseiling"])
        assert len(data.splits["validation"]) == num_videos
    names = read_class_names(shared_data / "labels" / "kinetics400.txt")
    data = load(validation_data=formats / "kinetics-400_val.head.csv", class_names=names)
    assert [row["label"] for row in data.splits["validation"]] == [0] * 5 and len(data.class_names) == 400
    assert error_of(validation_data=formats / "kinetics-400_val.head.csv").startswith("The annotations hold 1 classes")


# Something-Something V2


def test_official_ssv2_files(tmp_path):
    folder, names = ssv2(tmp_path)
    add_clip(tmp_path / "20bn-something-something-v2" / "180.webm")
    data = load(data=folder)
    assert (
        data.data_format == "ssv2"
        and data.class_names == names
        and list(data.splits) == ["train", "validation", "test"]
    )
    assert table(data, "train") == [("180", names[170], "180.webm"), ("13", names[3], None)]
    assert data.splits["train"][1]["video"]["path"] == str(tmp_path / "13.webm")
    assert table(data, "test") == [("7", None, None)]


def test_ssv2_labels_must_be_174(tmp_path):
    folder, _ = ssv2(tmp_path)
    names = add_json(folder / "labels.json", {"Swiping Left": "0", "Swiping Right": "1"})
    message = error_of(data=folder, class_names_file=names)
    assert "holds 2 classes, Something-Something V2 has 174" in message and "num_classes=2" in message


def test_ssv2_without_label_file_raises_with_the_folder(tmp_path):
    folder, _ = ssv2(tmp_path)
    (folder / "something-something-v2-labels.json").unlink()
    message = error_of(train_data=folder / "something-something-v2-train.json")
    assert "something-something-v2-labels.json" in message and "class_names_file" in message


def test_ssv2_unknown_template_raises_with_the_nearest(tmp_path):
    folder, names = ssv2(tmp_path)
    add_json(
        folder / "something-something-v2-train.json", [{"id": "1", "template": "Doing [something] 5 too [something]"}]
    )
    assert repr(names[5]) in error_of(data=folder)


def test_official_ssv2_heads(shared_data):
    labels, formats = shared_data / "labels", shared_data / "labels" / "formats"
    names_file = labels / "something-something-v2-labels.json"
    data = load(
        validation_data=formats / "something-something-v2-validation.head.json",
        test_data=formats / "something-something-v2-test.head.json",
        class_names_file=names_file,
    )
    assert data.class_names == read_class_names(labels / "something_something_v2.txt")
    assert [row[1] for row in table(data, "validation")] == [
        "Spinning something that quickly stops spinning",
        "Showing something on top of something",
        "Wiping something off of something",
        "Pushing something so that it falls off the table",
    ]
    assert [row["label"] for row in data.splits["test"]] == [None] * 4


def test_flip_pairs_of_ssv2(shared_data):
    names = read_class_names(shared_data / "labels" / "something_something_v2.txt")
    assert flip_pairs(names) == {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
    assert has_left_right(names)
    for name in ("kinetics400", "kinetics600", "kinetics700", "ucf101", "hmdb51"):
        names = read_class_names(shared_data / "labels" / f"{name}.txt")
        assert flip_pairs(names) == {} and not has_left_right(names)


# Charades


def test_charades(tmp_path):
    rows = [
        {
            "id": "46GP8",
            "subject": "HR43",
            "actions": "c092 11.90 21.20;c147 0.00 12.60;c092 1.00 2.00",
            "length": "24.83",
        },
        {"id": "N11GT", "subject": "0KZ7", "actions": "", "length": "18.33"},
    ]
    add_clip(tmp_path / "Charades_v1_480" / "46GP8.mp4")
    data = load(train_data=add_table(tmp_path / "Charades_v1_train.csv", rows), validation_fraction=0.0)
    assert data.data_format == "charades" and data.multi_label and len(data.class_names) == 157
    assert table(data, "train") == [("46GP8", ["c092", "c147"], "46GP8.mp4"), ("N11GT", [], None)]
    (tmp_path / "classes.txt").write_text("".join(f"c{index:03d} Doing {index}\n" for index in range(157)))
    named = load(
        train_data=tmp_path / "Charades_v1_train.csv",
        class_names_file=tmp_path / "classes.txt",
        validation_fraction=0.0,
    )
    assert named.class_names[92] == "Doing 92"
    add_table(tmp_path / "bad.csv", [{"id": "A", "actions": "c200 1.0 2.0"}])
    assert "label 200 is out of range" in error_of(train_data=tmp_path / "bad.csv")
    add_table(tmp_path / "bad.csv", [{"id": "A", "actions": "c20 1.0 2.0"}])
    assert "'c20 1.0 2.0'" in error_of(train_data=tmp_path / "bad.csv")
