"""
The benchmarks of UniFormerV2 and ViViT besides Kinetics and Something-Something V2: each data set's folder as it is distributed gives the
stated splits, classes and clips, and its annotations are refused in one line if they are damaged.
"""

import json
from pathlib import Path

import pytest
from dataset_files import add_json, error_of, load

from tubevit.training.data.formats.registry import list_formats


def make(root: Path, *names: str) -> None:
    """Empty files; loading annotations opens no video."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def add(root: Path, files: dict) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (root / name).write_text(text)


def rows_of(data) -> dict[str, list[tuple]]:
    """Split to `(id, name of the label, path from the root or None for a missing file, segment)` of each row."""

    def name_of(label):
        if isinstance(label, list):
            return tuple(data.class_names[each] for each in label)
        return None if label is None else data.class_names[label]

    return {
        split: [
            (
                row["video_id"],
                name_of(row["label"]),
                Path(row["video"]["path"]).name if Path(row["video"]["path"]).exists() else None,
                tuple(value for value in list((row.get("segment") or {}).values())[:4] if value is not None) or None,
            )
            for row in rows
        ]
        for split, rows in data.splits.items()
    }


# Moments in Time


def moments(root: Path) -> Path:
    make(
        root,
        *("training/adult+female+singing/a_1.mp4", "training/clapping/b_2.mp4", "validation/clapping/c_3.mp4"),
    )
    add(
        root,
        {
            "trainingSet.csv": "adult+female+singing/a_1.mp4,adult+female+singing,3,0\nclapping/b_2.mp4,clapping,4,1\n"
            "clapping/gone.mp4,clapping,3,0\n",
            "validationSet.csv": "clapping/c_3.mp4,clapping,3,0\n",
            "moments_categories.txt": "clapping,0\nadult+female+singing,1\n",
            "README.txt": "moments",
            "license.txt": "license",
        },
    )
    return root


def test_moments_in_time(tmp_path):
    root = moments(tmp_path)
    expected = {
        "train": [
            ("adult+female+singing/a_1.mp4", "adult+female+singing", "a_1.mp4", None),
            ("clapping/b_2.mp4", "clapping", "b_2.mp4", None),
            ("clapping/gone.mp4", "clapping", None, None),
        ],
        "validation": [("clapping/c_3.mp4", "clapping", "c_3.mp4", None)],
    }
    folder = load(data=root, data_format="moments_in_time", num_classes=2)
    files = load(train_data=root / "trainingSet.csv", validation_data=root / "validationSet.csv", num_classes=2)
    for data in (folder, files):
        assert (data.data_format, data.class_names) == ("moments_in_time", ["clapping", "adult+female+singing"])
        assert rows_of(data) == expected
    assert error_of(train_data=root / "trainingSet.csv").startswith(
        "The annotations hold 2 classes, expected 339 or 305"
    )
    # The folders hold the same labels, so they are read if the format is not given, and the files are named.
    guessed = load(data=root)
    assert guessed.data_format == "class_folders" and len(guessed.splits["train"]) == 2
    assert any("trainingSet.csv gives the same ones" in message for message in guessed.messages)


# Something-Something V1


def test_something_something_v1(tmp_path):
    make(
        tmp_path,
        *(f"20bn-something-something-v1/{index}/{frame:05d}.jpg" for index in (100218, 7, 9) for frame in (1, 2)),
    )
    names = [f"Doing something {index:03d}" for index in range(174)]
    add(
        tmp_path,
        {
            "something-something-v1-labels.csv": "\n".join(reversed(names)) + "\n",
            "something-something-v1-train.csv": f"100218;{names[3]}\n24413;{names[170]}\n",
            "something-something-v1-validation.csv": f"7;{names[0]}\n",
            "something-something-v1-test.csv": "9\n",
        },
    )
    data = load(data=tmp_path)
    assert (data.data_format, data.class_names) == ("ssv1", names)  # alphabetical, whatever the order of the file
    assert rows_of(data) == {
        "train": [("100218", names[3], "100218", None), ("24413", names[170], None, None)],
        "validation": [("7", names[0], "7", None)],
        "test": [("9", None, "9", None)],
    }
    assert "1 of 1 rows of the test split have no label." in data.messages
    assert any("folders of frames, without a frame rate" in message for message in data.messages)
    for extra in ({}, {"video_root": tmp_path / "20bn-something-something-v1"}):
        other = load(train_data=tmp_path / "something-something-v1-train.csv", validation_fraction=0.0, **extra)
        assert rows_of(other)["train"] == rows_of(data)["train"]
    (tmp_path / "something-something-v1-train.csv").write_text("100218;Doing something 17\n")
    assert "line 1: 'Doing something 17' is not one of the 174 classes (the nearest is" in error_of(data=tmp_path)
    (tmp_path / "something-something-v1-labels.csv").unlink()
    assert "hold 1 classes, expected 174 or 27" in error_of(train_data=tmp_path / "something-something-v1-train.csv")


# ActivityNet and HACS


def video(subset: str, *actions: tuple) -> dict:
    annotations = [{"segment": list(segment), "label": label} for label, *segment in actions]
    return {"duration": 100.0, "subset": subset, "resolution": "320x240", "url": "x", "annotations": annotations}


DATABASE = {
    "-_a-b_c_d-1": video("training", ("Archery", 2.5, 10), ("Archery", 20, 30.25)),
    "BBBBBBBBBBB": video("training", ("Zumba", 0, 9), ("Zumba", 5, 5)),
    "CCCCCCCCCCC": video("validation", ("Archery", 0, 10), ("Zumba", 20, 40), ("Archery", 50, 55)),
    "DDDDDDDDDDD": video("testing"),
}


@pytest.mark.parametrize("name", ["activity_net.v1-3.min.json", "HACS_v1.1.1/HACS_segments_v1.1.1.json"])
@pytest.mark.parametrize("prefix", ["v_", ""])
def test_activitynet_and_hacs_segments(tmp_path, name, prefix):
    make(tmp_path, *(f"videos/{prefix}{video_id}.mp4" for video_id in list(DATABASE)[:3]))
    content = {"version": "VERSION 1.3", "taxonomy": [{"nodeName": "Archery", "nodeId": 1}], "database": DATABASE}
    add(tmp_path, {name: content})
    expected = {
        "train": [
            ("-_a-b_c_d-1#t=2.5,10", "Archery", f"{prefix}-_a-b_c_d-1.mp4", (2.5, 10.0)),
            ("-_a-b_c_d-1#t=20,30.25", "Archery", f"{prefix}-_a-b_c_d-1.mp4", (20.0, 30.25)),
            ("BBBBBBBBBBB#t=0,9", "Zumba", f"{prefix}BBBBBBBBBBB.mp4", (0.0, 9.0)),
        ],
        "validation": [("CCCCCCCCCCC", "Zumba", f"{prefix}CCCCCCCCCCC.mp4", None)],  # 20 s of 35
        "test": [("DDDDDDDDDDD", None, None, None)],
    }
    for given in ({"data": tmp_path}, {"data": tmp_path / name, "video_root": tmp_path / "videos"}):
        data = load(**given, num_classes=2)
        assert (data.data_format, data.class_names, rows_of(data)) == ("activitynet", ["Archery", "Zumba"], expected)
    told = " ".join(data.messages)
    for text in (
        "3 training clips are segments",
        "1 whole video with segments of several",
        "1 segment whose end",
        "1 of 1 rows",
    ):
        assert text in told
    every = load(data=tmp_path / name, num_classes=2, multi_label=True)
    assert every.multi_label and [row[1] for row in rows_of(every)["validation"]] == [("Zumba", "Archery")]
    assert "hold 2 classes, expected 200" in error_of(data=tmp_path / name)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**DATABASE["BBBBBBBBBBB"], "subset": "held out"}, "'B': the subset is 'held out', not training"),
        (
            {"subset": "training", "annotations": [{"label": "a"}]},
            "'B': an annotation must have a 'label' and a 'segment'",
        ),
        ({"subset": "training", "annotations": {"label": "a"}}, "'B': the annotations must be a list"),
        (video("training", ("Zumba", "soon", 5)), "segment is 'soon', not a number of seconds"),
    ],
)
def test_damaged_activitynet_is_refused(tmp_path, entry, words):
    path = add_json(tmp_path / "activity_net.v1-3.min.json", {"database": {"B": entry}})
    assert words in error_of(data=path, num_classes=1)


HACS_CLIPS = """classname,youtube_id,subset,start,end,label
Archery,AAAAAAAAAAA,training,15.5,17.5,1
Archery,AAAAAAAAAAA,training,27.5,29.5,-1
Zumba,BBBBBBBBBBB,validation,0.0,2.0,1
,CCCCCCCCCCC,testing,-1,-1,?
"""


def test_hacs_clips(tmp_path):
    make(tmp_path, "videos/Archery/v_AAAAAAAAAAA.mp4", "videos/Zumba/v_BBBBBBBBBBB.mp4")
    add(tmp_path, {"HACS_v1.1.1/HACS_clips_v1.1.1.csv": HACS_CLIPS})
    path = tmp_path / "HACS_v1.1.1" / "HACS_clips_v1.1.1.csv"
    names = ["Archery", "Zumba"]
    data = load(data=path, video_root=tmp_path / "videos", class_names=names)
    assert data.data_format == "hacs_clips"
    assert rows_of(data) == {
        "train": [("AAAAAAAAAAA#t=15.5,17.5", "Archery", "v_AAAAAAAAAAA.mp4", (15.5, 17.5))],
        "validation": [("BBBBBBBBBBB#t=0,2", "Zumba", "v_BBBBBBBBBBB.mp4", (0.0, 2.0))],
        "test": [("CCCCCCCCCCC", None, None, None)],
    }
    assert any("1 negative clip" in message for message in data.messages)
    path.write_text(HACS_CLIPS.replace("17.5,1", "17.5,yes"))
    assert "line 2: the label is 'yes', not 1" in error_of(data=path, num_classes=2)


# Diving48


def dive(name: str, label: int) -> dict:
    return {"vid_name": name, "start_frame": 0, "end_frame": 70, "label": label}


def test_diving48(tmp_path):
    words = [["Back", f"{index}som", "05Twis", "FREE"] for index in range(48)]
    make(tmp_path, "rgb/-mmq0PT-u8k_00155.mp4", "rgb/-mmq0PT-u8k_00156.mp4")
    train = [dive("-mmq0PT-u8k_00155", 0), dive("2x00lRzlTVQ_00000", 47)]
    add(tmp_path, {"Diving48_V2_train.json": train, "Diving48_V2_test.json": [dive("-mmq0PT-u8k_00156", 13)]})
    without = load(data=tmp_path, validation_fraction=0.0)
    assert without.class_names == [str(index) for index in range(48)]
    add(tmp_path, {"Diving48_vocab.json": words})
    data = load(data=tmp_path, validation_fraction=0.0)
    assert data.data_format == "diving48" and data.class_names[13] == "Back+13som+05Twis+FREE"
    assert rows_of(data) == {
        "train": [
            ("-mmq0PT-u8k_00155", "Back+0som+05Twis+FREE", "-mmq0PT-u8k_00155.mp4", None),
            ("2x00lRzlTVQ_00000", "Back+47som+05Twis+FREE", None, None),
        ],
        "test": [("-mmq0PT-u8k_00156", "Back+13som+05Twis+FREE", "-mmq0PT-u8k_00156.mp4", None)],
    }
    assert any("1 group is in both the train and the test split" in message for message in data.messages)
    theirs = list(reversed(data.class_names))  # a checkpoint with another order
    assert load(class_names=theirs, data=tmp_path, validation_fraction=0.0).splits["test"][0]["label"] == 47 - 13
    add_json(tmp_path / "Diving48_V2_test.json", [dive("-mmq0PT-u8k_00156", 48)])
    assert "entry 0: the label is 48, not a class number from 0 to 47" in error_of(data=tmp_path)


# Kinetics, JSON


def kinetics_entry(label: str | None, start: float, end: float, subset: str) -> dict:
    annotations = {"segment": [start, end]} | ({} if label is None else {"label": label})
    return {
        "annotations": annotations,
        "duration": end - start,
        "subset": subset,
        "url": "https://www.youtube.com/watch?v=x",
    }


KINETICS = {
    "train": {
        "-_a-b_c_d-1": kinetics_entry("abseiling", 7.0, 17.0, "train"),
        "ZZZZZZZZZZZ": kinetics_entry("zumba", 0.0, 10.0, "train"),
    },
    "validate": {"YYYYYYYYYYY": kinetics_entry("zumba", 100.0, 110.0, "validate")},
    "test": {"XXXXXXXXXXX": kinetics_entry(None, 1.0, 11.0, "test")},
}


def test_json_of_the_kinetics_archives(tmp_path):
    make(tmp_path, "train/-_a-b_c_d-1_000007_000017.mp4", "val/YYYYYYYYYYY_000100_000110.mp4")
    add(tmp_path, {f"kinetics400/{split}.json": content for split, content in KINETICS.items()})
    expected = {
        "train": [
            ("-_a-b_c_d-1_000007_000017", "abseiling", "-_a-b_c_d-1_000007_000017.mp4", None),
            ("ZZZZZZZZZZZ_000000_000010", "zumba", None, None),
        ],
        "validation": [("YYYYYYYYYYY_000100_000110", "zumba", "YYYYYYYYYYY_000100_000110.mp4", None)],
        "test": [("XXXXXXXXXXX_000001_000011", None, None, None)],
    }
    data = load(data=tmp_path, num_classes=2)
    assert (data.data_format, data.class_names, rows_of(data)) == ("kinetics", ["abseiling", "zumba"], expected)
    # The archives hold the same rows as CSV, which are then read instead.
    for split, content in KINETICS.items():
        lines = [
            f"{entry['annotations'].get('label', '')},{name},{start:g},{end:g},{split}"
            for name, entry in content.items()
            for start, end in [entry["annotations"]["segment"]]
        ]
        header = "label,youtube_id,time_start,time_end,split"
        if split == "test":
            header, lines = header.removeprefix("label,"), [line.removeprefix(",") for line in lines]
        add(tmp_path, {f"kinetics400/{split}.csv": "\n".join([header, *lines]) + "\n"})
    both = load(data=tmp_path, num_classes=2)
    assert rows_of(both) == expected and any(
        "Left out: other annotation files" in message and "train.json" in message for message in both.messages
    )


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"annotations": {"segment": [1.0]}}, "'A': the 'annotations' must have a 'segment' [start, end]"),
        (
            {"annotations": {"segment": [3.0, 1.0], "label": "a"}},
            "'A': the segment 3 to 1 s does not end after its start",
        ),
        ({"annotations": {"segment": [1.0, 3.0], "label": 7}}, "'A': the label is 7, not text"),
    ],
)
def test_damaged_json_of_kinetics_is_refused(tmp_path, entry, words):
    assert words in error_of(train_data=add_json(tmp_path / "train.json", {"A": entry}), num_classes=1)


# EPIC-KITCHENS-100


NOUNS, VERBS = ("tap", "board:chopping", "water"), ("take", "water")
EPIC_COLUMNS = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,narration,verb,"
    "verb_class,noun,noun_class,all_nouns,all_noun_classes"
)


def epic(root: Path) -> Path:
    """Annotations beside a video file of one participant and frames of another one."""
    rows = {
        "train": [
            "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,take tap,take,0,tap,0,\"['tap']\",[0]",
            "P02_101_3,P02,P02_101,00:01:40.0,00:01:40.00,00:01:41.5,3,5,water it,water,1,it,2,\"['it', 'tap']\",\"[2, 0]\"",
        ],
        "validation": [
            "P01_02_0,P01,P01_02,00:00:01,00:00:01.00,00:00:02.00,60,119,take board,take,0,board,1,\"['board']\",[1]"
        ],
    }
    annotations = {f"EPIC_100_{split}.csv": "\n".join([EPIC_COLUMNS, *lines]) + "\n" for split, lines in rows.items()}
    annotations["EPIC_100_test_timestamps.csv"] = (
        "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame\n"
        "P01_11_0,P01,P01_11,00:00:00.5,00:00:00.00,00:00:01.89,1,113\n"
    )
    for name, keys in (("noun_classes_v2", NOUNS), ("verb_classes", VERBS)):
        lines = [f'{index},"{key}","[\'{key}\']","some"' for index, key in enumerate(keys)]
        annotations[f"EPIC_100_{name}.csv"] = "\n".join(['"id","key","instances","category"', *lines]) + "\n"
    annotations["EPIC_100_video_info.csv"] = "video_id,duration,fps,resolution\nP01_01,1652.15,59.94,1920x1080\n"
    annotations["EPIC_100_uda_source_train.csv"] = annotations["EPIC_100_train.csv"]
    add(root, {f"annotations/{name}": text for name, text in annotations.items()})
    make(root, "P01/videos/P01_01.MP4", *(f"P02/rgb_frames/P02_101/frame_{index:010d}.jpg" for index in range(1, 9)))
    return root


def test_epic_kitchens(tmp_path):
    data = load(data=epic(tmp_path), num_classes=5)
    names = [*(f"noun: {name}" for name in NOUNS), *(f"verb: {name}" for name in VERBS)]
    assert (data.data_format, data.class_names, data.multi_label) == ("epic_kitchens", names, False)
    assert data.label_groups == {"noun": 3, "verb": 2}
    assert rows_of(data) == {
        "train": [
            ("P01_01_0", ("noun: tap", "verb: take"), "P01_01.MP4", (0.14, 3.37)),
            ("P02_101_3", ("noun: water", "verb: water"), "P02_101", (2, 5)),  # frames 3 to 5, counted from 1
        ],
        "validation": [("P01_02_0", ("noun: board:chopping", "verb: take"), None, (1.0, 2.0))],
        "test": [("P01_11_0", None, None, (0.0, 1.89))],
    }
    assert data.splits["train"][1]["label"] == [2, 4]
    # A checkpoint with the verbs first, as other code orders them.
    theirs = [*names[3:], *names[:3]]
    other = load(
        class_names=theirs,
        train_data=tmp_path / "annotations/EPIC_100_train.csv",
        video_root=tmp_path,
        validation_fraction=0.0,
    )
    assert other.label_groups == {"verb": 2, "noun": 3} and other.splits["train"][1]["label"] == [1, 4]


def test_epic_kitchens_without_class_files_and_with_damage(tmp_path):
    root = epic(tmp_path)
    for path in (root / "annotations").glob("*_classes*.csv"):
        path.unlink()
    path = root / "annotations" / "EPIC_100_train.csv"
    data = load(train_data=path, validation_fraction=0.0)
    assert data.label_groups == {"noun": 300, "verb": 97} and rows_of(data)["train"][1][1] == ("noun: 2", "verb: 1")
    assert any("the names of the classes are their numbers" in message for message in data.messages)
    good = path.read_text()
    path.write_text(good.replace("water,1,it", "water,97,it"))
    assert "line 3: the verb_class is '97', not a number from 0 to 96" in error_of(train_data=path)
    (tmp_path / "names.txt").write_text("noun: a\nverb: b\nnoun: c\n")
    path.write_text(good)
    assert "one of each of noun, verb" in error_of(train_data=path, class_names_file=tmp_path / "names.txt")
    path.write_text(good.replace("00:00:00.14", "early"))
    assert "line 2: start_timestamp is 'early', not a number of seconds" in error_of(train_data=path)


# Any other JSON


@pytest.mark.parametrize(
    "content",
    [
        {"annotations": [{"video": "a.mp4", "caption": "b"}]},
        [{"id": 1, "label": "run"}],  # not Something-Something V2, whose entries have a template
        [{"clip": {"name": "a.mp4"}, "class": "run"}],
        {"a": {"subset": "train"}},
        ["a", "b"],
    ],
)
def test_any_other_json_is_refused_with_the_formats(tmp_path, content):
    path = add_json(tmp_path / "annotations.json", content)
    message = error_of(train_data=path)
    assert "in no known format" in message
    for entry in list_formats():
        assert entry.layout != "file" or f"{entry.name}: " in message
