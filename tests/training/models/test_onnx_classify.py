"""
The script beside an ONNX file: it samples, resizes and crops as the processors of all families, and gives the probabilities of `tubevit
predict` in a process that can import neither torch nor Transformers.
"""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from exported_graphs import make_graph_once
from video_classifiers import OWN, PEERS, SIZES, save_own, save_peer, save_tubevit
from video_files import add_exif, moving_frames, write_audio, write_video

from tubevit.processing.video_decoding import TubeViTVideoMetadata
from tubevit.training.cli import main
from tubevit.training.models import onnx_files
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.models.onnx_clips import describe_clips


PACKAGES = ("onnx", "onnxscript", "onnxruntime")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)), reason="needs the extra onnx: " + ", ".join(PACKAGES)
)
RATE = {"sampling": "fixed_rate", "fps": 12}


def save(folder, name, **processor):
    if name == "tubevit":
        save_tubevit(folder, processor=processor)
    elif name in OWN:
        save_own(folder, name)
        OWN[name][2](**{"num_frames": 4, **SIZES, **processor}).save_pretrained(folder)
    else:
        save_peer(folder, name)
    return folder


def load(folder, **views):
    from tubevit.training.models import onnx_classify

    classifier = load_video_classifier(str(folder), views)
    return onnx_classify, classifier.processor, json.loads(json.dumps(describe_clips(classifier, "m")))


SAMPLINGS = [
    *((name, {}) for name in ("tubevit", *OWN, *PEERS)),
    ("tubevit", {"pad_mode": "last"}),
    ("tubevit", {**RATE, "fps": 7.5}),
    ("tubevit", {**RATE, "fps": 20, "pad_mode": "last"}),
    ("factorized_vivit", {"frame_stride": 3, "pad_mode": "last"}),
]


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(("name", "settings"), SAMPLINGS)
def test_frames_are_those_of_the_processor(name, settings, views, tmp_path):
    script, processor, clip = load(save(tmp_path, name, **settings), num_temporal_views=views)
    rng = np.random.default_rng(0)
    videos = [np.cumsum(rng.choice([1 / 30, 0.04, 0.1], total)) for total in range(5, 75)]  # a variable frame rate
    for times in [*(each - each[0] for each in videos), np.zeros(1), np.arange(29_997) * 1001 / 30_000]:
        metadata = TubeViTVideoMetadata(total_num_frames=len(times), fps=25.0, timestamps=times)
        assert script.sample(times, clip).ravel().tolist() == processor.sample_frames(metadata).tolist(), len(times)


def test_short_videos_and_a_late_start_are_refused_as_by_the_processor(tmp_path):
    for settings in ({}, RATE):
        script, _, clip = load(save(tmp_path / str(len(settings)), "tubevit", pad_mode="error", **settings))
        assert script.sample(np.arange(8) / 12, clip).tolist() == [list(range(8))]
        with pytest.raises(ValueError, match=r"than a clip|a clip needs 8"):
            script.sample(np.arange(7) / 12, clip)
    script, _, clip = load(save(tmp_path / "start", "tubevit", clip_start=2.0, **RATE))
    with pytest.raises(ValueError, match="shorter"):
        script.sample(np.arange(12) / 12, clip)


PIXELS = [
    *((name, {}) for name in ("tubevit", *OWN, "videomae", "videoprism")),
    ("tubevit", {"resample": 3}),
    ("tubevit", {"size": {"height": 18, "width": 30}}),
    ("tubevit", {"do_resize": False}),
    ("uniformerv2", {"do_flip_channel_order": True}),
]


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(("name", "settings"), PIXELS)
def test_pixels_are_those_of_the_processor(name, settings, views, tmp_path):
    """To the last bit where the processor resizes integers."""
    if name == "videoprism" and views > 1:
        pytest.skip("its processor does not crop")
    script, processor, clip = load(save(tmp_path, name, **settings), num_spatial_views=views)
    rng = np.random.default_rng(0)
    for size in [(37, 61), (64, 40), (20, 20), (15, 27), (11, 9), (9, 50)]:
        frame = rng.integers(0, 256, (*size, 3), np.uint8)
        reading = {"do_sample_frames": False, "do_rescale": True, "rescale_factor": 1.0, "do_normalize": False}
        theirs = processor(frame[None], return_tensors="pt", **reading).pixel_values_videos.numpy()
        ours = script.crops(frame, clip)
        np.testing.assert_allclose(ours, theirs.reshape(ours.shape), atol=0 if clip["antialias"] else 1e-3)


BLOCKED = """
import json, runpy, sys
for name in ("torch", "torchvision", "transformers", "tubevit", "PIL"):
    sys.modules[name] = None
script, *files = sys.argv[1:]
module = runpy.run_path(script)
session = module["onnxruntime"].InferenceSession(script.replace("classify.py", "model.onnx"))
print(json.dumps([module["classify"](session, file) for file in files]))
sys.argv[1:] = [files[0], "sound.m4a", "no.mp4"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    print(f"ended with {end.code}")
"""


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tubevit", {"num_temporal_views": 2, "num_spatial_views": 3, **RATE}),
        ("uniformerv2", {}),  # normalized floats
    ],
)
def test_probabilities_are_those_of_predict_without_torch(name, settings, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onnx_files, "_make_graph", make_graph_once)
    frames = moving_frames(20, 48, 64)
    times = np.cumsum(np.random.default_rng(0).choice([0.02, 0.05, 0.11], 20))
    files = [
        write_video(tmp_path / "plain.mp4", frames, b_frames=2),
        write_video(tmp_path / "turned.mp4", frames, rotation=90),
        write_video(tmp_path / "variable.mkv", frames, times=times, start=3.0, audio=True),
        write_video(tmp_path / "wide pixels.mp4", frames, sample_aspect_ratio="4/3"),
        write_video(tmp_path / "odd.webm", moving_frames(30, 47, 61), codec="libvpx-vp9", fps="30000/1001"),
        write_video(tmp_path / "short.avi", frames[:5], codec="mpeg4"),
        add_exif(
            write_video(tmp_path / "plain.avi", frames, codec="mjpeg", pix_fmt="yuvj420p"), tmp_path / "exif.avi"
        ),
    ]
    save(tmp_path / "model", name, **settings)
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "model"), str(out), "--format", "onnx"]) == 0
    assert f"python {out / 'classify.py'} CLIP" in capsys.readouterr().out
    assert main(["predict", "--model", str(tmp_path / "model"), "--json", "--top-k", "9", *map(str, files)]) == 0
    expected = json.loads(capsys.readouterr().out)
    command = [sys.executable, "-c", BLOCKED, str(out / "classify.py"), *map(str, files)]
    write_audio(tmp_path / "sound.m4a")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    errors = ["sound.m4a: the file has no video stream", "no.mp4: No such file or directory"]
    assert done.stderr.splitlines() == errors, done.stderr
    found, *printed = done.stdout.splitlines()
    assert printed[-1] == "ended with 1" and printed[0] == str(files[0])
    best = expected[0]["predictions"][0]
    assert printed[1] == f"  {100 * best['score']:6.2f} %  {best['label']}"
    for theirs, (ours,) in zip(expected, json.loads(found), strict=True):
        scores = {each["label"]: each["score"] for each in theirs["predictions"]}
        assert dict(ours) == pytest.approx(scores, abs=1e-5), theirs["file"]
        assert [label for label, _ in ours] == list(scores)


def test_the_script_names_files_that_it_cannot_use(tmp_path):
    import onnx

    script, path = load(save(tmp_path / "model", "tubevit"))[0], tmp_path / "model.onnx"
    pixels, copied = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "copy", [pixels], [copied])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(SystemExit, match="was not written with this script"):
        script.load(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(SystemExit, match=r"cannot be loaded: .*model\.onnx"):
        script.load(path)
