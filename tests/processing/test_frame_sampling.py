"""Laws and golden tables of frame sampling: which frames of a video make up its clips."""

import numpy as np
import pytest
from transformers.video_utils import VideoMetadata

from tubevit.processing import TubeViTVideoMetadata
from tubevit.processing.frame_sampling import (
    evenly_spaced_starts,
    fixed_rate_clips,
    frame_times,
    num_frames_at_rate,
    uniform_clips,
    video_end,
)


LENGTHS = [1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 100, 299, 300]


def clips_at(num_video_frames, video_fps, num_frames, fps, starts, pad_mode="loop"):
    times = np.arange(num_video_frames) / video_fps
    return fixed_rate_clips(times, video_end(times, video_fps), num_frames, fps, np.asarray(starts, float), pad_mode)


# Uniform sampling


@pytest.mark.parametrize(
    ("total", "num_frames", "num_clips", "expected"),
    [
        (10, 5, 1, [[1, 3, 5, 7, 9]]),
        (8, 8, 1, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (9, 4, 1, [[1, 3, 5, 7]]),
        (300, 4, 1, [[37, 112, 187, 262]]),
        (12, 3, 2, [[1, 5, 9], [3, 7, 11]]),
        (24, 4, 3, [[1, 7, 13, 19], [3, 9, 15, 21], [5, 11, 17, 23]]),
        (5, 3, 4, [[0, 1, 3], [0, 2, 3], [1, 2, 4], [1, 3, 4]]),
    ],
)
def test_uniform_golden_table(total, num_frames, num_clips, expected):
    assert uniform_clips(total, num_frames, num_clips).tolist() == expected


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("num_frames", [1, 8, 32])
@pytest.mark.parametrize("pad_mode", ["loop", "last"])
def test_uniform_indices_exist_and_ascend(total, num_frames, pad_mode):
    clips = uniform_clips(total, num_frames, 4, pad_mode)
    assert clips.shape == (4, num_frames)
    assert clips.min() >= 0 and clips.max() < total
    if total >= num_frames:
        assert (np.diff(clips) > 0).all()  # no frame twice in a clip that needs no padding


@pytest.mark.parametrize("total", [32, 33, 100, 300])
def test_uniform_takes_one_frame_of_each_segment_and_mirrors(total):
    num_frames = 8
    (clip,) = uniform_clips(total, num_frames)
    assert (np.floor(clip * num_frames / total) == np.arange(num_frames)).all()
    # The reversed video gives the same frames, up to the rounding of segment centers between two frames.
    assert np.abs((total - 1 - clip[::-1]) - clip).max() <= 1


@pytest.mark.parametrize("num_clips", [1, 2, 3, 4])
def test_uniform_clips_together_are_one_denser_clip(num_clips):
    clips = uniform_clips(300, 16, num_clips)
    assert sorted(clips.reshape(-1)) == uniform_clips(300, 16 * num_clips)[0].tolist()


def test_middle_clip_of_an_odd_number_equals_the_single_clip():
    assert (uniform_clips(299, 16, 3)[1] == uniform_clips(299, 16)[0]).all()


def test_random_offsets_stay_in_their_segments():
    num_frames, total = 8, 20
    for offsets in (np.zeros((1, 8)), np.full((1, 8), np.nextafter(1, 0)), np.random.default_rng(0).random((50, 8))):
        clips = uniform_clips(total, num_frames, offsets=offsets)
        assert clips.max() < total
        first, last = np.arange(8) * total // 8, (np.arange(8) + 1) * total / 8
        assert (clips >= first).all() and (clips <= last).all()


# Short videos


def test_short_videos_are_in_order_and_then_padded():
    assert uniform_clips(3, 8).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert uniform_clips(3, 8, pad_mode="last").tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]]
    assert clips_at(3, 10, 8, 10, [0]).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert clips_at(3, 10, 8, 10, [0], "last").tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]]


@pytest.mark.parametrize("pad_mode", ["loop", "last"])
def test_pad_mode_has_no_effect_on_long_videos(pad_mode):
    assert (uniform_clips(40, 32, 2, pad_mode) == uniform_clips(40, 32, 2, "error")).all()
    assert (clips_at(64, 30, 32, 15, [0], pad_mode) == clips_at(64, 30, 32, 15, [0], "error")).all()


def test_pad_mode_error_raises_one_line():
    with pytest.raises(ValueError, match="it has 3 frames and the clip 8") as caught:
        uniform_clips(3, 8, pad_mode="error")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"8 frames at 10 fps from 0\.000 s need 0\.700 s, it ends at 0\.300 s"):
        clips_at(3, 10, 8, 10, [0], "error")
    clips_at(3, 10, 3, 10, [0], "error")  # exactly enough


# Fixed rate


@pytest.mark.parametrize(
    ("num_video_frames", "video_fps", "num_frames", "fps", "start", "expected"),
    [
        (30, 30, 4, 15, 0.5, [15, 17, 19, 21]),
        (30, 30, 4, 30, 0.0, [0, 1, 2, 3]),
        (30, 30, 4, 60, 0.0, [0, 0, 1, 1]),
        (25, 25, 5, 10, 0.0, [0, 2, 5, 7, 10]),
        (300, 30000 / 1001, 5, 24, 1.0, [29, 31, 32, 33, 34]),
        (10, 10, 3, 1, 0.0, [0, 0, 0]),
        (30, 30, 5, 3, 0.5, [15, 25, 5, 15, 25]),
    ],
)
def test_fixed_rate_golden_table(num_video_frames, video_fps, num_frames, fps, start, expected):
    assert clips_at(num_video_frames, video_fps, num_frames, fps, [start])[0].tolist() == expected


@pytest.mark.parametrize("video_fps", [5, 23.976, 25, 29.97, 30, 50, 60, 120, 240])
@pytest.mark.parametrize("clock", [None, 1e-3, 1 / 90_000])
def test_native_rate_gives_every_frame_for_any_time_base(video_fps, clock):
    times = np.arange(200) / video_fps
    times = times if clock is None else np.round(times / clock) * clock
    clip = fixed_rate_clips(times, video_end(times, video_fps), 200, video_fps, np.zeros(1))
    assert (clip[0] == np.arange(200)).all()


def test_variable_rate_gives_the_visible_frame():
    times = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 3.0])  # two frames are visible for 0.8 and 1.9 seconds
    clip = fixed_rate_clips(times, video_end(times, 10), 8, 2, np.zeros(1), "last")
    assert clip[0].tolist() == [0, 2, 3, 4, 4, 4, 5, 5]


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("pad_mode", ["loop", "last"])
def test_fixed_rate_indices_exist(total, pad_mode):
    for video_fps, fps in ((30, 15), (12.5, 25), (24, 7.3)):
        end = total / video_fps
        starts = np.array([0.0, end / 3, np.nextafter(end, 0)])
        clips = clips_at(total, video_fps, 32, fps, starts, pad_mode)
        assert clips.shape == (3, 32)
        assert clips.min() >= 0 and clips.max() < total


@pytest.mark.parametrize("num_clips", [2, 3, 4, 10])
def test_temporal_views_span_the_video(num_clips):
    starts = evenly_spaced_starts(10.0, 32 / 25, num_clips)
    clips = clips_at(250, 25, 32, 25, starts, "error")
    assert clips[0, 0] == 0 and clips[-1, -1] == 249
    assert np.allclose(np.diff(starts), np.diff(starts)[0])


def test_middle_view_is_the_center_clip():
    assert evenly_spaced_starts(10.0, 4.0, 3)[1] == evenly_spaced_starts(10.0, 4.0, 1)[0] == 3.0
    assert evenly_spaced_starts(1.0, 4.0, 3).tolist() == [0, 0, 0]


# Metadata


def test_frame_times_come_from_the_file_or_from_the_rate():
    times = np.array([0.0, 0.5, 0.6])
    assert frame_times(TubeViTVideoMetadata(3, fps=5, timestamps=times)).tolist() == times.tolist()
    assert frame_times(VideoMetadata(3, fps=5, frames_indices=[2])).tolist() == [0, 0.2, 0.4]
    assert frame_times(VideoMetadata(3, duration=1.5)).tolist() == [0, 0.5, 1.0]
    with pytest.raises(ValueError, match="video_metadata="):
        frame_times(VideoMetadata(3))


def test_the_end_of_a_video_is_a_frame_time_after_its_last_frame():
    assert video_end(np.arange(30) / 30, 1) == pytest.approx(1.0)
    assert video_end(np.zeros(1), 25) == pytest.approx(0.04)


def test_num_frames_at_rate_equals_transformers():
    assert num_frames_at_rate(8, 4, 3) == 6
    assert num_frames_at_rate(2, 25, 1) == 1
