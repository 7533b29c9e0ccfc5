"""Folders of frames are videos in class folders, lists, `prepare` and `predict`; the most frequent kind of media is read."""

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_files import add_clip, add_table, class_folders, load, ssv2, table
from PIL import Image
from saved_models import save_model

from tubevit.processing import TubeViTImageProcessor, TubeViTProcessor, TubeViTVideoProcessor, decode_video
from tubevit.training.cli import main
from tubevit.training.commands.predict import clip_source
from tubevit.training.data.check_data import check_videos
from tubevit.training.data.dataset_columns import row_source


NUM_FRAMES = 6
PIXELS = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


def add_frames(folder, count=NUM_FRAMES, name="img_{:05d}.png"):
    """Frame `i` has the gray level `40 + 20 i`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", (40, 32), (40 + 20 * index,) * 3).save(folder / name.format(index + 1))
    return folder


def frame_class_folders(root):
    for name in "ab":
        for index in range(4):
            add_frames(root / name / f"{name}{index}")
    return root


def test_frame_folders_in_class_folders_are_videos(tmp_path):
    frame_class_folders(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "stray.png")
    data = load(data=tmp_path, frame_folder_fps=10)
    assert (data.data_format, data.media, data.class_names) == ("class_folders", "video", ["a", "b"])
    ids = {split: [row["video_id"] for row in rows] for split, rows in data.splits.items()}
    assert sorted(ids["train"] + ids["validation"]) == [f"{name}/{name}{index}" for name in "ab" for index in range(4)]
    assert len(ids["validation"]) == 2
    assert any("8 of 8 videos are folders of frames, 10 frames per second" in message for message in data.messages)
    assert any("Left out: 1 picture (a/stray.png), because" in message for message in data.messages)
    corrupt, seconds = check_videos(data, num_workers=1)
    assert not corrupt and seconds == pytest.approx(8 * NUM_FRAMES / 10)


def test_missing_frames_and_other_pictures_are_said(tmp_path):
    frame_class_folders(tmp_path)
    (tmp_path / "a" / "a1" / "img_00003.png").unlink()
    Image.new("RGB", (9, 9)).save(tmp_path / "b" / "b2" / "cover.png")
    messages = " ".join(load(data=tmp_path, frame_folder_fps=10).messages)
    assert "1 folder of frames lacks frames" in messages and "a/a1: 1 of 6)" in messages
    assert "Left out: 1 picture in folders of frames" in messages and "b/b2/cover.png" in messages


def test_frame_folders_in_split_folders(tmp_path):
    for split in ("train", "val"):
        frame_class_folders(tmp_path / split)
    data = load(data=tmp_path)
    assert data.media == "video" and {split: len(rows) for split, rows in data.splits.items()} == {
        "train": 8,
        "validation": 8,
    }
    (tmp_path / "val" / "b" / "b1" / "img_00003.png").write_bytes(b"damaged")
    corrupt, _ = check_videos(data, every_frame=True, num_workers=1)
    assert [video.video_id for video in corrupt] == ["b/b1"] and "img_00003.png cannot be read" in corrupt[0].reason


@pytest.mark.parametrize("frames", ["20bn-something-something-v2-frames", "."])
@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["beside", "video_root"])
def test_frame_folders_of_something_something(frames, is_elsewhere, tmp_path):
    folder, _ = ssv2(tmp_path)
    videos = tmp_path.parent / f"{tmp_path.name}-videos" if is_elsewhere else tmp_path
    for number in (180, 13, 7):
        add_frames(videos / frames / str(number), name="{:06d}.jpg")
    data = load(data=folder, frame_folder_fps=12, **({"video_root": videos / frames} if is_elsewhere else {}))
    assert (data.data_format, len(data.class_names)) == ("ssv2", 174)
    found = {
        split: {Path(row["video"]["path"]).name: row["label"] for row in rows} for split, rows in data.splits.items()
    }
    assert found == {"train": {"180": 170, "13": 3}, "validation": {"13": 3}, "test": {"7": None}}
    assert "4 of 4 videos are folders of frames, 12 frames per second." in data.messages
    clip, metadata = decode_video(row_source(data.splits["train"][0], "video"), lambda metadata: [3])
    assert clip.float().mean().item() == pytest.approx(40 + 20 * 3, abs=2)
    assert (metadata.fps, metadata.total_num_frames) == (12, NUM_FRAMES)


@pytest.mark.parametrize(
    ("stray", "left_out"),
    [
        (["a/stray.png"], "1 .png"),  # in the order of the directory before the videos
        (["a/0.jpg", "a/1.jpg", "a/2.jpg", "b/0.jpg", "b/1.jpg", "b/2.jpg"], "6 .jpg"),  # a thumbnail per clip
        (["a/0.jpg", "a/more/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg", "b/2.jpg", "b/x/2.jpg", "b/y/2.jpg"], "8 .jpg"),
    ],
)
def test_pictures_beside_videos_are_left_out(tmp_path, stray, left_out):
    class_folders(tmp_path, {"": {"a": 3, "b": 3}})
    for name in stray:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    data = load(data=tmp_path, validation_fraction=0.0)
    assert (data.media, data.class_names) == ("video", ["a", "b"]) and len(data.splits["train"]) == 6
    assert any(left_out in message and "Left out" in message for message in data.messages)


def test_the_majority_decides_for_all_splits_together(tmp_path):
    class_folders(tmp_path, {"train": {"a": 3, "b": 3}, "val": {"a": 1, "b": 1}})
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / "a" / f"photo{'abc'[number]}.png")
    assert load(data=tmp_path).media == "video"
    for folder in ("train/a", "train/b"):
        for letter in "abcdefgh":
            Image.new("RGB", (8, 8)).save(tmp_path / folder / f"photo{letter}.png")
    data = load(data=tmp_path, class_names=["a", "b"])
    assert data.media == "image" and len(data.splits["train"]) == 16
    assert any("6 .mp4" in message for message in data.messages)


def test_files_and_frame_folders_in_one_data_set(tmp_path):
    class_folders(tmp_path, {"": {"a": 3, "b": 3}})
    add_frames(tmp_path / "a" / "frames_of_0")
    data = load(data=tmp_path, validation_fraction=0.0)
    assert len(data.splits["train"]) == 6
    assert any(
        "1 folder of frames (a/frames_of_0), because the data set has more video files (6)" in m for m in data.messages
    )


@pytest.mark.parametrize("layout", ["direct", "one inner folder"])
def test_numbered_images_of_a_class_stay_images(tmp_path, layout):
    for name in "ab":
        add_frames(tmp_path / name / ("" if layout == "direct" else "images"), name=f"{name}_{{}}.png")
    data = load(data=tmp_path, validation_fraction=0.0)
    assert data.media == "image" and len(data.splits["train"]) == 2 * NUM_FRAMES
    assert any("If each holds the frames of one video" in message for message in data.messages) == (layout == "direct")
    frame_class_folders(tmp_path / "other")
    assert load(data=tmp_path / "other", data_format="image_folders", validation_fraction=0.0).media == "image"


def test_a_table_beside_frame_folders_gives_the_labels(tmp_path):
    for name in ("clip_one", "clip_two", "clip_three"):
        add_frames(tmp_path / name)
    rows = [
        {"path": "clip_one", "label": "run"},
        {"path": "clip_two", "label": "jump"},
        {"path": "clip_three", "label": "run"},
    ]
    add_table(tmp_path / "labels.csv", rows)
    data = load(data=tmp_path, validation_fraction=0.0, frame_folder_fps=4)
    assert data.class_names == ["jump", "run"] and data.media == "video"
    assert [row["video_id"] for row in data.splits["train"]] == ["clip_one", "clip_two", "clip_three"]


def test_prepared_copies_of_frame_folders(tmp_path, capsys):
    source = frame_class_folders(tmp_path / "frames")
    assert main(["data", "prepare", str(source), str(tmp_path / "out"), "--no-timing", "--workers", "1"]) == 2
    assert "give their frame rate, --frame-folder-fps FPS" in capsys.readouterr().err
    options = ["--no-timing", "--workers", "1", "--frame-folder-fps", "5", "--crf", "1"]
    assert main(["data", "prepare", str(source), str(tmp_path / "out"), *options]) == 0
    frames, metadata = decode_video(tmp_path / "out" / "a" / "a1.mp4")
    np.testing.assert_allclose(frames.float().mean(dim=(1, 2, 3)), 40 + 20 * np.arange(NUM_FRAMES), atol=2)
    np.testing.assert_allclose(metadata.timestamps, np.arange(NUM_FRAMES) / 5, atol=1e-3)
    # A list of rawframes finds the copies, also if it names a part of the frames.
    (tmp_path / "train.txt").write_text("a/a1 2 3 0\nb/b0 6 1\n")
    data = load(data=tmp_path / "train.txt", video_root=tmp_path / "out", validation_fraction=0.0)
    assert table(data, "train") == [("a/a1#frames=2,5", "0", "a1.mp4"), ("b/b0", "1", "b0.mp4")]
    part = decode_video(row_source(data.splits["train"][0], "video"))[0]
    np.testing.assert_allclose(part.float().mean(dim=(1, 2, 3)), [80, 100, 120], atol=2)
    add_clip(source / "a" / "file.mp4")
    assert main(["data", "prepare", str(source), str(tmp_path / "files"), "--no-timing", "--workers", "1"]) == 0
    assert "Left out: 8 folders of numbered pictures" in capsys.readouterr().out


def test_predict_reads_a_frame_folder_and_segments(tmp_path, capsys):
    model = save_model(tmp_path / "model")
    processor = TubeViTVideoProcessor(num_frames=8, sampling="fixed_rate", fps=5, **PIXELS)
    TubeViTProcessor(TubeViTImageProcessor(**PIXELS), processor).save_pretrained(model)
    folder, film = add_frames(tmp_path / "clips" / "v1"), add_clip(tmp_path / "clips" / "film.mp4")
    clips = [str(tmp_path / "clips"), f"{film}#t=0.2,0.6", f"{film}#t=0.6"]
    assert main(["predict", "--model", str(model), *clips, "--json", "--frame-folder-fps", "10"]) == 0
    out, err = capsys.readouterr()
    results = json.loads(out)
    assert [result["file"] for result in results] == [str(film), str(folder), *clips[1:]]
    assert {result["kind"] for result in results} == {"video"} and "1 folders of numbered pictures are read as" in err
    assert len({json.dumps(result["predictions"]) for result in results}) == 4
    assert main(["predict", "--model", str(model), str(folder), f"{film}#t=7,8"]) == 1
    out = capsys.readouterr().out
    assert "frame_folder_fps" in out and "the segment 7 to 8 s is outside of the video" in out


def test_names_with_a_fragment_are_segments():
    assert clip_source("a.mp4#t=,7") == {"path": "a.mp4", "end": 7.0} and clip_source("a#1.mp4") == "a#1.mp4"
    assert clip_source("a.mp4#frames=3") == {"path": "a.mp4", "start_frame": 3}
