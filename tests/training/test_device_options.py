"""`--matmul-precision` and `--compile` of the commands that run a checkpoint."""

import json
import shutil
from functools import partial
from importlib.util import find_spec

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from video_classifiers import save_tubevit
from video_files import moving_frames, write_video

from tubevit import TubeViTForVideoClassification
from tubevit.processing import TubeViTImageProcessor
from tubevit.training import environment
from tubevit.training.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    save_tubevit(folder / "model", processor={"sampling": "fixed_rate", "fps": 10})
    (folder / "val" / "c").mkdir(parents=True)
    for index in range(3):
        write_video(folder / "val" / "c" / f"{index}.mp4", moving_frames(12, 32, 40, seed=index), fps=10)
    return folder


@pytest.fixture
def compiled(monkeypatch):
    """Models that are compiled, with the precision of matrix products at that time; "eager" is the backend without code generation."""
    models, own = [], nn.Module.compile
    monkeypatch.setattr(environment.shutil, "which", lambda name: name)
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self: (
            models.append((self, torch.get_float32_matmul_precision())) or partial(own, self)(backend="eager")
        ),
    )
    yield models
    torch.set_float32_matmul_precision("highest")


def predict(files, out, options, capsys):
    videos = sorted(map(str, (files / "val" / "c").iterdir()))
    assert main(["predict", "--model", str(files / "model"), *videos, "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    return [each["score"] for entry in found for each in entry["predictions"]]


def evaluate(files, out, options, capsys):
    argv = ["eval", str(files / "model"), f"data={files}", f"output_dir={out}", "use_cpu=true", "num_spatial_views=1"]
    assert main([*argv, "num_temporal_views=1", "batch_size=2", *options]) == 0  # the last batch has one clip
    table = pq.read_table(out / "predictions.parquet")
    return np.concatenate([np.ravel(row) for row in table["logits"].to_pylist()])


def watch(files, out, options, capsys):
    argv = ["watch", str(files / "val" / "c" / "0.mp4"), "--model", str(files / "model"), "--output", str(out)]
    assert main([*argv, *options]) == 0
    return [float(row.split(",")[-1]) for row in (out / "windows.csv").read_text().splitlines()[1:]]


def serve(files, out, options, capsys):
    """The scores that the service has for a clip."""
    from unittest.mock import patch

    with patch("uvicorn.run") as run, patch("tubevit.training.serving.app.create_app") as create:
        assert main(["serve", str(files / "model"), *options]) == 0
    assert run.called
    classifier = create.call_args.args[0]
    clips = torch.randint(0, 256, (1, 8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return classifier(clips)[0].tolist()


@pytest.mark.parametrize("command", [predict, evaluate, watch, serve], ids=lambda each: each.__name__)
def test_compiled_models_give_the_same_results_at_the_chosen_precision(command, files, tmp_path, capsys, compiled):
    if command is serve:
        pytest.importorskip("uvicorn")
    expected = command(files, tmp_path / "eager", (), capsys)
    assert len(expected) > 0 and not compiled
    found = command(files, tmp_path / "compiled", ("--compile", "--matmul-precision", "high"), capsys)
    ((model, precision),) = compiled
    assert precision == "high" and model._compiled_call_impl is not None
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_options_without_effect_or_compiler_are_errors_of_one_line(files, tmp_path, capsys, monkeypatch):
    def error(*options):
        assert main(["predict", "--model", str(files / "model"), str(files / "val"), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert (
        "--matmul-precision medium has no effect on bfloat16 weights: leave it out, or give --dtype float32."
        in error("--matmul-precision", "medium", "--dtype", "bfloat16")
    )
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    assert "--compile needs a C++ compiler, and there is no" in error("--compile")
    assert torch.get_float32_matmul_precision() == "highest"
    (tmp_path / "model.onnx").write_bytes(b"")
    for option in (["--compile"], ["--matmul-precision", "high"]):
        assert main(["predict", "--model", str(tmp_path / "model.onnx"), str(files / "val"), *option]) == 2
        assert f"{option[0]} has no effect on {tmp_path / 'model.onnx'}, which runs in onnx" in capsys.readouterr().err


def test_a_precision_is_refused_for_a_checkpoint_in_half_precision_before_data_are_read(files, tmp_path, capsys):
    model = tmp_path / "half"
    shutil.copytree(files / "model", model)
    TubeViTForVideoClassification.from_pretrained(model, dtype=torch.float16).save_pretrained(model)
    TubeViTImageProcessor().save_pretrained(model)
    image = tmp_path / "image.png"
    image.write_bytes(b"no image")
    commands = {
        "predict": ["--model", str(model), str(tmp_path / "missing.mp4")],
        "predict image": ["--model", str(model), str(image)],
        "eval": [str(model), f"data={tmp_path / 'missing'}", f"output_dir={tmp_path / 'out'}", "use_cpu=true"],
        "watch": [str(image), "--model", str(model), "--output", str(tmp_path / "out")],
        "serve": [str(model)],
    }
    for name, argv in commands.items():
        if name == "serve" and find_spec("uvicorn") is None:
            continue
        assert main([name.split()[0], *argv, "--matmul-precision", "medium"]) == 2, name
        (line,) = capsys.readouterr().err.splitlines()
        assert "--matmul-precision medium has no effect on float16 weights" in line and "--dtype float32" in line, name
    assert torch.get_float32_matmul_precision() == "highest" and not (tmp_path / "out").exists()
