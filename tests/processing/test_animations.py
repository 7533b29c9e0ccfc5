"""Animated WebP, PNG, AVIF and GIF are videos with all their frames; still pictures of the same formats are images."""

import io

import numpy as np
import pytest
from PIL import Image, features

from tubevit.processing import VideoDecodeError, decode_video
from tubevit.training.data.media_files import kind_of


LEVELS = [0, 60, 120, 180, 240]
FORMATS = [
    "webp",
    "png",
    "gif",
    pytest.param("avif", marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF")),
]


def animation(suffix: str, durations=100, **options) -> bytes:
    frames = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in LEVELS]
    buffer = io.BytesIO()
    frames[0].save(buffer, suffix, save_all=True, append_images=frames[1:], duration=durations, **options)
    return buffer.getvalue()


def still(suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, suffix)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_all_frames_of_an_animation_are_decoded(tmp_path, suffix, as_bytes):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(animation(suffix))
    frames, metadata = decode_video(path.read_bytes() if as_bytes else path)
    assert frames.shape == (5, 3, 48, 64) and (metadata.height, metadata.width) == (48, 64)
    assert frames.float().mean((1, 2, 3)).tolist() == pytest.approx(LEVELS, abs=3)
    assert metadata.fps == pytest.approx(10, rel=0.01) and metadata.duration == pytest.approx(0.5, rel=0.01)
    chosen, _ = decode_video(path, lambda metadata: [3, 1, 3], frame_transform=lambda frames: frames[..., :8, :8])
    assert chosen.float().mean((1, 2, 3)).tolist() == pytest.approx([180, 60, 180], abs=3)


def test_frames_of_a_webp_have_their_own_times():
    _, metadata = decode_video(animation("webp", [100, 300, 50, 50, 500]))
    assert metadata.timestamps.tolist() == pytest.approx([0, 0.1, 0.4, 0.45, 0.5]) and metadata.duration == 1.0


@pytest.mark.parametrize("suffix", FORMATS)
def test_kinds_of_animations_and_stills(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(
        animation(suffix, **({} if suffix == "gif" else {"icc_profile": b"x" * 1000}))
    )
    (tmp_path / f"b.{suffix}").write_bytes(still(suffix))
    assert kind_of(tmp_path / f"a.{suffix}") == "video"
    assert kind_of(tmp_path / f"b.{suffix}") == ("video" if suffix == "gif" else "image")


@pytest.mark.parametrize("size", [30, 100, -50])
def test_a_damaged_webp_animation_is_an_error(size):
    with pytest.raises(VideoDecodeError, match="bytes> ") as caught:
        decode_video(animation("webp")[:size])
    assert "\n" not in str(caught.value)
