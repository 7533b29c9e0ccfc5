"""Decoded frames are upright, with square pixels, in RGB by the color range of the stream."""

import av
import numpy as np
import pytest
import torch
from video_files import full_decode, moving_frames, write_video

from tubevit.processing.video_decoding import decode_video


FRAMES = moving_frames(40, 48, 64)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path, rotation):
    path = write_video(tmp_path / "rotated.mp4", FRAMES, rotation=rotation)
    frames, metadata = decode_video(path)
    # FFmpeg's angle is counterclockwise, as that of rot90.
    assert torch.equal(frames, torch.rot90(full_decode(path), rotation // 90, dims=(2, 3)))
    assert (metadata.height, metadata.width) == frames.shape[2:]


@pytest.mark.parametrize(
    ("matrix", "transform"),
    [
        ([-1, 0, 0, 0, 1, 0], lambda frames: frames.flip(3)),
        ([1, 0, 0, 0, -1, 0], lambda frames: frames.flip(2)),
        ([0, 1, 0, 1, 0, 0], lambda frames: frames.transpose(2, 3)),
        ([0, -1, 0, -1, 0, 0], lambda frames: frames.transpose(2, 3).flip(2, 3)),
    ],
)
def test_mirroring_is_applied(tmp_path, matrix, transform):
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    plain = full_decode(path)
    # The track header's matrix: 16.16 fixed point, the last of nine numbers in 2.30.
    unit = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0], ">i4") * 2**16 + np.array([0] * 8 + [2**30], ">i4")
    mirrored = np.array([*matrix, 0, 0, 0], ">i4") * 2**16 + np.array([0] * 8 + [2**30], ">i4")
    header, data = path.read_bytes().split(b"tkhd")
    data = data.replace(unit.astype(">i4").tobytes(), mirrored.astype(">i4").tobytes(), 1)
    frames, _ = decode_video(header + b"tkhd" + data)
    assert torch.equal(frames, transform(plain))


@pytest.mark.parametrize(("ratio", "width"), [("4/3", 85), ("3/4", 48), ("64/45", 91), ("1", 64), ("201/200", 64)])
def test_pixels_are_made_square(tmp_path, ratio, width):
    path = write_video(tmp_path / "clip.mp4", FRAMES[:5], sample_aspect_ratio=ratio)
    frames, metadata = decode_video(path)
    assert frames.shape == (5, 3, 48, width)
    assert (metadata.height, metadata.width) == (48, width)
    with av.open(str(path)) as container:
        expected = [frame.reformat(width=width, format="rgb24").to_ndarray() for frame in container.decode(video=0)]
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1), expected)


def test_sample_aspect_ratio_in_the_stream_only(tmp_path):
    path = write_video(tmp_path / "clip.mp4", FRAMES[:5], sample_aspect_ratio="4/3")
    data = path.read_bytes()
    assert b"pasp" in data
    assert decode_video(data.replace(b"pasp", b"free"))[0].shape == (5, 3, 48, 85)


def test_anamorphic_rotated_video_is_scaled_before_rotation(tmp_path):
    path = write_video(tmp_path / "clip.mp4", FRAMES[:2], sample_aspect_ratio="2", rotation=90)
    assert decode_video(path)[0].shape == (2, 3, 128, 48)


def write_gray(path, levels, color_range):
    """Write a lossless gray frame whose columns have these luma levels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = len(levels), 16, "yuv444p"
        stream.codec_context.color_range = color_range
        planes = np.full((3, 16, len(levels)), 128, np.uint8)
        planes[0] = levels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv444p")))
        container.mux(stream.encode(None))
    return path


def test_limited_and_full_color_range(tmp_path):
    limited, _ = decode_video(write_gray(tmp_path / "limited.mkv", [16, 235] * 8, color_range=1))
    full, _ = decode_video(write_gray(tmp_path / "full.mkv", [0, 255] * 8, color_range=2))
    for frames in (limited, full):
        assert (frames[..., 0::2].float() <= 1).all() and (frames[..., 1::2].float() >= 254).all()


def test_10_bit_is_8_bit_within_rounding(tmp_path):
    smooth = np.broadcast_to(np.linspace(20, 230, 64, dtype=np.uint8)[None, None, :, None], (5, 48, 64, 3))
    lossless = {"options": {"x264-params": "qp=0:log-level=none"}}
    eight, _ = decode_video(write_video(tmp_path / "8.mp4", smooth, **lossless))
    ten, _ = decode_video(write_video(tmp_path / "10.mp4", smooth, pix_fmt="yuv420p10le", **lossless))
    assert (eight.int() - ten.int()).abs().max() <= 3


def test_transparency_is_dropped_and_gray_becomes_equal_channels(tmp_path):
    alpha = np.concatenate([FRAMES, np.full_like(FRAMES[..., :1], 100)], axis=-1)
    frames, _ = decode_video(write_video(tmp_path / "alpha.mov", alpha, codec="png", pix_fmt="rgba"))
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1), FRAMES)
    gray, _ = decode_video(write_video(tmp_path / "gray.mkv", FRAMES, codec="ffv1", pix_fmt="gray"))
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])
