"""The clip of a row is its time segment, in every annotation format and for every reader of rows."""

import json

import datasets
import numpy as np
import pytest
from dataset_files import add_table, error_of, load
from video_files import write_video

from tubevit.processing import TubeViTVideoProcessor, decode_video
from tubevit.training.data.augmentation import AugmentationConfig
from tubevit.training.data.check_data import check_videos
from tubevit.training.data.clip_datasets import ClipDataset
from tubevit.training.data.clip_sampling import MultiViewReader, RandomClipReader
from tubevit.training.data.dataset_columns import row_source
from tubevit.training.data.prepare import PrepareSettings, prepare_video
from tubevit.training.data.segments import Segment, SegmentColumns
from tubevit.training.data.video_datasets import DataConfig, adapt_datasets


RATE, NUM_FRAMES, STEP = 10, 40, 5


def write_film(path, num_frames=NUM_FRAMES):
    """Frame `i` has the gray level `20 + 5 i`, so that pixels tell which frames were read."""
    levels = (20 + STEP * np.arange(num_frames)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.broadcast_to(levels[:, None, None, None], (num_frames, 32, 40, 3))
    return write_video(path, frames, fps=RATE, gop=8, options={"crf": "1"})


def frames_of(pixels) -> set[int]:
    """The frames of a film that a clip shows."""
    return set(((pixels.float().mean(dim=(-1, -2, -3)).flatten() - 20) / STEP).round().int().tolist())


def segments_of(data, split="train") -> dict:
    """Video id to the first frame and the index after the last frame that a row reads."""
    found = {}
    for row in data.splits[split]:
        frames = sorted(frames_of(decode_video(row_source(row, "video"))[0]))
        assert frames == list(range(frames[0], frames[-1] + 1))
        found[row["video_id"]] = (frames[0], frames[-1] + 1)
    return found


SPELLINGS = [
    "start,end",
    "start_time,end_time",
    "time_start,time_end",
    "start_sec,end_sec",
    "startSec,endSec",
    "begin,end",
    "t_start,t_end",
    "start_seconds,end_seconds",
    "Start (s),End (s)",
    "onset,offset",
    "from,to",
    "starttime,stoptime",
    "segment_start,segment_end",
    "startTimeSec,endTimeSec",
    "Begin Time,Stop Time",
]


@pytest.mark.parametrize("columns", SPELLINGS)
def test_every_spelling_of_seconds_is_read(columns):
    start, end = columns.split(",")
    found = SegmentColumns.find(["path", start, end, "label"], ["path", "label"])
    assert found.read({start: "0.5", end: "1.5"}, "x") == Segment(0.5, 1.5) and found.unused == ()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"start_ms": "500", "end_ms": "1500"}, Segment(0.5, 1.5)),
        ({"start_frame": "5", "end_frame": "15"}, Segment(start_frame=5, end_frame=15)),
        ({"start_frame": "5", "end_frame": "15", "fps": "10"}, Segment(0.5, 1.5)),
        ({"start": "0.5", "duration": "1"}, Segment(0.5, 1.5)),
        ({"offset": "0.5", "duration": "1"}, Segment(0.5, 1.5)),
        ({"onset": "0.5", "duration": "1"}, Segment(0.5, 1.5)),
        ({"start": "0.5", "end": "1.5", "duration": "4"}, Segment(0.5, 1.5)),
        ({"start_timestamp": "00:01:00.50", "stop_timestamp": "1:01.5"}, Segment(60.5, 61.5)),
        ({"start": "2", "end": ""}, Segment(2.0)),
        ({"start": "", "end": "nan"}, None),
        ({"start": "3"}, Segment(3.0)),
        ({"duration": "4", "timestamp": "1", "num_frames": "9", "to": "x"}, None),
    ],
)
def test_units_and_partial_segments(cells, expected):
    found = SegmentColumns.find(list(cells))
    assert (found.read(cells, "x") if found else None) == expected


def test_columns_that_look_like_times_and_are_not_used_are_named():
    assert SegmentColumns.find(["timestamp", "recording_time", "first_name", "total"]).unused == (
        "timestamp",
        "recording_time",
    )
    assert SegmentColumns.find(["start", "end", "start_frame", "end_frame"]).unused == ("start_frame", "end_frame")
    with pytest.raises(ValueError, match="start_time and begin could each be the start"):
        SegmentColumns.find(["start_time", "begin", "end"])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_two_rows_of_one_film_are_two_clips_everywhere(tmp_path, suffix):
    film = write_film(tmp_path / "film.mp4")
    rows = [
        {"path": "film.mp4", "start": 0.5, "end": 1.5, "label": "run"},
        {"path": "film.mp4", "start": 2.0, "end": 3.0, "label": "jump"},
        {"path": "film.mp4", "start": None, "end": None, "label": "jump"},
    ]
    file = tmp_path / f"clips.{suffix}"
    if suffix == "csv":
        add_table(file, rows)
    elif suffix == "jsonl":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        datasets.Dataset.from_list(rows).to_parquet(file)
    data = load(data=file, data_format="csv", validation_fraction=0.0)
    expected = {"film.mp4#t=0.5,1.5": (5, 15), "film.mp4#t=2,3": (20, 30), "film.mp4": (0, NUM_FRAMES)}
    assert segments_of(data) == expected
    assert "The clip of a row is a segment of its video: start and end (seconds)." in data.messages
    corrupt, seconds = check_videos(data, num_workers=1)
    assert not corrupt and seconds == pytest.approx(1 + 1 + 4)
    processor = TubeViTVideoProcessor(
        sampling="fixed_rate", fps=RATE, num_frames=4, size={"shortest_edge": 16}, crop_size=16, num_temporal_views=3
    )
    train = ClipDataset(data.splits["train"], RandomClipReader(processor, AugmentationConfig(), mirror=False), 2)
    views = ClipDataset(data.splits["train"], MultiViewReader(processor), 2)
    for index, (first, last) in enumerate(expected.values()):
        seen = set()
        for epoch in range(12):
            seen |= frames_of(train.read_row(index, epoch)["pixel_values_videos"])
        assert seen <= set(range(first, last)) and len(seen) > 4
        clips = views[index]["pixel_values_videos"]
        assert frames_of(clips[0]) == set(range(first, first + 4)) and frames_of(clips[2]) == set(
            range(last - 4, last)
        )
    # A prepared copy holds every segment, because it keeps all frames and their times.
    (tmp_path / "copies").mkdir()
    prepare_video(film, tmp_path / "copies" / "film.mp4", PrepareSettings(crf=1))
    copies = load(data=file, data_format="csv", validation_fraction=0.0, video_root=tmp_path / "copies")
    assert "copies" in copies.splits["train"][0]["video"]["path"] and segments_of(copies) == expected


def test_a_segment_outside_of_the_video_is_an_error_of_its_row(tmp_path):
    write_film(tmp_path / "film.mp4")
    rows = [{"path": "film.mp4", "start": start, "end": end, "label": "a"} for start, end in ((0, 1), (3, 9), (7, 8))]
    data = load(data=add_table(tmp_path / "a.csv", rows), validation_fraction=0.0)
    corrupt, _ = check_videos(data, num_workers=1)
    assert [video.video_id for video in corrupt] == ["film.mp4#t=3,9", "film.mp4#t=7,8"]
    assert all(
        "lasts 4.000 s; the segment" in video.reason and "is outside of the video" in video.reason for video in corrupt
    )
    read = RandomClipReader(TubeViTVideoProcessor(num_frames=2, crop_size=16), AugmentationConfig(), mirror=False)
    clips = ClipDataset(data.splits["train"], read, 1, max_corrupt_fraction=1.0)
    assert [bool(clips[index]["is_corrupt"]) for index in range(3)] == [False, True, True] and clips.num_corrupt == 2


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"start": "2024-05-01 10:00", "end": "1"}, "line 2: start is '2024-05-01 10:00', not a time"),
        ({"start": "-1", "end": "1"}, "start is '-1', not a time of at least 0"),
        ({"start": "2", "end": "1.5"}, "line 2: the segment 2 to 1.5 ends before it starts"),
        ({"start_frame": "1.5", "end_frame": "9"}, "not a whole number of frames"),
        ({"start_frame": "1", "end_frame": "9", "fps": "0"}, "not a frame rate above 0"),
    ],
)
def test_times_that_cannot_be_read_raise_with_their_line(tmp_path, cells, message):
    assert message in error_of(data=add_table(tmp_path / "a.csv", [{"path": "a.mp4", "label": "x", **cells}]))


def test_frame_segments_are_frames_of_the_file(tmp_path):
    write_film(tmp_path / "film.mp4")
    rows = [{"path": "film.mp4", "start_frame": 12, "end_frame": 14, "label": "a"}]
    data = load(data=add_table(tmp_path / "a.csv", rows), validation_fraction=0.0)
    assert segments_of(data) == {"film.mp4#frames=12,14": (12, 14)}


def test_segments_of_a_data_set_opened_by_datasets(tmp_path):
    film = write_film(tmp_path / "film.mp4")
    columns = {
        "video": [{"path": str(film), "bytes": None}, {"path": "film.mp4", "bytes": film.read_bytes()}],
        "start_time": [0.5, None],
        "end_time": [1.5, 2.0],
        "fps": [10, 10],
        "label": ["run", "jump"],
        "timestamp": [0, 0],
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("video", datasets.Video(decode=False))
    for dataset in (rows, rows.to_iterable_dataset()):
        data = adapt_datasets({"train": dataset}, DataConfig(data="x", validation_fraction=0.0), ["jump", "run"])
        assert segments_of(data) == {"train/000000#t=0.5,1.5": (5, 15), "train/000001#t=0,2": (0, 20)}
        assert "Columns that look like times and are not used: timestamp." in data.messages


def test_segments_in_the_json_objects_of_a_data_set(tmp_path):
    film = write_film(tmp_path / "film.mp4")
    columns = {
        "video": [{"path": str(film), "bytes": None}] * 2,
        "json": [{"label": "run", "start": 0.5, "end": 1.5}, {"label": "jump", "start": 2.0, "end": 3.0}],
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("video", datasets.Video(decode=False))
    data = adapt_datasets({"train": rows}, DataConfig(data="x", validation_fraction=0.0))
    assert list(segments_of(data).values()) == [(5, 15), (20, 30)]


def test_segments_beside_class_folders_are_read(tmp_path):
    for name in ("run", "jump"):
        write_film(tmp_path / name / f"{name}_film.mp4")
    rows = [{"path": f"{name}/{name}_film.mp4", "start": 1, "end": 2, "label": name} for name in ("run", "jump")]
    add_table(tmp_path / "annotations.csv", rows)
    data = load(data=tmp_path, validation_fraction=0.0)
    assert sorted(segments_of(data).values()) == [(10, 20)] * 2


KINETICS = [
    {"label": "run", "youtube_id": "-a_b", "time_start": 1, "time_end": 3, "split": "train"},
    {"label": "run", "youtube_id": "film", "time_start": 0, "time_end": 1, "split": "train"},
    {"label": "jump", "youtube_id": "film", "time_start": 2, "time_end": 4, "split": "train"},
    {"label": "jump", "youtube_id": "cut", "time_start": 30, "time_end": 34, "split": "train"},
    {"label": "jump", "youtube_id": "whole", "time_start": 1, "time_end": 2, "split": "train"},
]


def test_official_kinetics_columns_over_films_and_over_clips(tmp_path):
    write_film(tmp_path / "clips" / "-a_b_000001_000003.mp4", 20)
    for name in ("film", "cut", "whole"):
        write_film(tmp_path / "clips" / f"{name}.mp4")
    file = add_table(tmp_path / "train.csv", KINETICS)
    data = load(train_data=file, video_root=tmp_path / "clips", num_classes=2, validation_fraction=0.0)
    assert segments_of(data) == {
        "-a_b_000001_000003": (0, 20),  # cut already
        "film_000000_000001": (0, 10),
        "film_000002_000004": (20, 40),
        "cut_000030_000034": (0, 40),  # the file is as short as the segment
        "whole_000001_000002": (10, 20),
    }
    assert any(message.startswith("4 of 5 clips have a file without times in its name") for message in data.messages)


def test_a_file_with_several_listed_segments_is_a_film(tmp_path):
    write_film(tmp_path / "film.mp4")
    rows = [{**KINETICS[3], "youtube_id": "film", "time_start": start, "time_end": start + 4} for start in (30, 50)]
    data = load(train_data=add_table(tmp_path / "a.csv", rows), num_classes=1, validation_fraction=0.0)
    corrupt, _ = check_videos(data, num_workers=1)
    assert [video.video_id for video in corrupt] == ["film_000030_000034", "film_000050_000054"]


def test_a_segment_of_a_remote_file(tmp_path):
    import fsspec

    with fsspec.open("memory://films/film.mp4", "wb") as file:
        file.write(write_film(tmp_path / "film.mp4").read_bytes())
    rows = [{"path": "memory://films/film.mp4", "start": 1, "end": 2, "label": "a"}]
    data = load(data=add_table(tmp_path / "a.csv", rows), validation_fraction=0.0)
    read = MultiViewReader(TubeViTVideoProcessor(num_frames=10, size={"shortest_edge": 16}, crop_size=16))
    clip = ClipDataset(data.splits["train"], read, 1)[0]
    assert frames_of(clip["pixel_values_videos"]) == set(range(10, 20)) and not clip["is_corrupt"]


def test_a_table_with_times_over_files_that_are_named_after_them(tmp_path):
    write_film(tmp_path / "x_000005_000009.mp4")
    rows = [{"path": "x_000005_000009.mp4", "label": "run", "time_start": 5, "time_end": 9}]
    data = load(data=add_table(tmp_path / "a.csv", rows), validation_fraction=0.0)
    assert segments_of(data) == {"x_000005_000009.mp4": (0, NUM_FRAMES)}
    assert any("they are cut already and read whole" in message for message in data.messages)
