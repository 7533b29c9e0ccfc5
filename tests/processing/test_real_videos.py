"""The decoder on real files in `shared/`, which only the machines of the project have; skipped elsewhere."""

import csv
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from video_files import some_selections

from tubevit.processing.video_decoding import VideoDecodeError, decode_video, probe_video


def shown_frames(path) -> torch.Tensor:
    """Every frame decoded by PyAV, rotated and scaled to square pixels."""
    frames = []
    with av.open(str(path)) as container:
        ratio = container.streams.video[0].sample_aspect_ratio or 1
        for frame in container.decode(video=0):
            width = frame.width if abs(ratio - 1) < 0.01 else int(frame.width * ratio + Fraction(1, 2))
            picture = frame.reformat(width=width, height=frame.height, format="rgb24").to_ndarray()
            frames.append(np.rot90(picture, frame.rotation // 90))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def manifest(folder) -> dict[str, dict[str, str]]:
    with open(folder / "MANIFEST.csv", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_real_clips_match_their_manifests(shared_data):
    for folder in ("decode_cases", "smoke", "finetune"):
        rows = manifest(shared_data / folder)
        for name in list(rows)[:: 10 if folder == "finetune" else 1]:
            row = rows[name]
            if row["decode_status"] != "ok":
                continue
            metadata = probe_video(shared_data / folder / name)
            is_rotated = row["rotation"] in ("90", "270")
            assert metadata.total_num_frames == int(row["frames"]), name
            assert (metadata.width if is_rotated else metadata.height) == int(row["height"]), name
            if folder != "finetune":  # this manifest also counts frames that are missing in the files
                assert metadata.fps == pytest.approx(float(row["fps"]), rel=1e-3), name
                assert metadata.duration == pytest.approx(float(row["duration_s"] or metadata.duration), abs=0.12), (
                    name
                )


@pytest.mark.parametrize(
    "name",
    [
        "decode_cases/av1.mp4",
        "decode_cases/bframe_pyramid_anamorphic.mp4",
        "decode_cases/hevc_10bit_hdr.mp4",
        "decode_cases/odd_321x241_vp9.mp4",
        "decode_cases/rotate90_h264.mp4",
        "decode_cases/short_1frame.mp4",
        "decode_cases/start_10s_anamorphic.mp4",
        "decode_cases/vfr_no_duration_vp9.webm",
        "smoke/abseiling.mp4",
        "smoke/flipping_pancake.mkv",
        "smoke/ssv2_closing_something.webm",
        "smoke/v_BaseballPitch_g01_c01.avi",
        "finetune/train/kicking/13_13_2.avi",
        "finetune/train/kicking/1_1_2.avi",
        "finetune/val/pointing/21_14_3.avi",
    ],
)
def test_real_frames_equal_a_plain_full_decode(shared_data, name):
    expected = shown_frames(shared_data / name)
    for selection in some_selections(len(expected), seed=0, count=3):
        frames, _ = decode_video(shared_data / name, lambda metadata, chosen=selection: chosen)
        assert torch.equal(frames, expected[selection]), selection


def test_the_corrupt_and_the_silent_file(shared_data):
    path = shared_data / "decode_cases" / "corrupt_28of50_h264.mp4"
    with pytest.raises(VideoDecodeError, match="after 28 of 50 frames"):
        decode_video(path)
    assert len(decode_video(path, allow_partial=True)[0]) == 28
    with pytest.raises(VideoDecodeError, match="no video stream"):
        decode_video(shared_data / "decode_cases" / "audio_only.mp4")


def test_damaged_cases(shared_data):
    """FFmpeg flags all of these files but `mjpeg_exif.avi`, whose frames have side data that PyAV does not name."""
    for path in sorted((shared_data / "damaged_cases").iterdir()):
        if path.name == "mjpeg_exif.avi":
            assert len(decode_video(path)[0]) == 10
            continue
        for num_threads in (1, 4):
            with pytest.raises(VideoDecodeError, match="is damaged"):
                decode_video(path, num_threads=num_threads)
