"""
The web page of `tubevit export --format web`: its files, and its frames, which are those of the processors. `clips.js` runs in Node, and the
page in a headless Chromium, where they are installed.
"""

import base64
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from chromium import ISOLATED, Page, find_chromium, serve
from exported_graphs import make_graph_once
from saved_models import save_model
from video_classifiers import CLASSES, OWN, PEERS, SIZES, save_own, save_peer, save_tubevit
from video_files import moving_frames, write_video

from tubevit import TubeViTForImageClassification
from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor
from tubevit.processing.video_decoding import TubeViTVideoMetadata
from tubevit.training.cli import main
from tubevit.training.models import onnx_files
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.models.onnx_clips import clip_shape, drawn_clips
from tubevit.training.models.onnx_files import export_onnx
from tubevit.training.web import npm_packages, web_page
from tubevit.training.web.web_page import PAGE, page_settings


ARCHIVES = Path(os.environ["NPM_ARCHIVES"])  # where the command keeps them
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="needs the extra onnx"
)
needs_browser = pytest.mark.skipif(
    find_chromium() is None or not all((ARCHIVES / each.archive).is_file() for each in npm_packages.PACKAGES),
    reason="needs Chromium, and the npm packages that `tubevit export --format web` keeps in its cache",
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node: it runs clips.js")
ONE_VIEW = {"num_temporal_views": 1, "num_spatial_views": 1}


def save(folder, name, **processor):
    if name == "tubevit":
        save_tubevit(folder, processor=processor)
    elif name in OWN:
        save_own(folder, name)
    else:
        save_peer(folder, name)
    if processor and name in OWN:
        OWN[name][2](num_frames=4, **{**SIZES, **processor}).save_pretrained(folder)
    return load_video_classifier(str(folder), {})


def run_node(code, **values):
    """The value that JavaScript code returns. values: JSON, by name; `clips` is the module clips.js."""
    program = f"""
    import * as clips from {(PAGE / "clips.js").as_uri()!r};
    import {{ readFileSync }} from "node:fs";
    const {{ {", ".join(values)} }} = JSON.parse(readFileSync(0, "utf-8"));
    console.log(JSON.stringify((() => {{ {code} }})()));
    """
    command = ["node", "--no-warnings", "--input-type=module", "-e", program]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# (family, settings of the processor)
SAMPLINGS = [
    *((name, {}) for name in ("tubevit", *OWN, *PEERS)),
    ("tubevit", {"pad_mode": "last"}),
    ("tubevit", {"sampling": "fixed_rate", "fps": 7.5}),
    ("tubevit", {"sampling": "fixed_rate", "fps": 20, "pad_mode": "last", "clip_start": 0.03}),
    ("factorized_vivit", {"frame_stride": 3, "pad_mode": "last"}),
]


@needs_node
@pytest.mark.parametrize(("name", "processor"), SAMPLINGS)
def test_the_page_samples_the_frames_of_the_processor(name, processor, tmp_path):
    classifier = save(tmp_path, name, **processor)
    rng, videos = np.random.default_rng(0), []
    for total in range(5, 75):
        times = np.cumsum(rng.choice([1 / 30, 0.04, 0.1], total))  # a variable frame rate
        videos.append((times - times[0]).tolist())
    videos += [[0.0], [0.0, 0.5], (np.arange(29_997) * 1001 / 30_000).tolist()]
    expected = [
        classifier.processor.sample_frames(
            TubeViTVideoMetadata(total_num_frames=len(times), fps=25.0, timestamps=np.array(times)),
            num_temporal_views=1,
        ).tolist()
        for times in videos
    ]
    settings = page_settings(classifier, "m")
    assert (
        run_node("return videos.map((times) => clips.sampleFrames(times, settings))", videos=videos, settings=settings)
        == expected
    )


@needs_node
@pytest.mark.parametrize("sampling", [{}, {"sampling": "fixed_rate", "fps": 10}])
def test_a_short_video_is_refused_as_by_the_processor(sampling, tmp_path):
    settings = page_settings(save(tmp_path, "tubevit", pad_mode="error", **sampling), "m")
    code = """
    return [8, 7].map((total) => {
      const times = Array.from({ length: total }, (_, index) => index / 10);
      try { return clips.sampleFrames(times, settings).length } catch (error) { return error.message }
    });
    """
    enough, short = run_node(code, settings=settings)
    assert enough == 8 and short.startswith("The video is too short: ")


PIXELS = [
    *((name, {}) for name in ("tubevit", *OWN, *PEERS)),
    ("tubevit", {"resample": 3}),
    ("tubevit", {"size": {"height": 18, "width": 30}}),
    ("tubevit", {"do_resize": False}),
    ("uniformerv2", {"do_flip_channel_order": True}),
]


@needs_node
@pytest.mark.parametrize(("name", "processor"), PIXELS)
def test_the_page_resizes_and_crops_as_the_processor(name, processor, tmp_path):
    """To the last bit where the processor resizes integers. UniFormerV2's floats are rounded."""
    classifier = save(tmp_path, name, **processor)
    settings, rng = page_settings(classifier, "m"), np.random.default_rng(0)
    frames = [
        rng.integers(0, 256, size, np.uint8)
        for size in [(37, 61, 3), (64, 40, 3), (20, 20, 3), (15, 27, 3), (11, 9, 3)]
    ]
    alpha = [np.concatenate([frame, np.full((*frame.shape[:2], 1), 255, np.uint8)], axis=-1) for frame in frames]
    pictures = [{"shape": frame.shape[:2], "pixels": frame.ravel().tolist()} for frame in alpha]
    code = """
    return pictures.map(({ shape: [height, width], pixels }) => Array.from(clips.prepareFrame(pixels, height, width, settings)));
    """
    found = run_node(code, pictures=pictures, settings=settings)
    for frame, ours in zip(frames, found, strict=True):
        reading = {"do_sample_frames": False, "do_rescale": False, "do_normalize": False}
        theirs = classifier.processor(frame[None], return_tensors="pt", **reading, **ONE_VIEW).pixel_values_videos[
            0, 0
        ]
        assert np.array_equal(ours, theirs.numpy().ravel()), np.abs(np.array(ours) - theirs.numpy().ravel()).max()


@needs_node
@pytest.mark.parametrize(("matrix", "colorspace"), [("smpte170m", 5), ("bt709", 1)])
def test_the_page_converts_colors_as_ffmpeg(matrix, colorspace):
    """The same bytes on x86; other machines have code of FFmpeg that rounds the sum of the terms instead of each."""
    planes = np.random.default_rng(0).integers(0, 256, (36, 32), np.uint8)  # 24 rows of luma, then the chroma
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.colorspace = colorspace
    expected = frame.to_ndarray(format="rgb24").astype(int)
    data = b"".join(bytes(plane)[: plane.line_size * plane.height] for plane in frame.planes)
    strides = [plane.line_size for plane in frame.planes]
    offsets = np.cumsum([0, *(plane.line_size * plane.height for plane in frame.planes)])[:3].tolist()
    layout = [{"offset": offset, "stride": stride} for offset, stride in zip(offsets, strides, strict=True)]
    code = "return Array.from(clips.convertI420(data, layout, 24, 32, matrix))"
    found = np.array(run_node(code, data=list(data), layout=layout, matrix=matrix)).reshape(24, 32, 4)
    difference = np.abs(found[..., :3] - expected)
    assert difference.max() <= 3 and difference.mean() < 1.5 and (found[..., 3] == 255).all()


@pytest.mark.parametrize("name", ["tubevit", *OWN, *PEERS])
def test_weights_are_compared_on_clips_as_the_page_gives_them(name, tmp_path):
    classifier = save(tmp_path, name)
    clips = drawn_clips(classifier, 24)
    assert clips.dtype == torch.uint8 and clips.shape == (24, *clip_shape(classifier))
    assert clips.float().std(dim=0).mean() > 1  # they differ


@pytest.fixture
def fake_packages(tmp_path, monkeypatch):
    """A folder of archives that have the names, but not the content, of the npm packages."""
    folder, packages = tmp_path / "npm", []
    folder.mkdir()
    for package in npm_packages.PACKAGES:
        with tarfile.open(folder / package.archive, "w:gz") as archive:
            for name in package.files:
                content = json.dumps({"license": "MIT"}).encode()
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        digest = hashlib.sha512((folder / package.archive).read_bytes()).digest()
        packages.append(package._replace(integrity="sha512-" + base64.b64encode(digest).decode()))
    monkeypatch.setattr(npm_packages, "PACKAGES", tuple(packages))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A tiny classifier in model/, and in onnx/ its ONNX file, which the tests below do not export again."""
    folder = tmp_path_factory.mktemp("exported")
    save(folder / "model", "tubevit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_files, "_make_graph", make_graph_once)
        export_onnx(str(folder / "model"), folder / "onnx", "uint8")
        patch.setattr(
            web_page,
            "export_onnx",
            lambda name, target, dtype, for_program: shutil.copytree(folder / "onnx", target) and [],
        )
        yield folder


def export(folder, out, *options):
    return main(["export", "--format", "web", str(folder / "model"), str(out), *map(str, options)])


@needs_onnx
def test_the_folder_has_every_file_that_the_page_names(exported, tmp_path, capsys, fake_packages, monkeypatch):
    out = tmp_path / "out"
    assert export(exported, out, "--npm-packages", fake_packages) == 0
    printed = capsys.readouterr().out
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in out.iterdir()
        if path.suffix in (".html", ".js", ".css")
    }
    assert set(texts) == {"index.html", "page.js", "clips.js", "style.css"}
    named = re.findall(r'(?:src|href)="([^":]+)"', texts["index.html"])
    named += re.findall(r'"(\./[^"]+)"', texts["page.js"]) + re.findall(r'fetchFile\("([^"]+)"\)', texts["page.js"])
    assert len(named) >= 8 and all((out / name).exists() for name in named)
    assert "://" not in re.sub(
        r"http://localhost:8000|<code>file://</code>", "", "".join(texts.values())
    )  # no other host
    settings = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert (
        settings["labels"] == CLASSES and settings["weights"] == "int8" and "24 of 24 synthetic clips keep" in printed
    )
    assert settings["model_bytes"] == (out / "model.onnx").stat().st_size

    shutil.rmtree(out)
    monkeypatch.setattr(web_page, "quantize_weights", lambda folder: wrong_labels(folder, tmp_path))
    assert export(exported, out, "--npm-packages", fake_packages) == 0
    settings = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert settings["weights"] == "float32" and "with int8 weights only 0 of 24" in capsys.readouterr().out


def wrong_labels(exported, folder):
    """The folder of an ONNX file whose best class is the worst one of an exported file."""
    import onnx
    from onnx import helper

    target = shutil.copytree(exported, folder / "wrong")
    model = onnx.load(target / "model.onnx")
    for node in model.graph.node:
        node.output[:] = ["right" if name == "logits" else name for name in node.output]
    model.graph.node.append(helper.make_node("Neg", ["right"], ["logits"]))
    onnx.save(model, target / "model.onnx")
    return target


@needs_onnx
def test_missing_and_wrong_packages_are_errors_of_one_line(exported, tmp_path, capsys, fake_packages, monkeypatch):
    archive = fake_packages / npm_packages.PACKAGES[1].archive

    def error(*options):
        assert export(exported, tmp_path / "out", *options) != 0 and not (tmp_path / "out").exists()
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        return line

    archive.write_bytes(archive.read_bytes() + b"x")
    assert "is not mediabunny 1.61.0: its checksum is" in error("--npm-packages", fake_packages)
    archive.unlink()
    assert f"There is no {archive}: run `npm pack onnxruntime-web@" in error("--npm-packages", fake_packages)
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(npm_packages.shutil, "which", lambda name: None)
    assert "npm is not installed to fetch it" in error()
    failing = subprocess.CompletedProcess([], 1, "", "npm error network\n")
    monkeypatch.setattr(npm_packages.shutil, "which", lambda name: name)
    monkeypatch.setattr(npm_packages.subprocess, "run", lambda *arguments, **options: failing)
    assert "`npm pack` cannot fetch it (npm error network)" in error()


def test_classifiers_that_the_page_cannot_run_are_refused(tmp_path, capsys):
    def error(name, *options):
        command = ["export", "--format", "web", str(tmp_path / name), str(tmp_path / "out"), *options]
        assert main(command) != 0 and not (tmp_path / "out").exists()
        return capsys.readouterr().err

    save_model(tmp_path / "image", TubeViTForImageClassification)
    TubeViTImageProcessor(size={"height": 16, "width": 16}, crop_size=16).save_pretrained(tmp_path / "image")
    assert "image classifies images, not videos" in error("image")
    save_tubevit(tmp_path / "gray", num_channels=1, image_mean=[0.5], image_std=[0.5])
    gray = {"do_convert_rgb": False, "image_mean": [0.5], "image_std": [0.5]}
    TubeViTVideoProcessor(num_frames=8, **SIZES, **gray).save_pretrained(tmp_path / "gray")
    assert "takes frames of 1 channels, not of 3 (RGB)" in error("gray")
    save_tubevit(tmp_path / "long", processor={"size": {"shortest_edge": 20, "longest_edge": 40}})
    assert "has size={'longest_edge': 40, 'shortest_edge': 20}: set shortest_edge, or height and width" in error(
        "long"
    )
    save_tubevit(tmp_path / "random", processor={"clip_start": "random"})
    assert "has clip_start='random': set clip_start='center'" in error("random")
    save_tubevit(tmp_path / "model")
    assert "--input is for ONNX files: give --format onnx too" in error("model", "--input", "uint8")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out"), "--npm-packages", "a"]) != 0
    assert "--npm-packages is for web pages: give --format web too" in capsys.readouterr().err


@pytest.fixture(scope="module")
def site(exported):
    """The folder of `exported` with the page in out/."""
    assert export(exported, exported / "out", "--npm-packages", ARCHIVES) == 0
    return exported


def open_page(page, url):
    page.open(url)
    page.wait("!document.getElementById('file').disabled || !document.getElementById('error').hidden")
    assert page.evaluate("document.getElementById('error').textContent") == ""


def classify(page, path):
    """The sentence of the page about a file."""
    page.evaluate("document.getElementById('status').textContent = ''")
    page.choose("#file", path)
    return page.wait(
        f"(document.getElementById('status').textContent.startsWith({path.name + ': '!r}) && 'ok') || "
        "(!document.getElementById('error').hidden && document.getElementById('error').textContent)"
    )


RIGHTMOST = (
    """Math.max(...[...document.body.querySelectorAll("*")].map((each) => each.getBoundingClientRect().right))"""
)
READ = """(async () => {
  const page = await import("./page.js");
  const { frames } = await page.readClip(document.getElementById("file").files[0]);
  return { frames: frames.map((frame) => Array.from(frame)), logits: Array.from(await page.classify(frames)) };
})()"""


@needs_onnx
@needs_browser
def test_the_page_classifies_files_as_torch_and_explains_wrong_ones(site, tmp_path, capsys):
    classifier, videos = load_video_classifier(str(site / "model"), {}), []
    for index, (name, codec) in enumerate(
        [("a.webm", "libvpx-vp9"), ("b.mkv", "libvpx"), ("short.webm", "libvpx-vp9")]
    ):
        videos.append(write_video(tmp_path / name, moving_frames(5 if index == 2 else 21, 48, 60, index), codec=codec))
    rotated = write_video(tmp_path / "rotated.mp4", moving_frames(12, 48, 60), rotation=90, b_frames=2)
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "half.mp4").write_bytes(rotated.read_bytes()[: rotated.stat().st_size // 2])
    write_video(tmp_path / "old.mp4", moving_frames(9, 48, 60), codec="mpeg4")
    with serve(site / "out") as url:
        page = Page(tmp_path / "profile")
        try:
            open_page(page, url)
            runtime = page.evaluate("document.getElementById('runtime').textContent")
            assert "int8 weights" in runtime and "1 thread, because the server does not isolate the page" in runtime
            if page.evaluate(
                "(async () => (await VideoDecoder.isConfigSupported({codec: 'avc1.42001e'})).supported)()"
            ):
                videos.append(rotated)
            for path in videos:
                assert classify(page, path) == "ok"
                found = page.evaluate(READ)
                clip = torch.tensor(found["frames"], dtype=torch.uint8).reshape(8, 3, 16, 16)
                reading = {"do_rescale": False, "do_normalize": False}
                expected = classifier.processor(str(path), return_tensors="pt", **reading).pixel_values_videos[0]
                difference = (clip.float() - expected.float()).abs()
                assert difference.max() <= 3 and difference.mean() < 1.5  # 0 on x86
                logits = classifier(clip[None])[0]
                torch.testing.assert_close(torch.tensor(found["logits"]), logits, atol=0.02, rtol=0.02)  # int8 weights
                caption = page.evaluate("document.getElementById('caption').textContent")
                assert ("; 3 of the 8 frames of the clip are repeats." in caption) == (path.name == "short.webm")
                label = page.evaluate("document.querySelector('#labels li .label').textContent")
                assert label == CLASSES[int(torch.tensor(found["logits"]).argmax())]
            for name, reason in {
                "text.mp4": "is not a video that this page can read",
                "empty.mp4": "is empty",
                "half.mp4": "damaged or cut off",
                "old.mp4": "cannot decode the video in old.mp4 (codec mp4v)",
            }.items():
                assert reason in classify(page, tmp_path / name)
                assert page.evaluate("document.getElementById('result').hidden")
            assert classify(page, videos[0]) == "ok"  # after an error
            for width in (1000, 360):
                page.screenshot(tmp_path / "page.png", width=width)
                # Not window.innerWidth: Chromium widens the page of a phone to what it holds.
                assert page.evaluate(RIGHTMOST) <= width
            hosts = {re.match(r"\w+:(//[^/]+)?", each)[0] for each in page.urls()}
            assert hosts <= {url.rstrip("/"), "data:", f"blob:{url}".rstrip("/"), "blob:"}
        finally:
            page.close()


@needs_onnx
@needs_browser
def test_camera_and_threads(site, tmp_path):
    with serve(site / "out", ISOLATED) as url:
        page = Page(tmp_path / "profile", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        try:
            open_page(page, url)
            assert re.search(
                r"WebAssembly, \d threads", page.evaluate("document.getElementById('runtime').textContent")
            )
            page.evaluate("document.getElementById('seconds').value = 0.4; document.getElementById('camera').click()")
            status = page.wait(
                "document.getElementById('status').textContent.startsWith('Camera: ') && document.getElementById('status').textContent"
            )
            assert status.removeprefix("Camera: ").rstrip(".") in CLASSES
            assert page.evaluate("document.querySelectorAll('#labels li').length") == len(CLASSES)
            page.evaluate("document.getElementById('camera').click()")
            assert page.evaluate("document.getElementById('status').textContent") == "The camera is off."
        finally:
            page.close()
