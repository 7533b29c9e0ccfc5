"""`decoder=torchcodec-...`: the clips are those of PyAV, and what torchcodec would show otherwise is left to PyAV."""

import os
import sys
from fractions import Fraction
from importlib.machinery import ModuleSpec
from io import BytesIO
from types import ModuleType, SimpleNamespace

import av
import datasets  # noqa: F401  (before the stand-in: it notes whether torchcodec is installed)
import numpy as np
import pytest
import torch
from tiny_runs import arguments, make_videos
from video_classifiers import save_tubevit
from video_files import moving_frames, write_video

from tubevit import TubeViTVideoProcessor
from tubevit.processing import decode_video, video_decoding
from tubevit.training.benchmarks import loader
from tubevit.training.cli import main
from tubevit.training.data.augmentation import AugmentationConfig
from tubevit.training.data.clip_sampling import MultiViewReader, RandomClipReader
from tubevit.training.data.torchcodec_decoding import (
    VARIABLE,
    TorchcodecDecoder,
    chosen_decoder,
    decoder_of,
    use_decoder,
    worker_start_method,
)


class StandIn:
    """The parts of torchcodec's `VideoDecoder` that we use, by PyAV."""

    shift, calls = 0.0, 0

    def __init__(self, source, *, device=None, num_ffmpeg_threads=1):
        if source == b"no video":
            raise ValueError("no video")
        self.source = source.removeprefix("file:") if isinstance(source, str) else source

    def get_frames_at(self, indices):
        type(self).calls += 1
        hook, video_decoding.other_decoder = video_decoding.other_decoder, None
        try:
            frames, _ = decode_video(self.source, lambda metadata: indices)
        finally:
            video_decoding.other_decoder = hook
        with av.open(BytesIO(self.source) if isinstance(self.source, bytes) else self.source) as container:
            times = sorted(float(each.pts * each.time_base) for each in container.decode(video=0))
        seconds = torch.tensor([times[index] for index in indices], dtype=torch.float64) + self.shift
        return SimpleNamespace(data=frames, pts_seconds=seconds)


@pytest.fixture(autouse=True)
def shown_messages():
    decoder_of.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    decoders = ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = type("VideoDecoder", (StandIn,), {"calls": 0})
    package = ModuleType("torchcodec")
    package.__spec__ = ModuleSpec("torchcodec", None)  # libraries look for it
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    return decoders.VideoDecoder


def can_load_torchcodec() -> bool:
    try:
        from torchcodec.decoders import VideoDecoder

        VideoDecoder(b"no video")
    except ImportError:
        return False
    except (RuntimeError, ValueError, OSError) as error:
        return "libtorchcodec" not in str(error)
    return True


@pytest.fixture(params=["stand-in", "real"])
def torchcodec(request):
    """torchcodec itself where it is installed, and in its place the stand-in."""
    if request.param == "stand-in":
        return request.getfixturevalue("stand_in")
    if not can_load_torchcodec():
        pytest.skip("needs torchcodec and FFmpeg")
    return None


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    write_video(path, moving_frames(40, 48, 64))
    return path


def test_clips_are_those_of_pyav(torchcodec, video):
    pixels = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    processor = TubeViTVideoProcessor(num_frames=8, sampling="fixed_rate", fps=10, num_temporal_views=2, **pixels)
    readers = [RandomClipReader(processor, AugmentationConfig(), mirror=True), MultiViewReader(processor)]
    sources = [{"path": str(video), "bytes": None}, {"path": None, "bytes": video.read_bytes()}]
    sources.append({**sources[0], "start": 0.4, "end": 1.2})
    for read in readers:
        for source in sources:
            expected = read(source, 3).pixels
            with use_decoder("torchcodec-cpu"):
                assert torch.equal(read(source, 3).pixels, expected)
    indices = [39, 0, 7, 7]
    frames, metadata = decode_video(str(video), lambda metadata: indices)
    with use_decoder("torchcodec-cpu"), chosen_decoder():
        again, same = decode_video(str(video), lambda metadata: indices)
    assert torch.equal(again, frames) and same == metadata and not decoder_of("cpu").told
    if torchcodec is not None:
        assert torchcodec.calls == 7


KINDS = {
    "its pixels are not square": {"sample_aspect_ratio": "3/2", "codec": "libx264", "pix_fmt": "yuv420p"},
    "its height is odd": {"size": (47, 64)},
    "its colors do not have 8 bits": {"pix_fmt": "yuv420p10le"},
}


@pytest.mark.parametrize(("reason", "kind"), KINDS.items())
def test_pyav_decodes_what_torchcodec_would_show_otherwise(reason, kind, stand_in, tmp_path):
    kind = {"codec": "ffv1", "pix_fmt": "yuv444p", "size": (48, 64), **kind}
    name = "a.mp4" if kind["codec"] == "libx264" else "a.mkv"  # the other codec takes any size and number of bits
    path = write_video(tmp_path / name, moving_frames(4, *kind.pop("size")), **kind)
    expected, _ = decode_video(str(path))
    with use_decoder("torchcodec-cpu"), chosen_decoder():
        for _ in range(2):
            assert torch.equal(decode_video(str(path))[0], expected)
    assert decoder_of("cpu").told == {reason} and stand_in.calls == 0


def test_frames_of_other_times_are_not_used(stand_in, video):
    expected, _ = decode_video(str(video))
    stand_in.shift = 0.04
    with use_decoder("torchcodec-cpu"), chosen_decoder():
        assert torch.equal(decode_video(str(video))[0], expected)
    assert decoder_of("cpu").told == {"torchcodec counts its frames otherwise"} and stand_in.calls == 1


@pytest.mark.parametrize(
    ("matrix", "is_used"),
    [
        ([0, 1, 0, -1, 0, 0, 0, 0, 1], True),  # rotated by 90 degrees
        ([-1, 0, 0, 0, -1, 0, 0, 0, 1], True),  # by 180
        ([1, 0, 0, 0, -1, 0, 0, 0, 1], False),  # upside down in a mirror, for which torchcodec states no rotation
        ([0, 1, 0, 1, 0, 0, 0, 0, 1], False),  # mirrored along the diagonal
    ],
)
def test_mirrored_videos_are_left_to_pyav(matrix, is_used, monkeypatch):
    side_data = {"DISPLAYMATRIX": (np.array(matrix, np.int32) << 16).tobytes()}
    components = [SimpleNamespace(bits=8)]
    first = SimpleNamespace(width=64, height=48, side_data=side_data, format=SimpleNamespace(components=components))
    index = SimpleNamespace(headers=[SimpleNamespace(pts=0)], frame_packets=[0], time_base=Fraction(1, 10))
    decoder = TorchcodecDecoder("cpu")
    frames = SimpleNamespace(data=torch.zeros(1, 3, 64, 48, dtype=torch.uint8), pts_seconds=torch.zeros(1))
    monkeypatch.setattr(decoder, "_decode", lambda file, indices: frames)
    assert (decoder("file", index, first, None, np.array([0]), None) is not None) == is_used


def test_what_cannot_be_used_is_refused_in_one_line(stand_in, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"), use_decoder("torchcodec-cuda"):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="a forked worker cannot use CUDA"), use_decoder("torchcodec-cuda", 2):
        pass
    assert worker_start_method(2) is None
    with use_decoder("torchcodec-cuda", 2, "spawn"):
        assert (worker_start_method(2), worker_start_method(0)) == ("spawn", None)
        with chosen_decoder():
            assert video_decoding.other_decoder.device == "cuda"
        with use_decoder("av"), chosen_decoder():
            assert video_decoding.other_decoder is None
        assert os.environ[VARIABLE] == "torchcodec-cuda"  # which spawned workers inherit
        assert video_decoding.other_decoder is None
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(ImportError, match="pip install torchcodec"), use_decoder("torchcodec-cpu"):
        pass
    with use_decoder("av"):
        pass
    assert VARIABLE not in os.environ


def test_commands_use_it(stand_in, tmp_path, capsys):
    videos = make_videos(tmp_path / "videos", 4, 2)
    given = arguments(videos, tmp_path / "run", decoder="torchcodec-cpu")
    assert main(["train", "--dry_run", *given]) == 0
    assert "torchcodec-cpu; PyAV for videos that it would show otherwise" in capsys.readouterr().out
    calls = stand_in.calls
    assert calls > 0
    save_tubevit(tmp_path / "model")
    clip = next((videos / "val").rglob("*.mp4"))
    printed = []
    for decoder in ("av", "torchcodec-cpu"):
        assert main(["predict", str(tmp_path / "model"), str(clip), "--json", "--decoder", decoder]) == 0
        printed.append(capsys.readouterr().out)
        assert (stand_in.calls > calls) == (decoder != "av")
    assert printed[0] == printed[1]


def test_eval_and_bench_use_it(stand_in, tmp_path, monkeypatch, capsys):
    videos, calls = make_videos(tmp_path / "videos", 1, 1), {}
    save_tubevit(tmp_path / "model", ["blue", "green", "red"])
    given = [f"model_name_or_path={tmp_path / 'model'}", f"data={videos}", "use_cpu=true", "num_temporal_views=1"]
    for decoder in ("av", "torchcodec-cpu"):
        stand_in.calls = 0
        assert (
            main(["eval", *given, "num_spatial_views=1", f"output_dir={tmp_path / decoder}", "--decoder", decoder])
            == 0
        )
        calls[decoder] = stand_in.calls
    assert calls == {"av": 0, "torchcodec-cpu": 3}
    predictions = [(tmp_path / decoder / "predictions.csv").read_text() for decoder in calls]
    assert predictions[0] == predictions[1]
    clip = next((videos / "val").rglob("*.mp4"))
    monkeypatch.setattr(loader, "CLIPS_PER_ROUND", 1)
    waiting = {"preset": "tiny", "batch_size": 1, "num_workers": 1, "steps": 1, "original": 0.5, "prepared": 0.5}
    monkeypatch.setattr(loader, "measure_waiting", lambda *_: waiting)  # it trains a model
    small = ["--num-frames", "20", "--rounds", "1", "--device", "cpu"]
    assert main(["bench", *small, "--loader", str(clip), "--decoder", "torchcodec-cpu"]) == 0
    assert "Decoder: torchcodec-cpu" in capsys.readouterr().out and stand_in.calls > 3
