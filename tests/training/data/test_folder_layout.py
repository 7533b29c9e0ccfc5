"""
What comes out of a folder: which folders are splits, classes or neither, and which annotation files are read. The public data
sets lie on disk as they are distributed, with empty video files.
"""

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from dataset_files import error_of, load

from tubevit.training.data.check_data import check_videos
from tubevit.training.data.clip_sampling import video_source
from tubevit.training.data.demo_clips import find_clips
from tubevit.training.data.formats.samples import split_of
from tubevit.training.data.media_files import VIDEO_SUFFIXES, kind_of, list_files, scan_folder


def make(root: Path, *names: str, **texts: str) -> Path:
    """Empty files with these names, and the files `texts` with their contents ("__" in a name is "/")."""
    for name, text in {**dict.fromkeys(names, ""), **texts}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def add(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        make(root, **{name.replace("/", "__"): text})


def labels(data) -> dict[str, dict[str, str]]:
    """`{split: {name of the file: name of the class}}`; every file exists."""
    found = {}
    for split, rows in data.splits.items():
        found[split] = {}
        for row in rows:
            path = Path(row[data.media]["path"])
            assert path.is_file(), path
            found[split][path.name] = None if row["label"] is None else data.class_names[row["label"]]
    return found


# Splits, classes, wrappers


LABELED = {"train": {"a.mp4": "run", "b.mp4": "walk"}, "validation": {"c.mp4": "run"}}


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train", "val"),
        ("Train", "Validation"),
        ("train", "Val"),
        ("train_set", "val_set"),
        ("trainset", "valset"),
        ("training", "eval"),
        ("TRAIN", "dev"),
        ("train_256", "val_256"),
        ("videos_train", "videos_val"),
        ("ucf101_train", "ucf101_val"),
    ],
)
@pytest.mark.parametrize("wrapper", ["", "data/inner/"])
@pytest.mark.parametrize("wrapped_splits", [False, True])
def test_names_of_splits(tmp_path, train, validation, wrapper, wrapped_splits):
    inner = {name: f"{wrapper}{name}/{name}" if wrapped_splits else f"{wrapper}{name}" for name in (train, validation)}
    make(tmp_path, f"{inner[train]}/run/a.mp4", f"{inner[train]}/walk/b.mp4", f"{inner[validation]}/run/c.mp4")
    make(tmp_path, f"{wrapper}annotations/readme.txt", f"{wrapper}{train}/.DS_Store", f"{wrapper}__MACOSX/run/._a.mp4")
    assert labels(load(data=tmp_path)) == LABELED
    clips = find_clips(tmp_path)
    assert [clip.label for clip in clips.train] == ["run", "walk"] and [clip.label for clip in clips.val] == ["run"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("training dog", None),
        ("test drive", None),
        ("trainspotting", None),
        ("évaluation x", None),
        ("日本_test", None),
        ("eval_clips", "validation"),
    ],
)
def test_words_in_class_names_are_no_splits(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train/a.mp4", "val/b.mp4"], ["train/", "val/", "labels are missing", "train_data"]),
        (["Train/a.mp4", "Test/b.mp4"], ["Train/", "Test/", "labels are missing"]),
        (["train_set/a.mp4", "val_set/b.mp4"], ["train_set/", "val_set/"]),
        (["all/train/a.mp4", "all/val/b.mp4"], ["train/", "val/"]),
        (["train/videos/a.mp4", "val/videos/b.mp4"], ["one class only (videos)"]),
        (["a.mp4", "b.mp4"], ["2 videos but no class folders"]),
        (["videos/a.mp4", "videos/b.mp4"], ["one class only (videos)", "train_data", "data_format=class_folders"]),
        (["run/a.mp4", "walk/b.mp4", "test/c.mp4"], ["test/", "run/", "data_format=class_folders"]),
        (["run/a.mp4", "walk/b.mp4", "test/run/c.mp4", "test/walk/d.mp4"], ["test/", "run/", "train_data"]),
        (["train/run/a.mp4", "train/walk/b.mp4", "val/c.mp4"], ["val", "1 file that", "validation_data"]),
        (["train/run/a.mp4", "train/walk/b.mp4", "Train/run/a.mp4"], ["train/", "Train/", "train_data"]),
        (["p1/run/a.mp4", "p1/walk/b.mp4", "p2/run/c.mp4", "p2/walk/d.mp4"], ["p1/, p2/", "run/", "either"]),
        (["train1/run/a.mp4", "train2/walk/b.mp4"], ["train1/, train2/ with one folder each (run/, walk/)"]),
        (["split1/a.mp4", "split2/b.mp4"], ["split1/, split2/", "names of parts", "data_format=class_folders"]),
        (["run.zip", "walk.rar"], ["2 archives not unpacked"]),
        (
            ["a.mp4", "notes.json"],
            ["no annotation file in a known format", "(notes.json; formats: ", "csv", "kinetics"],
        ),
        (["Hand Stand/a.mp4", "hand_stand/b.mp4"], ["'Hand Stand'", "'hand_stand'", "class_names_file"]),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, names, words):
    message = error_of(data=make(tmp_path, *names))
    for word in words:
        assert word in message, message


def test_the_option_in_the_message_decides(tmp_path):
    make(tmp_path, "run/a.mp4", "walk/b.mp4", "test/c.mp4")
    meant = load(data=tmp_path, data_format="class_folders", validation_fraction=0.0)
    assert meant.class_names == ["run", "test", "walk"]
    one = load(data=make(tmp_path / "one", "run/a.mp4"), data_format="class_folders", validation_fraction=0.0)
    assert one.class_names == ["run"]
    people = make(tmp_path / "people", "p1/run/a.mp4", "p1/walk/b.mp4", "p2/run/c.mp4")
    assert load(data=people, data_format="class_folders", validation_fraction=0.0).class_names == ["p1", "p2"]


def test_folders_that_are_no_classes_are_left_out_with_their_number(tmp_path):
    make(tmp_path, "run/a.mp4", "run/.b.mp4", "run/notes.md", "walk/b.mp4", "empty/x.srt", "unlabelled/c.mp4", "d.mp4")
    data = load(data=tmp_path, validation_fraction=0.0)
    assert labels(data) == {"train": {"a.mp4": "run", "b.mp4": "walk"}}
    said = " ".join(data.messages)
    for text in ("1 file in unlabelled/", "without videos (empty)", "(d.mp4)", "1 path, hidden", "1 .md", "1 .srt"):
        assert text in said
    splits = make(tmp_path / "s", "train/run/a.mp4", "train/walk/b.mp4", "test/c.mp4", "extra/d.mp4", "val/.gitkeep")
    data = load(data=splits, validation_fraction=0.0)
    assert labels(data) == {"train": {"a.mp4": "run", "b.mp4": "walk"}}
    said = " ".join(data.messages)
    for text in ("1 file in test/", "1 file in extra/", "val/ holds no videos"):
        assert text in said


def test_class_folders_may_hold_splits_and_classes_with_names_of_splits(tmp_path):
    make(tmp_path / "a", "run/train/a.mp4", "walk/train/b.mp4", "run/val/c.mp4")
    assert labels(load(data=tmp_path / "a")) == LABELED
    make(tmp_path / "b", "train/test/a.mp4", "train/walk/b.mp4", "val/test/c.mp4")
    data = load(data=tmp_path / "b")
    assert data.class_names == ["test", "walk"] and list(data.splits) == ["train", "validation"]


def test_a_split_that_is_given_as_a_folder(tmp_path):
    make(tmp_path, "train/run/a.mp4", "train/walk/b.mp4", "val/inner/run/c.mp4", "val/inner/walk/d.mp4")
    data = load(train_data=tmp_path / "train", validation_data=tmp_path / "val")
    assert data.class_names == ["run", "walk"] and len(data.splits["validation"]) == 2
    assert labels(load(train_data=tmp_path))["train"] == LABELED["train"]
    assert "holds the splits train, validation" in error_of(test_data=tmp_path)


# Annotation files beside folders


ROWS = [("cam1/a.mp4", "run"), ("cam1/b.mp4", "walk"), ("cam2/c.mp4", "run"), ("cam2/d.mp4", "walk")]
CLASSES_OF_ROWS = {"train": {Path(name).name: label for name, label in ROWS}}


def written(suffix: str, columns: tuple[str, str] = ("path", "label"), rows=ROWS) -> str:
    if suffix in (".csv", ".tsv"):
        return "\n".join({".csv": ",", ".tsv": "\t"}[suffix].join(cells) for cells in [columns, *rows]) + "\n"
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    if suffix == ".jsonl":
        return "\n".join(map(json.dumps, records))
    return json.dumps(records)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "metadata.jsonl",
            "train.jsonl",
            "train.tsv",
            "annotations.csv",
            "annotations.json",
            "data.csv",
            "dataset.csv",
        ),
        *("clips.csv", "labels.csv", "train.csv", "Train_Split.csv", "annotations/everything.csv", "meta/labels.tsv"),
    ],
)
@pytest.mark.parametrize("columns", [("path", "label"), ("file_name", "Class")])
def test_annotation_files_beside_folders_are_read(tmp_path, name, columns):
    make(tmp_path, *(path for path, _ in ROWS))
    add(tmp_path, {name: written(Path(name).suffix, columns), "corrupt_videos.csv": "path,reason\ncam1/a.mp4,x\n"})
    data = load(data=tmp_path, validation_fraction=0.0)
    assert labels(data) == CLASSES_OF_ROWS
    assert "The folders cam1/, cam2/ are not classes" in data.messages[0]


def test_parquet_json_objects_and_lists_beside_folders_are_read(tmp_path):
    import datasets

    for name in ("parquet", "json", "list"):
        make(tmp_path / name, *(path for path, _ in ROWS))
    table = datasets.Dataset.from_dict({"path": [path for path, _ in ROWS], "label": [label for _, label in ROWS]})
    table.to_parquet(tmp_path / "parquet" / "train.parquet")
    add(tmp_path, {"json/labels.json": json.dumps(dict(ROWS))})
    assert labels(load(data=tmp_path / "parquet", validation_fraction=0.0)) == CLASSES_OF_ROWS
    assert labels(load(data=tmp_path / "json", validation_fraction=0.0)) == CLASSES_OF_ROWS
    text = "".join(f"{path} {['run', 'walk'].index(label)}\n" for path, label in ROWS)
    add(tmp_path, {"list/trainlist01.txt": text})
    data = load(data=tmp_path / "list", validation_fraction=0.0)
    assert labels(data) == {"train": {"a.mp4": "0", "b.mp4": "1", "c.mp4": "0", "d.mp4": "1"}}


def test_names_without_folders_are_found_if_they_are_unique(tmp_path):
    make(tmp_path, *(path for path, _ in ROWS), "cam2/a.mp4")
    rows = [(Path(path).name, label) for path, label in ROWS]
    add(tmp_path, {"labels.csv": written(".csv", rows=rows[1:])})
    assert labels(load(data=tmp_path, validation_fraction=0.0)) == {"train": dict(rows[1:])}
    add(tmp_path, {"labels.csv": written(".csv", rows=rows)})
    assert "'a.mp4' names several files (cam1/a.mp4, cam2/a.mp4)" in error_of(data=tmp_path)


def test_files_that_the_annotations_do_not_list_are_counted(tmp_path):
    make(tmp_path, *(path for path, _ in ROWS))
    add(tmp_path, {"labels.csv": written(".csv", rows=ROWS[:3])})
    data = load(data=tmp_path, validation_fraction=0.0)
    assert any("1 of 4 files, which the annotations do not list" in message for message in data.messages)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"train.csv": written(".csv", ("name", "kind"))}, ["train.csv", "its columns: name, kind", "path and label"]),
        ({"notes.csv": written(".csv", ("which", "my label"))}, ["notes.csv", "its columns: which, my label"]),
        ({"annotations.json": json.dumps({"x": {"clip": "a.mp4", "kind": "run"}})}, ["annotations.json"]),
        ({"labels.xlsx": "PK"}, ["labels.xlsx", "save them as CSV"]),
        ({"labels.csv": "cam1/a.mp4,run\ncam2/c.mp4,walk\n"}, ["labels.csv", "path and label"]),
        ({"train.txt": "cam1/a.mp4 run\ncam2/c.mp4 walk\n"}, ["train.txt", "path and label"]),
        ({"labels.csv": "path,label\ncam1/a.mp4,run;walk\n"}, ["'run;walk' contains ';'", "multi_label=true"]),
        ({"predictions.csv": written(".csv")}, ["predictions.csv gives other labels", "data_format=class_folders"]),
        ({"labels.csv": written(".csv") + "cam1/a.mp4\n"}, ["labels.csv, line 6: 1 cells"]),
        (
            {"labels.csv": written(".csv"), "data.csv": written(".csv", rows=[(name, "x") for name, _ in ROWS])},
            ["several annotation files (labels.csv, data.csv)"],
        ),
    ],
)
def test_annotation_files_that_cannot_be_told_are_refused(tmp_path, texts, words):
    make(tmp_path, *(path for path, _ in ROWS))
    add(tmp_path, texts)
    message = error_of(data=tmp_path)
    for word in words:
        assert word in message, message
    assert load(data=tmp_path, data_format="class_folders").class_names == ["cam1", "cam2"]


def test_annotations_of_the_validation_split_alone_do_not_drop_the_training_videos(tmp_path):
    make(tmp_path, "train/run/a.mp4", "train/walk/b.mp4", "val/c.mp4")
    add(tmp_path, {"val.csv": written(".csv", rows=[("c.mp4", "run")])})
    assert "val.csv gives the labels of the validation split only, and 2 videos for training" in error_of(
        data=tmp_path
    )


@pytest.mark.parametrize("text", ["path,reason\ncam1/a.mp4,empty\n", "id,name\n0,run\n", "x\n"])
def test_tables_of_other_things_are_no_annotations(tmp_path, text):
    make(tmp_path, *(path for path, _ in ROWS))
    add(tmp_path, {"report.csv": text, "README.txt": "take 2 of cam1/a.mp4 in 2019\n"})
    assert load(data=tmp_path, validation_fraction=0.0).class_names == ["cam1", "cam2"]


def test_annotations_that_agree_with_class_folders_add_their_splits(tmp_path):
    names = ["run/a.mp4", "run/b.mp4", "walk/c.mp4", "walk/d.mp4"]
    make(tmp_path, *names)
    add(tmp_path, {"labels.csv": written(".csv", rows=[(name, name.split("/")[0]) for name in names])})
    data = load(data=tmp_path, validation_fraction=0.0)
    assert data.data_format == "class_folders" and any(
        "; labels.csv gives the same ones (data=" in each for each in data.messages
    )
    rows = [f"{name},{name.split('/')[0]},{split}" for name, split in zip(names, ["train", "val"] * 2, strict=True)]
    add(tmp_path, {"labels.csv": "\n".join(["path,label,split", *rows])})
    assert {split: len(rows) for split, rows in load(data=tmp_path).splits.items()} == {"train": 2, "validation": 2}


@pytest.mark.parametrize("folder", ["{}/", ""], ids=["paths", "names"])
def test_lists_of_paths_split_class_folders(tmp_path, folder):
    make(tmp_path, "run/a.mp4", "walk/b.mp4", "run/c.mp4")
    lines = {"train.txt": [("run", "a.mp4"), ("walk", "b.mp4")], "val.txt": [("run", "c.mp4")]}
    add(
        tmp_path,
        {file: "".join(f"{folder.format(name)}{clip}\n" for name, clip in each) for file, each in lines.items()},
    )
    data = load(data=tmp_path)
    assert labels(data) == LABELED
    assert "train.txt states no labels: the class of a video is its folder." in data.messages


# Public data sets as they are distributed


KINETICS = "label,youtube_id,time_start,time_end,split\n"
UCF = {"Archery": 1, "Biking": 2}
SSV2_NAMES = {f"Doing something {index}": str(index) for index in range(174)}


def kinetics(root: Path, flat: bool) -> Path:
    clips = {
        "train": {"A" * 11: "abseiling", "-_a-b_c_d-1": "zumba"},
        "val": {"C" * 11: "zumba"},
        "test": {"D" * 11: ""},
    }
    for split, names in clips.items():
        word = {"val": "validate"}.get(split, split)
        rows = [f"{label},{name},1,11,{word}" for name, label in names.items()]
        add(root, {f"annotations/{split}.csv": "\n".join([KINETICS.strip(), *rows]) + "\n"})
        for name, label in names.items():
            make(root, f"{split}/{'' if flat else label}/{name}_000001_000011.mp4")
    add(root, {"annotations/test.csv": f"youtube_id,time_start,time_end,split\n{'D' * 11},1,11,test\n"})
    return root


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "class folders"])
def test_kinetics_of_the_community_archives(tmp_path, flat):
    kinetics(tmp_path / "k400", flat)
    make(tmp_path / "k400", f"replacement/replacement_for_corrupted_k400/{'A' * 11}_000001_000011.mp4")
    make(tmp_path / "k400", "k400_train_path.txt", "readme.md")
    data = load(data=tmp_path, num_classes=2)
    expected = {
        "train": {f"{'A' * 11}_000001_000011.mp4": "abseiling", "-_a-b_c_d-1_000001_000011.mp4": "zumba"},
        "validation": {f"{'C' * 11}_000001_000011.mp4": "zumba"},
    }
    found = labels(data)
    assert {split: found[split] for split in expected} == expected
    assert data.data_format == ("kinetics" if flat else "class_folders")
    said = " ".join(data.messages)
    replaced = [row["video"]["path"] for row in data.splits["train"] if "AAA" in row["video_id"]]
    assert "replacement_for_corrupted" in replaced[0]
    if flat:
        assert found["test"] == {f"{'D' * 11}_000001_000011.mp4": None}
        assert "1 of 5 files" in said
    else:
        assert (
            "Read from replacement/ in place of the files of the same names: 1 clip." in said
            and "1 file in test/" in said
        )
        rows = load(train_data=tmp_path / "k400/annotations/train.csv", video_root=tmp_path / "k400", num_classes=2)
        assert "replacement_for_corrupted" in rows.splits["train"][0]["video"]["path"]


@pytest.mark.parametrize("split", ["", "train/"])
@pytest.mark.parametrize("folder", ["replacement", "Replacement_for_corrupted_k400"])
def test_replacements_beside_class_folders(tmp_path, folder, split):
    clips = [f"{letter * 11}_000001_000011.mp4" for letter in "ABCD"]
    make(tmp_path, *(f"{split}{name}/{clip}" for name, clip in zip(("run", "run", "walk"), clips, strict=False)))
    make(tmp_path, f"{split}{folder}/{clips[0]}", f"{split}{folder}/{clips[3]}")
    data = load(data=tmp_path, validation_fraction=0)
    assert data.class_names == ["run", "walk"]
    paths = {row["video_id"]: Path(row["video"]["path"]).parent.name for row in data.splits["train"]}
    assert paths == {f"run/{clips[0]}": folder, f"run/{clips[1]}": "run", f"walk/{clips[2]}": "walk"}
    said = " ".join(data.messages)
    assert f"Read from {folder}/ in place of the files of the same names: 1 clip. Left out there: 1 file" in said


def test_a_class_may_be_called_replacement(tmp_path):
    make(tmp_path, "repair/0.mp4", "replacement/0.mp4", "replacement/1.mp4")
    assert load(data=tmp_path, validation_fraction=0).class_names == ["repair", "replacement"]


def test_flat_kinetics_without_its_annotations_is_refused(tmp_path):
    make(tmp_path, f"train/{'A' * 11}_000001_000011.mp4", f"val/{'B' * 11}_000001_000011.mp4")
    message = error_of(data=tmp_path)
    assert "train/, val/" in message and "train_data and validation_data" in message


def test_something_something(tmp_path):
    make(tmp_path, "20bn-something-something-v2/1.webm", "20bn-something-something-v2/2.webm")
    message = error_of(data=tmp_path)
    assert "20bn-something-something-v2" in message and "train_data=FILE" in message
    entry = {"label": "doing cup 5", "placeholders": ["cup"]}
    texts = {
        "labels.json": json.dumps(SSV2_NAMES),
        "train.json": json.dumps([{"id": "1", "template": "Doing [something] 5", **entry}]),
        "validation.json": json.dumps([{"id": "2", "template": "Doing [something] 7", **entry}]),
        "test-answers.csv": "3;Doing something 7\n",
    }
    add(tmp_path, {f"labels/{name}": text for name, text in texts.items()})
    data = load(data=tmp_path)
    assert (data.data_format, len(data.class_names)) == ("ssv2", 174)
    assert labels(data) == {
        "train": {"1.webm": "Doing something 5"},
        "validation": {"2.webm": "Doing something 7"},
    }


def ucf101(root: Path, folds: tuple[int, ...]) -> Path:
    texts = {"ucfTrainTestlist/classInd.txt": "".join(f"{number} {name}\r\n" for name, number in UCF.items())}
    for fold in folds:
        clips = {name: [f"{name}/v_{name}_g0{group}_c01.avi" for group in range(1, 5)] for name in UCF}
        lists = {"test": lambda name, clips=clips, fold=fold: clips[name][fold - 1 : fold]}
        lists["train"] = lambda name, clips=clips, fold=fold: clips[name][: fold - 1] + clips[name][fold:]
        lines = {split: [(clip, UCF[name]) for name in UCF for clip in lists[split](name)] for split in lists}
        texts[f"ucfTrainTestlist/trainlist0{fold}.txt"] = "".join(f"{clip} {n}\r\n" for clip, n in lines["train"])
        texts[f"ucfTrainTestlist/testlist0{fold}.txt"] = "".join(f"{clip}\r\n" for clip, _ in lines["test"])
    make(root, *(f"UCF-101/{name}/v_{name}_g0{group}_c01.avi" for name in UCF for group in range(1, 5)))
    add(root, texts)
    return root


def test_ucf101(tmp_path):
    one = load(data=ucf101(tmp_path / "one", (1,)), validation_fraction=0.0)
    assert (one.data_format, one.class_names) == ("ucf101", ["Archery", "Biking"])
    assert labels(one)["test"] == {"v_Archery_g01_c01.avi": "Archery", "v_Biking_g01_c01.avi": "Biking"}
    assert len(one.splits["train"]) == 6
    root = ucf101(tmp_path / "three", (1, 2, 3))
    message = error_of(data=root)
    assert "trainlist01.txt, trainlist02.txt, trainlist03.txt" in message
    options = dict(part.split("=") for part in message.rstrip(".").split("as in ")[1].split())
    assert set(options) == {"train_data", "test_data", "video_root"}
    assert labels(load(**options, validation_fraction=0.0)) == labels(one)
    (root / "ucfTrainTestlist" / "classInd.txt").write_text("1 Biking\n2 Archery\n")
    assert "class 1 is 'Biking', but the folder is 'Archery'" in error_of(**options)


def hmdb51(root: Path, folds: tuple[int, ...]) -> Path:
    for name in ("brush_hair", "cartwheel"):
        make(root, *(f"hmdb51/{name}/{name}_{index}.avi" for index in range(3)))
        for fold in folds:
            flags = [(index + fold) % 3 for index in range(3)]
            text = "".join(f"{name}_{index}.avi {flag} \n" for index, flag in enumerate(flags))
            add(root, {f"testTrainMulti_7030_splits/{name}_test_split{fold}.txt": text})
    return root


def test_hmdb51(tmp_path):
    one = load(data=hmdb51(tmp_path / "one", (1,)), validation_fraction=0.0)
    assert (one.data_format, one.class_names) == ("hmdb51", ["brush_hair", "cartwheel"])
    assert labels(one) == {
        "train": {"brush_hair_0.avi": "brush_hair", "cartwheel_0.avi": "cartwheel"},
        "test": {"brush_hair_1.avi": "brush_hair", "cartwheel_1.avi": "cartwheel"},
    }
    assert any("2 videos that split 1 of HMDB51 does not use" in message for message in one.messages)
    message = error_of(data=hmdb51(tmp_path / "three", (1, 2, 3)))
    assert "several annotation files" in message
    options = dict(part.split("=") for part in message.rstrip(".").split("one, as ")[1].split())
    assert labels(load(**options, validation_fraction=0.0)) == labels(one)
    (tmp_path / "rars").mkdir()
    assert "1 archive not unpacked" in error_of(data=make(tmp_path / "rars", "brush_hair.rar"))


@pytest.mark.parametrize("folder", ["", "Charades/"])
def test_charades(tmp_path, folder):
    make(tmp_path, "Charades_v1_480/AAAAA.mp4", "Charades_v1_480/BBBBB.mp4")
    texts = {
        "Charades_v1_train.csv": "id,subject,actions\nAAAAA,x,c001 1.0 2.0;c003 0.0 3.0\n",
        "Charades_v1_test.csv": "id,subject,actions\nBBBBB,x,c001 1.0 2.0\n",
        "Charades_v1_classes.txt": "".join(f"c{index:03d} Doing {index}\n" for index in range(157)),
        "Charades_v1_mapping.txt": "c000 o001 v001\nc001 o001 v001\n",
    }
    add(tmp_path, {folder + name: text for name, text in texts.items()})
    data = load(data=tmp_path)
    assert (data.data_format, data.multi_label, len(data.class_names)) == ("charades", True, 157)
    assert {split: [row["label"] for row in rows] for split, rows in data.splits.items()} == {
        "train": [[1, 3]],
        "test": [[1]],
    }
    assert all(Path(row["video"]["path"]).is_file() for rows in data.splits.values() for row in rows)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("place", ["in each split", "at the top"])
def test_video_folder_of_datasets(tmp_path, suffix, place):
    make(tmp_path, "train/a.mp4", "train/b.mp4", "validation/c.mp4")
    rows = {"train": [("a.mp4", "run"), ("b.mp4", "walk")], "validation": [("c.mp4", "run")]}
    if place == "in each split":
        for split, each in rows.items():
            add(tmp_path, {f"{split}/metadata{suffix}": written(suffix, ("file_name", "label"), each)})
    else:
        all_rows = [(f"{split}/{name}", label) for split, each in rows.items() for name, label in each]
        add(tmp_path, {f"metadata{suffix}": written(suffix, ("file_name", "label"), all_rows)})
    assert labels(load(data=tmp_path)) == LABELED


def test_lists_of_mmaction2_and_videomae(tmp_path):
    make(tmp_path, "clips/a.mp4", "clips/b.mp4", "clips/c.mp4")
    add(
        tmp_path, {"train_list_videos.txt": "clips/a.mp4 0\nclips/b.mp4 1\n", "val_list_videos.txt": "clips/c.mp4 0\n"}
    )
    assert labels(load(data=tmp_path)) == {"train": {"a.mp4": "0", "b.mp4": "1"}, "validation": {"c.mp4": "0"}}


# Files, suffixes, links


def test_links_are_read_once_and_what_is_dangling_is_a_file(tmp_path):
    make(tmp_path, "set/run/a.mp4", "set/walk/b.mp4", "store/c.mp4")
    for link, target in {
        "run/loop": tmp_path / "set",
        "run/again.mp4": tmp_path / "set" / "run" / "a.mp4",
        "run/more": tmp_path / "store",
        "walk/more": tmp_path / "store",
        "walk/gone.mp4": tmp_path / "nothing.mp4",
    }.items():
        os.symlink(target, tmp_path / "set" / link)
    tree = scan_folder(tmp_path / "set")
    found = [str(path.relative_to(tree.path)) for path in tree.files()]
    assert found == ["run/a.mp4", "run/more/c.mp4", "walk/b.mp4", "walk/gone.mp4", "walk/more/c.mp4"]
    data = load(data=tmp_path / "set", validation_fraction=0.0)
    assert data.class_names == ["run", "walk"] and len(data.splits["train"]) == 5
    assert "2 paths, a link to a folder or file that is read already" in " ".join(data.messages)


def test_split_folders_may_be_links(tmp_path):
    make(tmp_path, "store/run/a.mp4", "store/walk/b.mp4", "set/notes.txt")
    for name in ("train", "val"):
        os.symlink(tmp_path / "store", tmp_path / "set" / name)
    data = load(data=tmp_path / "set")
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 2, "validation": 2}


def test_a_name_that_is_not_utf8_does_not_stop_the_rest(tmp_path):
    make(tmp_path, "run/a.mp4", "walk/b.mp4")
    try:
        (tmp_path / "run" / os.fsdecode(b"caf\xe9.mp4")).touch()
    except OSError:
        pytest.skip("The file system takes UTF-8 names only.")
    data = load(data=tmp_path, validation_fraction=0.0)
    assert labels(data) == {"train": {"a.mp4": "run", "b.mp4": "walk"}}
    (said,) = data.messages
    assert "1 path, with a name that is not UTF-8" in said and "caf\\xe9.mp4" in said and said.isprintable()


def test_suffixes_of_video_files(tmp_path):
    listed = (
        ".asf .3g2 .f4v .m2v .divx .mxf .y4m .ivf .qt .apng .dv .nut .rm .rmvb .mk3d .mj2 .wtv .h264 .hevc .obu .swf"
    )
    assert set(listed.split()) <= VIDEO_SUFFIXES
    names = [f"{number:03d}{suffix.upper()}" for number, suffix in enumerate(sorted(VIDEO_SUFFIXES))]
    make(tmp_path, *names)
    assert [path.name for path in list_files(tmp_path, VIDEO_SUFFIXES)] == names
    assert all(kind_of(name) == "video" for name in names)


@pytest.mark.parametrize(
    ("suffix", "codec", "container"),
    [
        *(
            (".asf", "mpeg4", "asf"),
            (".3g2", "mpeg4", "3g2"),
            (".f4v", "libx264", "mp4"),
            (".m2v", "mpeg2video", "mpeg2video"),
        ),
        *((".divx", "mpeg4", "avi"), (".mxf", "mpeg2video", "mxf"), (".y4m", "wrapped_avframe", "yuv4mpegpipe")),
        *((".ivf", "libvpx-vp9", "ivf"), (".qt", "libx264", "mov"), (".nut", "mpeg4", "nut"), (".rm", "rv20", "rm")),
        *(
            (".mk3d", "libx264", "matroska"),
            (".ogg", "libtheora", "ogg"),
            (".h264", "libx264", "h264"),
            (".mj2", "libx264", "mp4"),
        ),
    ],
)
def test_files_of_every_container_are_read(tmp_path, suffix, codec, container):
    if codec not in av.codecs_available:
        pytest.skip(f"This FFmpeg has no encoder {codec}.")
    for name in ("run", "walk"):
        (tmp_path / name).mkdir()
        with av.open(str(tmp_path / name / f"a{suffix}"), "w", format=container) as file:
            stream = file.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 352, 288, "yuv420p"
            for level in (40, 120, 200, 80):
                frame = av.VideoFrame.from_ndarray(np.full((288, 352, 3), level, np.uint8), format="rgb24")
                file.mux(stream.encode(frame.reformat(format="yuv420p")))
            file.mux(stream.encode(None))
    data = load(data=tmp_path, validation_fraction=0.0)
    assert check_videos(data, every_frame=True, num_workers=1)[0] == [] and len(data.splits["train"]) == 2


# Shards


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", ["mp4", "webm"])
@pytest.mark.parametrize(
    ("content", "names"),
    [
        (["run", "walk"], ["run", "walk"]),
        ([0, 1], ["0", "1"]),
        ([{"label": "run", "x": [1]}, {"label": "walk", "x": [2]}], None),
    ],
)
def test_json_labels_of_tar_shards(tmp_path, streaming, suffix, content, names):
    import io
    import tarfile

    with tarfile.open(tmp_path / "train-000.tar", "w") as shard:
        for index, label in enumerate(content * 2):
            for name, text in (
                (f"{index}.{suffix}", b"video %d" % index),
                (f"{index}.json", json.dumps(label).encode()),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                shard.addfile(entry, io.BytesIO(text))
    names = names or ["run", "walk"]
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "classes.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(names)))
    given = {"streaming": True, "class_names_file": tmp_path / "names" / "classes.txt"} if streaming else {}
    data = load(data=tmp_path, validation_fraction=0.0, **given)
    rows = list(data.splits["train"])
    assert data.class_names == names and [row["label"] for row in rows] == [0, 1, 0, 1]
    assert [video_source(row["video"])["bytes"] for row in rows] == [b"video %d" % index for index in range(4)]
    if isinstance(content[0], dict):
        named = load(data=tmp_path, validation_fraction=0.0, label_column="json.label", **given)
        assert [row["label"] for row in named.splits["train"]] == [0, 1, 0, 1]
        message = error_of(data=tmp_path, label_column="json.kind", **given)
        assert "no field 'kind', but label, x; set label_column" in message


@pytest.mark.parametrize("url", ["s3://bucket/a b.mp4", "hf://datasets/x/y/a.mp4", "https://host/a.mp4?x=1"])
def test_urls_in_tables_stay_urls(tmp_path, url):
    add(tmp_path, {"labels.csv": written(".csv", rows=[(url, "run"), ("b.mp4", "walk")])})
    data = load(data=tmp_path / "labels.csv", validation_fraction=0.0)
    assert [row["video"]["path"] for row in data.splits["train"]] == [url, str(tmp_path / "b.mp4")]


def test_a_folder_without_annotations_is_refused_with_the_formats_of_folders(tmp_path):
    """A recipe may set the format of the original files; prepared copies and shards have another one."""
    make(tmp_path, "train/a/0.mp4", "val/a/0.mp4")
    with pytest.raises(ValueError, match=r"needs an annotation file .*data_format=class_folders.*data_format=shards"):
        load(data=tmp_path, data_format="kinetics")
