"""ONNX files: classifiers of all families compute in onnxruntime what they compute in torch, from raw and from normalized pixels."""

import contextlib
import functools
import importlib.util
import io
import json
import re

import numpy as np
import pytest
import torch
from exported_graphs import make_graph_once
from saved_models import LABELS, save_model
from tiny_models import make_model, tiny_clips
from video_classifiers import OWN, PEERS, save_own, save_peer, save_tubevit
from video_files import moving_frames, write_video

from tubevit import TubeViTForImageClassification, TubeViTForVideoClassification
from tubevit.processing import TubeViTImageProcessor, TubeViTVideoProcessor
from tubevit.training.cli import main
from tubevit.training.models import onnx_files
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.models.onnx_files import load_onnx_classifier
from tubevit.training.models.onnx_frames import ClipTokens, any_num_frames, fixed_frames_reason, least_num_frames


PACKAGES = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)), reason="needs the extra onnx: " + ", ".join(PACKAGES)
)
# (checkpoint, options of export)
CASES = [
    *((name, ()) for name in ("tubevit", *OWN, *PEERS)),
    *((name, ("--input", "float32")) for name in ("tubevit", "factorized_vivit", "vivit")),
    ("uniformerv2", ("--input", "uint8")),
    ("uniformerv2", ("--dtype", "float16")),
]


def save(folder, name):
    if name == "tubevit":
        save_tubevit(folder)
    else:
        (save_own if name in OWN else save_peer)(folder, name)


@pytest.fixture(autouse=True)
def one_export_per_graph(monkeypatch):
    monkeypatch.setattr(onnx_files, "_make_graph", make_graph_once)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function that exports a checkpoint once for all tests. It returns the folder with `model` and `out`, and what was printed."""

    @functools.cache
    def export(name: str, *options: str):
        folder = tmp_path_factory.mktemp(name)
        save(folder / "model", name)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(["export", str(folder / "model"), str(folder / "out"), "--format", "onnx", *options]) == 0
        return folder, printed.getvalue()

    return export


def predictions(capsys, model, clip, *options):
    capsys.readouterr()
    assert main(["predict", "--model", str(model), str(clip), "--json", *options]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    return {each["label"]: each["score"] for each in entry["predictions"]}


@needs_onnx
@pytest.mark.parametrize(("name", "options"), CASES)
def test_onnxruntime_equals_torch_for_any_batch(name, options, exported):
    folder, printed = exported(name, *options)
    difference = float(re.search(r"largest difference .* is (\S+) \(largest logit", printed)[1])
    assert difference < (0.01 if "float16" in options else 1e-5 if name != "vjepa2" else 1e-4)
    ours, theirs = (
        load_onnx_classifier(folder / "out" / "model.onnx", {}),
        load_video_classifier(str(folder / "model"), {}),
    )
    frames = theirs.processor.num_frames
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if "float16" not in options else {"rtol": 0.02, "atol": 0.02}
    has_any_frames = name == "tubevit"
    assert ("Clips may have" in printed, "The number of frames is fixed: " in printed) == (
        has_any_frames,
        not has_any_frames,
    )
    for batch, num_frames in ((1, frames), (3, frames + 5 * has_any_frames)):
        clips = tiny_clips(batch, num_frames, dtype=torch.uint8, seed=batch)
        torch.testing.assert_close(ours(clips), theirs(clips), **tolerance)


ROPE = {"position_embedding": "transfer", "rope_theta": 100.0, "hidden_size": 32}
TUBE = {"kernel_size": [2, 8, 8], "stride": [2, 8, 8]}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, None),
        ({"position_embedding": "none", "pooling": "mean", "num_register_tokens": 2}, None),
        ({"position_embedding": "learned"}, "do not depend on the number of frames"),
        ({"position_embedding": "relative"}, "do not depend on the number of frames"),
        ({"position_embedding": "fixed_without_stride"}, "do not depend on the number of frames"),
        (ROPE, "without rotary positions"),
        ({"use_frame_differences": True}, "use_frame_differences=True needs"),
        ({"tubes": [{**TUBE, "space_to_depth": [1, 2, 2]}]}, "space_to_depth merges"),
        ({"allow_missing_tubes": True}, "allow_missing_tubes=True"),
        ({"pooling": "grid", "pooling_grid": [2, 1, 1]}, "the cells of pooling='grid'"),
    ],
)
def test_tokens_of_any_number_of_frames_are_those_of_the_model(config, reason):
    model = make_model(TubeViTForVideoClassification, **config)
    found = fixed_frames_reason(model)
    assert (found is None) == (reason is None) and (reason is None or reason in found)
    if reason is not None:
        return
    with torch.inference_mode():
        for frames in (least_num_frames(model), 8, 21):
            clips = {"pixel_values_videos": tiny_clips(2, frames, dtype=torch.uint8)}
            expected = model(**clips).logits
            with any_num_frames(model):
                found = model(**clips).logits
                assert type(model.get_input_embeddings()) is ClipTokens
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            assert type(model.get_input_embeddings()) is not ClipTokens


@needs_onnx
@pytest.mark.parametrize(
    ("name", "options"), [("tubevit", ()), ("tubevit", ("--input", "float32")), ("uniformerv2", ())]
)
def test_predictions_of_the_file_are_those_of_the_checkpoint(name, options, exported, tmp_path, capsys):
    clip, views = tmp_path / "a.mp4", ("--temporal-views", "2", "--spatial-views", "3")
    write_video(clip, moving_frames(12, 32, 40))
    folder, _ = exported(name, *options)
    for chosen in ((), views):
        expected = predictions(capsys, folder / "model", clip, *chosen)
        for model in (folder / "out", folder / "out" / "model.onnx"):
            found = predictions(capsys, model, clip, *chosen)
            assert found == pytest.approx(expected, abs=1e-5) and list(found) == list(expected)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"")
    assert main(["predict", "--model", str(folder / "out"), str(picture)]) == 2
    assert "classifies videos, and images were given" in capsys.readouterr().err
    assert main(["predict", "--model", str(folder / "out"), str(clip), "--dtype", "float16"]) == 2
    assert "--dtype float16 has no effect" in capsys.readouterr().err


@needs_onnx
def test_predictions_run_in_the_chosen_provider(exported, tmp_path, capsys, monkeypatch):
    import onnxruntime

    clip = tmp_path / "a.mp4"
    write_video(clip, moving_frames(12, 32, 40))
    folder, _ = exported("tubevit")
    openvino, expected = ("--provider", "openvino"), predictions(capsys, folder / "out", clip)
    if "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers():
        assert main(["predict", "--model", str(folder / "out"), str(clip), *openvino]) == 2
        assert re.search(
            r"--provider openvino: .*has no OpenVINOExecutionProvider, only .*onnxruntime-openvino",
            capsys.readouterr().err,
        )
    assert main(["predict", "--model", str(folder / "model"), str(clip), *openvino]) == 2
    assert "--provider openvino has no effect on" in capsys.readouterr().err
    asked, session = [], onnxruntime.InferenceSession

    def run_on_cpu(path, providers, claims_them=True, **options):
        asked.extend(providers)
        created = session(path, providers=["CPUExecutionProvider"])
        created.get_providers = lambda: providers if claims_them else ["CPUExecutionProvider"]
        return created

    monkeypatch.setattr(onnxruntime, "InferenceSession", run_on_cpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["OpenVINOExecutionProvider"])
    assert predictions(capsys, folder / "out", clip, *openvino) == expected
    assert asked == ["OpenVINOExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", functools.partial(run_on_cpu, claims_them=False))
    assert main(["predict", "--model", str(folder / "out"), str(clip), *openvino]) == 2
    message = "onnxruntime could not start OpenVINOExecutionProvider and would run"
    assert f"--provider openvino: {message}" in capsys.readouterr().err
    for provider, words in (("openvino", message), ("cuda", "use cpu or openvino")):
        with pytest.raises(ValueError, match=f"^provider='{provider}': {words}") as caught:
            load_onnx_classifier(folder / "out" / "model.onnx", {}, provider)
        assert "--" not in str(caught.value)


@pytest.mark.parametrize("weights", [None, "model-00001-of-00002.safetensors", "pytorch_model.bin"])
def test_an_earlier_export_is_removed_as_one_set(weights, tmp_path):
    settings = {"config.json", "preprocessor_config.json"}
    own = {"notes.txt", "model.onnx.bak", *({weights, *settings} if weights else ())}
    for name in {*own, *settings, "model.onnx.data"}:
        (tmp_path / name).write_text("")
    (tmp_path / "model.onnx").symlink_to("notes.txt")
    (tmp_path / "classify.py").write_bytes(onnx_files.SCRIPT.read_bytes() + b"# of an earlier release")
    onnx_files.remove_export(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == own
    (tmp_path / "classify.py").write_text("print('mine')")
    onnx_files.remove_export(tmp_path)
    assert (tmp_path / "classify.py").exists()


@needs_onnx
def test_the_config_of_another_checkpoint_is_not_replaced(tmp_path):
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(FileExistsError, match="holds another checkpoint, whose config would be replaced"):
        onnx_files.export_onnx("some/model", tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_failed_export_leaves_an_empty_folder_empty(tmp_path, monkeypatch, capsys):
    def fail(name, folder, *options):
        (folder / "model.onnx").write_text("half")
        (folder / "more").mkdir()
        raise OSError("the disk is full")

    monkeypatch.setattr(onnx_files, "export_onnx", fail)
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    assert main(["export", "model", str(tmp_path / "link"), "--format", "onnx"]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert (tmp_path / "link").is_symlink() and not any((tmp_path / "out").iterdir())


@needs_onnx
def test_image_classifier_and_metadata(tmp_path, capsys):
    import onnxruntime
    from PIL import Image

    save_model(tmp_path / "model", TubeViTForImageClassification)
    TubeViTImageProcessor(size={"height": 16, "width": 16}, crop_size=16).save_pretrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    for name, content in (("classify.py", onnx_files.SCRIPT.read_text()), ("model.onnx", ""), ("notes.txt", "mine")):
        (tmp_path / "out" / name).write_text(content)  # of an earlier export of a classifier of videos
    messages = onnx_files.export_onnx(str(tmp_path / "model"), tmp_path / "out")
    assert any("No classify.py is written, because it could not prepare the input: " in each for each in messages)
    messages = onnx_files.export_onnx(str(tmp_path / "model"), tmp_path / "page", for_program=True)
    assert messages and "classify.py" not in " ".join(messages)
    assert (tmp_path / "out" / "notes.txt").exists()
    assert not (tmp_path / "out" / "classify.py").exists()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape) == ("pixel_values", "tensor(uint8)", ["batch", 3, 16, 16])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == LABELS
    assert json.loads(metadata["processor"])["image_mean"] == [0.5, 0.5, 0.5]
    Image.fromarray(moving_frames(1, 30, 40)[0]).save(tmp_path / "a.png")
    found = predictions(capsys, tmp_path / "out", tmp_path / "a.png")
    assert found == pytest.approx(predictions(capsys, tmp_path / "model", tmp_path / "a.png"), abs=0.01)


@needs_onnx
def test_int8_files_are_smaller_keep_labels_and_refuse_contradictions(tmp_path, capsys, monkeypatch):
    import onnx

    save(tmp_path / "model", "tubevit")
    (tmp_path / "clips" / "a class").mkdir(parents=True)
    for index in range(3):
        write_video(tmp_path / "clips" / "a class" / f"{index}.mp4", moving_frames(12 + index, 32, 40))
    clip = tmp_path / "clips" / "a class" / "0.mp4"
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "none").mkdir()
    expected = predictions(capsys, tmp_path / "model", clip)
    base = ["export", str(tmp_path / "model"), "--format", "onnx"]
    for kind, options in (("dynamic", ()), ("static", ("--calibration", str(tmp_path / "clips")))):
        assert main([*base, str(tmp_path / kind), "--quantize", "int8", *options]) == 0
        printed = capsys.readouterr().out
        after, before = re.search(rf"int8, {kind}: (\S+) MB instead of (\S+) MB", printed).groups()
        assert float(after) < float(before)
        same, number = re.search(r"top-1 agreement (\d+) of (\d+)", printed).groups()
        assert int(number) == (3 if options else 16) and int(same) >= 0.75 * int(number)
        assert ("1 of 4 calibration files cannot be read" in printed) == bool(options)
        assert ("on the videos of the calibration (other videos may differ several times as much" in printed) == bool(
            options
        )
        graph = onnx.load(tmp_path / kind / "model.onnx").graph
        operators = {node.op_type for node in graph.node}
        assert ("MatMulInteger" if kind == "dynamic" else "QuantizeLinear") in operators
        weights = [onnx.numpy_helper.to_array(each) for each in graph.initializer if len(each.dims) > 1]
        weights = [each for each in weights if each.dtype == np.int8]
        assert max(np.abs(each.astype(int)).max() for each in weights) in (63, 64)  # two products fit into 16 bits
        assert predictions(capsys, tmp_path / kind, clip) == pytest.approx(expected, abs=0.05)

    monkeypatch.setattr(onnx_files, "NUM_CALIBRATION_CLIPS", 2)  # of 3, so the third is compared
    chosen, others = onnx_files.calibration_files(clip.parent, "video")
    assert (len(chosen), len(others)) == (2, 1) and not {*chosen} & {*others}
    assert main([*base, str(tmp_path / "other"), "--quantize", "int8", "--calibration", str(clip.parent)]) == 0
    printed = capsys.readouterr().out
    assert "of 1 (" in printed and "on other videos of the calibration folder" in printed

    def error(*options):
        assert main([*base, str(tmp_path / "no"), *options]) == 2 and not (tmp_path / "no").exists()
        return capsys.readouterr().err

    assert "starts from float32 weights, got --dtype float16" in error("--quantize", "int8", "--dtype", "float16")
    assert "--calibration is for int8" in error("--calibration", str(tmp_path / "clips"))
    assert "holds no videos" in error("--quantize", "int8", "--calibration", str(tmp_path / "none"))


@needs_onnx
def test_a_wrong_file_is_deleted(tmp_path, capsys, monkeypatch):
    save(tmp_path / "model", "tubevit")
    monkeypatch.undo()  # this graph is exported for this test
    monkeypatch.setattr(
        onnx_files.PixelsToLogits, "forward", lambda self, pixels: pixels.float().mean((1, 3, 4)).repeat(1, 2)[:, :4]
    )
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out"), "--format", "onnx"]) == 2
    assert "The ONNX file was wrong, and is deleted" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.onnx*"))


@needs_onnx
def test_damaged_files_and_those_of_another_origin_are_refused(tmp_path, capsys):
    save(tmp_path / "model", "tubevit")
    torch.onnx.export(
        torch.nn.Identity(), (torch.zeros(1),), tmp_path / "model" / "other.onnx", dynamo=True, verbose=False
    )
    assert main(["predict", "--model", str(tmp_path / "model" / "other.onnx"), "a.mp4"]) == 2
    assert "other.onnx was not written by `tubevit export --format onnx`" in capsys.readouterr().err
    content = (tmp_path / "model" / "other.onnx").read_bytes()
    damaged, alone = tmp_path / "model" / "damaged.onnx", tmp_path / "alone.onnx"
    alone.write_bytes(content)
    for number in (0, len(content) // 2):
        damaged.write_bytes(content[:number])
        assert main(["predict", "--model", str(damaged), "a.mp4"]) == 2
        assert re.search(r"damaged.onnx cannot be loaded in CPU.*: if the file is damaged", capsys.readouterr().err)
    assert main(["predict", "--model", str(alone), "a.mp4"]) == 2
    assert "alone.onnx has no config.json beside it" in capsys.readouterr().err
    (tmp_path / "model" / "other.onnx").rename(tmp_path / "model" / "model.onnx")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "new")]) == 2
    assert "holds an ONNX file, which only `tubevit predict` runs" in capsys.readouterr().err


def test_wrong_options_are_errors_of_one_line(tmp_path, capsys, monkeypatch):
    save(tmp_path / "model", "tubevit")
    arguments = ["export", str(tmp_path / "model"), str(tmp_path / "out")]

    def error(*options):
        assert main([*arguments, *options]) == 2
        return capsys.readouterr().err

    assert "--input is for ONNX files: give --format onnx too" in error("--input", "uint8")
    assert "--dtype is for ONNX files" in error("--dtype", "float16")
    assert "--quantize is for ONNX files" in error("--quantize", "int8")
    monkeypatch.setattr(onnx_files, "_require", lambda package: None)
    processor = TubeViTVideoProcessor.from_pretrained(tmp_path / "model", do_rescale=False, do_normalize=False)
    processor.save_pretrained(tmp_path / "model")
    assert "gives raw pixels, which the model normalizes: use --input uint8" in error(
        "--format", "onnx", "--input", "float32"
    )
    monkeypatch.undo()
    monkeypatch.setattr(onnx_files.importlib.util, "find_spec", lambda name: None)
    assert 'ONNX files need onnx: pip install "tubevit[onnx]", or pip install onnx.' in error("--format", "onnx")
    assert main(["predict", "--model", str(tmp_path / "no.onnx"), "a.mp4"]) == 2
    assert "There is no file" in capsys.readouterr().err
