"""The held-out validation split: stratified, by whole groups, for every source; what is on one or both sides is said."""

from collections import Counter

import datasets
import numpy as np
import pytest
from dataset_files import add_clip, add_table, class_folders, clip_bytes, error_of, load

from tubevit.training.data.holding_out import choose_held_out, join_groups, make_folds
from tubevit.training.data.video_datasets import DataConfig, adapt_datasets


def sides_of(data, key=lambda row: row["video_id"]):
    return [{key(row) for row in data.splits[split]} for split in ("train", "validation")]


def opened(columns: dict, validation: dict | None = None, streaming=False, **options):
    """Columns of a data set opened by `datasets`, with `label` as text; rows have the same file unless `video` is given."""

    def make(values):
        number = len(values["label"])
        videos = values.pop("video", [{"path": f"{index}.mp4", "bytes": None} for index in range(number)])
        rows = datasets.Dataset.from_dict({"video": videos, **values}).cast_column(
            "video", datasets.Video(decode=False)
        )
        return rows.to_iterable_dataset() if streaming else rows

    splits = {"train": make(columns)} | ({} if validation is None else {"validation": make(validation)})
    return adapt_datasets(splits, DataConfig(data="x", **options))


@pytest.mark.parametrize("source", ["datasets", "table"])
def test_rare_classes_are_on_both_sides_of_every_source(tmp_path, source):
    labels = ["common"] * 60 + ["rare"] * 2 + ["single"] + ["third"] * 9
    for seed in range(5):
        if source == "datasets":
            data = opened({"label": labels}, split_seed=seed)
        else:
            rows = [{"path": f"{index}.mp4", "label": label} for index, label in enumerate(labels)]
            data = load(data=add_table(tmp_path / "a.csv", rows), split_seed=seed)
        held_out = Counter(data.class_names[row["label"]] for row in data.splits["validation"])
        assert held_out == {"common": 15, "rare": 1, "third": 2} and len(data.splits["train"]) == 72 - 18
        assert "There is no validation split: 18 of 72 samples are held out for it." in data.messages
        assert "1 class of the train split without a video in the validation split: single." in data.messages


@pytest.mark.parametrize("source", ["datasets", "table", "class_folders"])
def test_groups_are_kept_together(tmp_path, source):
    people = [f"p{index // 6}" for index in range(48)]  # 8 people with 6 videos each, of both classes
    labels = ["ab"[index % 2] for index in range(48)]
    names = [f"v_{person}_{index}.mp4" for index, person in enumerate(people)]
    if source == "datasets":
        videos = [{"path": name, "bytes": None} for name in names]
        for options in ({"group_column": "person"}, {"group_pattern": r"_(p\d+)_"}):
            data = opened({"video": videos, "label": labels, "person": people}, **options)
            sides = sides_of(data, lambda row: row["video"]["path"].split("_")[1])
            assert set(data.splits["train"].column_names) == {"video", "label", "video_id"}
            assert not sides[0] & sides[1] and len(sides[1]) == 2
    elif source == "table":
        rows = [{"path": n, "label": a, "person": p} for n, a, p in zip(names, labels, people, strict=True)]
        data = load(data=add_table(tmp_path / "a.csv", rows), group_column="person")
    else:
        for name, label in zip(names, labels, strict=True):
            add_clip(tmp_path / label / name)
        data = load(data=tmp_path, group_pattern=r"_(p\d+)_")
    sides = sides_of(data, lambda row: row["video"]["path"].rpartition("/")[2].split("_")[1])
    assert not sides[0] & sides[1] and len(sides[1]) == 2
    assert [set(data.groups[split]) for split in ("train", "validation")] in (
        sides,
        [{name.removeprefix("p") for name in side} for side in sides],  # of the pattern
    )
    assert "12 of 48 samples are held out for it, in whole groups (2 of 8)." in " ".join(data.messages)


def test_a_file_and_its_group_are_joined():
    rows = [{"path": f"{index % 4}.mp4", "label": "a"} for index in range(16)]
    files = [row["path"] for row in rows]
    groups = join_groups(files, ["x" if name in ("0.mp4", "3.mp4") else None for name in files])
    assert groups == ["0.mp4" if name == "3.mp4" else name for name in files]
    held_out = choose_held_out([row["label"] for row in rows], groups, 0.25, seed=1)
    assert {files[index] for index in held_out} in ({"1.mp4"}, {"2.mp4"})


def test_groups_of_several_classes_and_sizes():
    for seed in range(20):
        labels = ["a"] * 50 + ["b"] * 50 + ["c"] * 4
        groups = [index % 7 for index in range(50)] + [index % 5 for index in range(50)] + [0, 1, 8, 8]
        held_out = set(choose_held_out(labels, groups, 0.2, seed))
        inside, outside = ({groups[i] for i in range(104) if (i in held_out) == side} for side in (True, False))
        assert not inside & outside
        for name in "abc":
            number = sum(labels[index] == name for index in held_out)
            assert 0 < number < labels.count(name)


def test_a_class_is_never_held_out_as_a_whole():
    for seed in range(8):  # the only group of b stays in training
        assert choose_held_out(["a", "a", "b"], [0, 1, 0], 0.25, seed) == [1]
        held_out = choose_held_out(list("aabbb"), range(5), 0.9, seed)
        assert [sum(index < 2 for index in held_out), len(held_out)] == [1, 3]


def test_folds_have_whole_groups_and_all_classes():
    labels = np.array(["a"] * 40 + ["b"] * 20)
    for seed in range(10):
        folds = np.array(make_folds(labels.tolist(), list(range(60)), 5, seed))
        assert [Counter(labels[folds == fold]) for fold in range(5)] == [Counter(a=8, b=4)] * 5
        groups = np.random.default_rng(seed).permutation(np.arange(60) // 4)
        folds = np.array(make_folds(labels.tolist(), groups.tolist(), 5, seed))
        assert all(len(set(folds[groups == group])) == 1 for group in range(15))
        assert {2, 3, 4} >= {number // 4 for number in Counter(folds).values()}  # of 15 groups of 4 rows
        assert all(0 < sum(labels[folds == fold] == "b") < 8 for fold in range(5))
    assert make_folds(list("abab"), [0, 1, 2, 3], 2, 0) == make_folds(list("abab"), [0, 1, 2, 3], 2, 0)
    assert len({tuple(make_folds(["a"] * 12, range(12), 3, seed)) for seed in range(5)}) > 1
    with pytest.raises(ValueError, match="3 groups do not fill 4 folds"):
        make_folds(["a"] * 6, [0, 0, 1, 1, 2, 2], 4, 0)


def test_one_large_group_does_not_take_all():
    labels, groups = ["a"] * 20, [0] * 18 + [1, 2]
    assert set(choose_held_out(labels, groups, 0.25, 0)) in ({18}, {19}, {18, 19})
    assert choose_held_out(["a"] * 4, [0] * 4, 0.25, 0) == []


def test_groups_that_cannot_be_used_raise_or_are_named(tmp_path):
    class_folders(tmp_path / "clips", {"": {"a": 4, "b": 4}})
    folder = tmp_path / "clips"
    assert "is not a regular expression" in error_of(data=folder, group_pattern="(")
    assert "needs parentheses around the group" in error_of(data=folder, group_pattern="x")
    assert "matches none of 8 names, such as 'a/0.mp4'" in error_of(data=folder, group_pattern="(person)")
    assert "group_column or group_pattern, not both" in error_of(data=folder, group_pattern="(a)", group_column="x")
    data = load(data=folder, group_pattern=r"/([0-2])\.mp4")
    assert any("does not match 2 of 8 names (a/3.mp4, b/3.mp4)" in message for message in data.messages)
    assert any("group_column has no effect" in message for message in load(data=folder, group_column="x").messages)
    table = add_table(tmp_path / "a.csv", [{"path": "a.mp4", "label": "x"}])
    assert "no column 'person'" in error_of(data=table, group_column="person")
    with pytest.raises(ValueError, match="no group_column 'person'"):
        opened({"label": ["a", "b"]}, group_column="person")
    stream = datasets.Dataset.from_dict({"video": [{"path": "0.mp4", "bytes": None}], "label": [0]})
    stream = stream.cast_column("video", datasets.Video(decode=False)).to_iterable_dataset()
    streamed = adapt_datasets({"train": stream}, DataConfig(data="x", group_pattern="(x)"), ["a"])
    assert "group_pattern has no effect: nothing is held out of a streamed data set." in streamed.messages


def test_names_that_contain_groups_are_said(tmp_path):
    names = [f"v_Run_g{group:02d}_c{clip:02d}.mp4" for group in range(4) for clip in range(4)]
    table = add_table(tmp_path / "a.csv", [{"path": name, "label": "run"} for name in names])
    (message,) = [each for each in load(data=table).messages if "contain groups" in each]
    pattern = message.split("group_pattern='")[1].split("'")[0]
    grouped = load(data=table, group_pattern=pattern)
    sides = sides_of(grouped, lambda row: row["video_id"][6:9])
    assert len(sides[1]) == 1 and not sides[0] & sides[1]
    assert not any("contain groups" in each for each in grouped.messages)


def test_a_split_that_cannot_be_held_out_is_said(tmp_path):
    rows = [{"path": f"{name}.mp4", "label": name} for name in "abc"]
    data = load(data=add_table(tmp_path / "a.csv", rows))
    assert list(data.splits) == ["train"]
    assert "There is no validation split, and none can be held out: no class has two samples." in data.messages


def test_classes_of_several_labels_on_one_side_are_said_and_do_not_stop_the_run(tmp_path):
    train = [{"path": "1.mp4", "label": "run;jump"}, {"path": "2.mp4", "label": "run"}]
    validation = [{"path": "3.mp4", "label": "run;swim"}]
    options = {
        "train_data": add_table(tmp_path / "train.csv", train),
        "validation_data": add_table(tmp_path / "val.csv", validation),
    }
    data = load(**options, multi_label=True)
    assert data.class_names == ["jump", "run", "swim"]
    expected = [
        "1 class of the validation split without a video in the train split: swim.",
        "1 class of the train split without a video in the validation split: jump.",
    ]
    assert [message for message in data.messages if "without a video" in message] == expected
    lists = [[each["label"].split(";") for each in rows] for rows in (train, validation)]
    found = opened({"label": lists[0]}, {"label": lists[1], "video": [{"path": "9.mp4", "bytes": None}]})
    assert found.class_names == data.class_names and found.messages[-2:] == expected
    add_table(tmp_path / "train.csv", [{"path": "1.mp4", "label": "run"}, {"path": "2.mp4", "label": "jump"}])
    add_table(tmp_path / "val.csv", [{"path": "3.mp4", "label": "swim"}])
    assert "'swim' is not one of the 2 classes" in error_of(
        **options
    )  # one label per video: an unknown class is an error


def test_held_out_videos_of_several_labels_have_every_class(tmp_path):
    labels = [";".join(sorted({"abcdef"[index % 6], "abcdef"[(index * 5) % 6]})) for index in range(36)]
    rows = [{"path": f"{index}.mp4", "label": label} for index, label in enumerate([*labels, "lone"])]
    data = load(data=add_table(tmp_path / "a.csv", rows), multi_label=True)
    held_out = {data.class_names[each] for row in data.splits["validation"] for each in row["label"]}
    assert held_out == set("abcdef") and 7 <= len(data.splits["validation"]) <= 13
    assert "1 class of the train split without a video in the validation split: lone." in data.messages


def test_one_file_in_two_splits_is_said(tmp_path):
    class_folders(tmp_path, {"train": {"a": 2, "b": 2}, "val": {"a": 1, "b": 1}})
    (tmp_path / "val" / "a" / "link.mp4").symlink_to(tmp_path / "train" / "a" / "1.mp4")
    (tmp_path / "val" / "linked").symlink_to(tmp_path / "train" / "b")
    message = "3 video files are in both the train and the validation split, which makes scores too high"
    data = load(data=tmp_path, class_names=["a", "b", "linked"])
    assert any(message in each and "train/a/1.mp4" in each for each in data.messages)
    rows = [{"path": "x.mp4", "label": "a", "start": 0, "end": 1, "split": "train"}]
    rows += [{**rows[0], "start": 2, "end": 3, "split": "val"}]
    data = load(data=add_table(tmp_path / "a.csv", rows))
    assert any("1 video file is in both the train and the validation split" in each for each in data.messages)
    clip = {"path": "0.mp4", "bytes": clip_bytes()}
    found = opened({"video": [clip], "label": ["a"]}, {"video": [clip], "label": ["a"]})
    assert any("1 video file is in both" in each for each in found.messages)
    found = opened({"video": [clip], "label": ["a"]}, {"video": [{**clip, "bytes": b"other"}], "label": ["a"]})
    assert not any("in both" in each for each in found.messages)


def test_a_group_in_two_splits_is_said(tmp_path):
    rows = [{"path": f"{split}.mp4", "label": "a", "person": "p1", "split": split} for split in ("train", "val")]
    messages = load(data=add_table(tmp_path / "a.csv", rows), group_column="person").messages
    assert any("1 group is in both the train and the validation split" in message for message in messages)
