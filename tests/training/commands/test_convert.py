"""`tubevit convert`: Transformers' pipelines predict the same from the converted folder as from the source."""

import argparse
import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from small_image_models import make_source
from transformers import AutoModel, AutoProcessor, CLIPImageProcessor, ViTImageProcessor, pipeline
from video_files import moving_frames, write_video
from warm_processes import run_python

from tubevit import TubeViTForImageClassification, TubeViTModel
from tubevit.from_image_checkpoint import POSITIONS
from tubevit.kernel_inflation import TUBE_INITS
from tubevit.pooling import POOLING_CLASSES
from tubevit.training.cli import main
from tubevit.training.commands.convert import add_arguments, make_processor


PREPROCESSORS = {
    "vit classifier": ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3),
    "clip classifier": CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}),
    "dinov2 classifier": CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 40, "width": 40}),
    "siglip classifier": ViTImageProcessor(size={"height": 32, "width": 32}, resample=3),
}


def save_source(folder, name: str):
    source = make_source(name)
    source.save_pretrained(folder)
    if name in PREPROCESSORS:
        PREPROCESSORS[name].save_pretrained(folder)
    return source


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_image_pipeline_predicts_as_for_the_source(name, tmp_path, capsys):
    save_source(tmp_path / "source", name)
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "out"), "--task", "image"]) == 0
    assert "classifier.weight <- classifier.weight" in capsys.readouterr().out
    image = Image.fromarray(moving_frames(1, height=50, width=70)[0])
    expected = pipeline("image-classification", model=str(tmp_path / "source"))(image, top_k=5)
    ours = pipeline("image-classification", model=str(tmp_path / "out"))(image, top_k=5)
    for one, other in zip(ours, expected, strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_video_model_is_saved_with_both_processors(tmp_path, capsys):
    save_source(tmp_path / "source", "clip classifier")
    report = tmp_path / "report.json"
    arguments = ["--labels", "7", "--pooling", "mean", "--tube-init", "average", "--report", str(report)]
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "out"), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "average inflation to 8x8x8" in printed and "vision_model.post_layernorm.weight" in printed
    told = json.loads(report.read_text())
    assert told["target"]["classifier.weight"]["state"] == "new"
    clip = write_video(tmp_path / "clip.mp4", moving_frames(40, height=48, width=64))
    results = pipeline("video-classification", model=str(tmp_path / "out"))(str(clip), top_k=7)
    assert len(results) == 7
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    pixels = processor(videos=str(clip), return_tensors="pt").pixel_values_videos
    assert pixels.shape == (1, 32, 3, 32, 32)


def test_image_size_may_differ_from_the_source(tmp_path):
    save_source(tmp_path, "clip classifier")
    model = TubeViTForImageClassification.from_image_checkpoint(tmp_path, image_size=64)
    processor = make_processor(str(tmp_path), model.config, resize=True).image_processor
    assert dict(processor.size)["shortest_edge"] == 80  # the crop keeps its share of 32 / 40
    image = Image.fromarray(moving_frames(1, height=90, width=120)[0])
    assert processor(image, return_tensors="pt").pixel_values.shape == (1, 3, 64, 64)


def test_source_without_a_processor_gets_one_of_its_size(tmp_path):
    save_source(tmp_path, "siglip2 vision")
    model = TubeViTModel.from_image_checkpoint(tmp_path)
    processor = make_processor(str(tmp_path), model.config)
    image = Image.fromarray(moving_frames(1, height=90, width=120)[0])
    assert processor.image_processor(image, return_tensors="pt").pixel_values.shape == (1, 3, 32, 32)
    assert list(processor.video_processor.image_mean) == model.config.image_mean == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing/here/at/all", "out"], "There is no model folder nothing/here/at/all"),
        (["source", "source"], "source is not empty"),
        (["source", "out", "--labels", "0"], "--labels must be at least 1, got 0"),
        (["source", "out", "--labels", "3", "--task", "base"], "a base model has no classifier"),
        (["source", "out", "--image-size", "20"], "does not fit"),
        (["source", "out", "--num-frames", "0"], "num_frames must be at least 1, got 0"),
        (["source", "out", "--temporal-position-scale", "-1"], "temporal_position_scale must be at least 0, got -1"),
        (
            ["source", "out", "--temporal-position-scale", "1", "--positions", "fixed"],
            "--temporal-position-scale has no effect with --positions fixed",
        ),
        (["source", "out", "--pooling", "grid"], "got pooling='grid' and pooling_grid=None"),
        (["source", "out", "--pooling-grid", "1,2,2"], "got pooling='source' and pooling_grid=[1, 2, 2]"),
        (["source", "out", "--pooling", "grid", "--pooling-grid", "2,0,2"], "pooling_grid must be three integers"),
        (["source", "out", "--task", "image", "--no-add-patch-tube"], "gives a model that takes no images"),
        (
            ["source", "out", "--family", "factorized_vivit", "add_patch_tube=false"],
            "--add-patch-tube is for a TubeViT",
        ),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_source(tmp_path / "source", "vit classifier")
    if "pooling" in message:  # refused before the weights are read
        (tmp_path / "source" / "model.safetensors").write_bytes(b"")
    assert main(["convert", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("tubevit convert: error:") and message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("without_patch", ["--no-add-patch-tube", "add_patch_tube=false"])
def test_temporal_positions_the_patch_tube_and_the_pooling_are_chosen(without_patch, tmp_path):
    save_source(tmp_path / "source", "vit classifier")
    arguments = ["--task", "base", "--temporal-position-scale", "0.25", without_patch, "--pooling", "grid"]
    arguments += ["--pooling-grid", "1,2,2"]
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "out"), *arguments]) == 0
    config = TubeViTModel.from_pretrained(tmp_path / "out").config
    assert (config.temporal_position_scale, config.pooling, config.pooling_grid) == (0.25, "grid", [1, 2, 2])
    assert not any(tube.is_image_tube for tube in config.get_tubes())


def test_choices_are_those_of_the_library():
    for name, values in (
        ("positions", POSITIONS),
        ("tube_init", TUBE_INITS),
        ("pooling", ("source", *POOLING_CLASSES)),
    ):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        (action,) = [action for action in parser._actions if action.dest == name]
        assert tuple(action.choices) == tuple(values)


REMOTE = """
import sys

class NoTubeViT:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tubevit":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTubeViT())
import torch
from transformers import AutoModel
source, exported = sys.argv[1:]
images = torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32).sin()
model = AutoModel.from_pretrained(exported, trust_remote_code=True).eval()
with torch.no_grad():
    ours, theirs = (each(pixel_values=images).pooler_output for each in (model, AutoModel.from_pretrained(source)))
assert torch.allclose(ours, theirs, atol=1e-5)
try:
    type(model).from_image_checkpoint(source)
except ImportError as error:
    print(error)
"""


def test_export_of_a_converted_model_loads_without_the_package_and_refuses_to_convert(tmp_path):
    """With rotary positions, on a machine without the package."""
    save_source(tmp_path / "source", "dinov3")
    TubeViTModel.from_image_checkpoint(tmp_path / "source").save_pretrained(tmp_path / "exported", with_code=True)
    result = run_python("-c", REMOTE, tmp_path / "source", tmp_path / "exported", cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    (message,) = result.stdout.strip().splitlines()
    assert message.startswith("TubeViTModel.from_image_checkpoint needs the `tubevit` package")


def test_conversion_code_is_imported_on_use():
    names = {
        f"tubevit.{name}"
        for name in ("from_image_checkpoint", "image_families", "weight_conversion", "source_checkpoints")
    }
    program = f"import sys, tubevit; print(*{names} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.strip() == "", result


def test_auto_classes_load_a_converted_model(tmp_path):
    save_source(tmp_path / "source", "vit classifier")
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "out"), "--task", "base"]) == 0
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is TubeViTModel and model(torch.zeros(1, 32, 3, 32, 32)).pooler_output.shape == (1, 24)


@pytest.mark.parametrize(("family", "kind"), [("uniformerv2", "clip"), ("factorized_vivit", "vit")])
def test_image_model_becomes_a_model_of_another_family(family, kind, tmp_path, capsys):
    """Its frames are classified by the stock pipeline; the trunk is tested with `from_image_checkpoint`."""
    make_source(kind).save_pretrained(tmp_path / "source")
    video = write_video(tmp_path / "a.mp4", moving_frames(20, 40, 48), fps=10)
    options = ["--family", family, "--labels", "3", "--num-frames", "4"]
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "out"), *options]) == 0
    assert f"Wrote {tmp_path / 'out'}: a " in capsys.readouterr().out
    classify = pipeline("video-classification", model=str(tmp_path / "out"))
    assert classify.model.config.model_type == family and classify.model.config.num_frames == 4
    assert classify.video_processor.num_frames == 4 and len(classify(str(video))) == 3
    for number, (more, message) in enumerate(
        (
            (["--family", family], f"--family {family} needs --labels N"),
            (["--family", family, "--labels", "3", "--pooling", "cls"], "--pooling is for a TubeViT, and --family is"),
            (
                ["--family", "factorized_vivit" if kind == "clip" else "uniformerv2", "--labels", "3"],
                "is initialized from",
            ),
        )
    ):
        assert main(["convert", str(tmp_path / "source"), str(tmp_path / f"out{number}"), *more]) == 2
        assert message in capsys.readouterr().err
