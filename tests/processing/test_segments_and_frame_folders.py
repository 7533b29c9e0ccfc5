"""A time segment and a folder of frames give the frames, the times and the errors of a video that consists of them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import full_decode, moving_frames, write_video

from tubevit.processing import TubeViTVideoProcessor, VideoDecodeError, decode_video


RATE = 10


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """4 s at 10 frames per second."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", moving_frames(40), fps=RATE, gop=8, b_frames=2)


def write_frames(folder, frames, numbers=None, name="img_{:05d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in zip(numbers or range(1, len(frames) + 1), frames, strict=True):
        Image.fromarray(frame).save(folder / name.format(number))
    return folder


@pytest.mark.parametrize(
    ("segment", "first", "last"),
    [
        ({"start": 1.0, "end": 2.0}, 10, 20),
        ({"start": 1.04, "end": 2.0}, 10, 20),  # the frame that is visible at the start
        ({"end": 0.5}, 0, 5),
        ({"start": 3.5}, 35, 40),
        ({"start": 1.0, "end": 1.001}, 10, 11),  # at least one frame
        ({"start": 3.0, "end": 4.1}, 30, 40),  # a rounded end
        ({"start_frame": 7, "end_frame": 9}, 7, 9),
        ({"start_frame": 38}, 38, 40),
        ({"start": 7, "end": 11, "may_be_cut": True}, 0, 40),  # the file is as long as the segment: it is cut already
        ({"start": 1, "end": 3, "may_be_cut": True}, 10, 30),  # the file is longer than `end`: it is the whole film
        ({"start": 0, "end": 10, "may_be_cut": True}, 0, 40),
    ],
)
def test_a_segment_is_a_video_of_its_frames(film, segment, first, last):
    for source in ({"path": str(film)}, {"path": str(film), "bytes": film.read_bytes()}):
        frames, metadata = decode_video({**source, **segment})
        torch.testing.assert_close(frames, full_decode(film)[first:last], rtol=0, atol=0)
        assert metadata.total_num_frames == last - first and metadata.frames_indices == list(range(last - first))
        np.testing.assert_allclose(metadata.timestamps, np.arange(last - first) / RATE, atol=1e-6)
        assert metadata.duration == pytest.approx((last - first) / RATE) and (metadata.height, metadata.width) == (
            48,
            64,
        )


@pytest.mark.parametrize("settings", [{"sampling": "fixed_rate", "fps": 5}, {"num_temporal_views": 2}])
@pytest.mark.parametrize("clip_start", ["center", "random"])
def test_the_processor_samples_a_segment_as_its_own_video(film, settings, clip_start):
    processor = TubeViTVideoProcessor(num_frames=4, size={"shortest_edge": 32}, crop_size=32, **settings)

    def pixels(video, **metadata):
        torch.manual_seed(3)
        kwargs = {"do_rescale": False, "do_normalize": False, "clip_start": clip_start, **metadata}
        return processor(video, return_tensors="pt", **kwargs).pixel_values_videos

    alone = full_decode(film)[12:31]
    found = pixels({"path": str(film), "start": 1.2, "end": 3.1})
    torch.testing.assert_close(found, pixels(alone, video_metadata={"fps": RATE}), rtol=0, atol=0)


def test_a_segment_of_a_variable_rate_has_the_times_of_the_film(tmp_path):
    times = np.cumsum([0.0] + [0.04] * 10 + [0.2] * 10)
    film = write_video(tmp_path / "a.mkv", moving_frames(21), times=times)
    _, metadata = decode_video({"path": film, "start": 0.6, "end": 1.4})
    np.testing.assert_allclose(metadata.timestamps, times[11:15] - times[11], atol=1e-3)
    assert metadata.fps == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"start": 4.0, "end": 5.0}, "lasts 4.000 s; the segment 4 to 5 s is outside of the video"),
        ({"start": 3.0, "end": 4.5}, "3 to 4.5 s is outside"),
        ({"start": 20}, "20 to the end s is outside"),
        ({"start": 20, "end": 30, "may_be_cut": False}, "outside"),
        ({"start_frame": 30, "end_frame": 41}, "has 40 frames; the segment frames 30 to 41 is outside of the video"),
        ({"start_frame": 40}, "outside"),
        ({"start": 2, "end": 2}, "ends before it starts"),
        ({"start": -1, "end": 2}, "at least 0"),
        ({"start": float("nan")}, "finite"),
        ({"start": "3"}, "a number"),
        ({"start_frame": 1.5}, "an integer"),
        ({"start": 1, "end_frame": 3}, "not both"),
    ],
)
def test_a_segment_outside_of_the_video_raises(film, segment, message):
    with pytest.raises(ValueError, match=message) as caught:
        decode_video({"path": film, **segment})
    assert "\n" not in str(caught.value)


def test_indices_outside_of_a_segment_raise(film):
    with pytest.raises(VideoDecodeError, match="0 to 9, the frames of the segment 1 to 2 s"):
        decode_video({"path": film, "start": 1, "end": 2}, lambda metadata: [10])


def test_a_frame_folder_is_a_video(film, tmp_path):
    frames = moving_frames(25)
    folder = write_frames(tmp_path / "v", frames, range(98, 123), "img_{}.png")  # numeric, not alphabetical order
    (tmp_path / "v" / "notes.txt").write_text("x")
    Image.new("RGB", (5, 5)).save(folder / "cover.png")
    for name in ("flow_x_98", "flow_x_99", "flow_y_98", "flow_y_99"):
        Image.new("L", (64, 48)).save(folder / f"{name}.png")
    expected = torch.from_numpy(frames).permute(0, 3, 1, 2)
    decoded, metadata = decode_video({"path": str(folder), "fps": RATE})
    torch.testing.assert_close(decoded, expected, rtol=0, atol=0)
    assert (metadata.total_num_frames, metadata.fps, metadata.duration) == (25, RATE, 2.5)
    torch.testing.assert_close(decode_video(folder, lambda metadata: [3, 1, 3])[0], expected[[3, 1, 3]])
    processor = TubeViTVideoProcessor(
        num_frames=4, sampling="fixed_rate", fps=5, size={"shortest_edge": 32}, crop_size=32
    )
    found = processor({"path": str(folder), "fps": RATE, "start": 0.5, "end": 2}, return_tensors="pt")
    same = processor(expected[5:20], video_metadata={"fps": RATE}, return_tensors="pt")
    torch.testing.assert_close(found.pixel_values_videos, same.pixel_values_videos, rtol=0, atol=0)
    given = [processor(video, video_metadata={"fps": RATE}) for video in (str(folder), {"path": str(folder)})]
    whole = processor({"path": str(folder), "fps": RATE})
    assert all(torch.equal(each.pixel_values_videos[0], whole.pixel_values_videos[0]) for each in given)
    with pytest.raises(ValueError, match="frame_folder_fps"):
        processor(str(folder))
    with pytest.raises(ValueError, match="frame_folder_fps"):
        decode_video({"path": folder, "start": 1})


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "1"])
def test_frames_of_every_kind_of_pixels(tmp_path, mode):
    levels = np.linspace(0, 255, 48, dtype=np.uint8).reshape(6, 8)
    levels = np.where(levels > 100, 255, 0).astype(np.uint8) if mode == "1" else levels
    picture = (
        Image.fromarray(levels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(levels).convert(mode)
    )
    picture.save(tmp_path / "1.png")
    frame = decode_video(tmp_path)[0][0]
    assert (frame == torch.from_numpy(levels)).all() and frame.shape == (3, 6, 8)


def test_frames_keep_their_times_across_a_gap_and_a_stride(tmp_path):
    frames = moving_frames(5)
    gap = write_frames(tmp_path / "gap", frames, [1, 2, 3, 7, 8])
    np.testing.assert_allclose(decode_video({"path": gap, "fps": 10})[1].timestamps, [0, 0.1, 0.2, 0.6, 0.7])
    stride = write_frames(tmp_path / "stride", frames, [0, 5, 10, 15, 20])
    np.testing.assert_allclose(decode_video({"path": stride, "fps": 10})[1].timestamps, np.arange(5) / 10)


def test_frame_folders_that_are_no_video_raise(tmp_path):
    folder = write_frames(tmp_path / "v", moving_frames(3))
    Image.new("RGB", (64, 50)).save(folder / "img_00002.png")
    with pytest.raises(VideoDecodeError, match="one size, got 64x48 and 64x50"):
        decode_video(folder)
    whole = (folder / "img_00001.png").read_bytes()
    (folder / "img_00002.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoDecodeError, match=r"img_00002\.png cannot be read as a frame"):
        decode_video(folder)
    shutil.copy(folder / "img_00001.png", folder / "img_1.png")
    with pytest.raises(VideoDecodeError, match="two pictures for one frame"):
        decode_video(folder)
    (folder / "img_1.png").rename(folder / "depth_1.png")
    shutil.copy(folder / "depth_1.png", folder / "depth_2.png")
    with pytest.raises(VideoDecodeError, match="several series"):
        decode_video(folder)
    with pytest.raises(ValueError, match="fps of a frame folder"):
        decode_video({"path": write_frames(tmp_path / "w", moving_frames(2)), "fps": 0})
