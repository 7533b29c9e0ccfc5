"""A family with one registry entry works in every command; no other file knows the family."""

import json

import pytest
import toy_family
from safetensors.torch import load_file
from tiny_runs import make_videos
from video_files import moving_frames, write_video
from warm_processes import run_python

from tubevit.training.cli import main
from tubevit.training.data.video_datasets import VideoData
from tubevit.training.models.build import make_model
from tubevit.training.models.model_options import ClipConfig, ModelConfig


toy_family.register()
NAMES = ["blue", "green", "red"]
RUN = [
    "num_train_epochs=1",
    "use_cpu=true",
    "num_temporal_views=1",
    "num_spatial_views=1",
    "learning_rate=0.01",
    "warmup_steps=0",
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), num_train=2, num_validation=1)


@pytest.fixture(scope="module")
def trained(videos, tmp_path_factory):
    """A run from a preset of the toy family."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    options = [
        "preset=toy-3",
        f"data={videos}",
        f"output_dir={folder}",
        "num_frames=6",
        "short_side=20",
        "image_size=16",
    ]
    assert main(["train", *options, *RUN, "layer_decay=0.5"]) == 0
    return folder


def read_json(path):
    return json.loads(path.read_text())


def test_training_from_a_preset_saves_model_processor_and_scores(trained):
    config, processor = (read_json(trained / f"{name}.json") for name in ("config", "video_preprocessor_config"))
    assert (config["model_type"], config["num_stages"], config["num_frames"]) == ("toy", 3, 6)
    assert processor["video_processor_type"] == "ToyVideoProcessor" and processor["num_frames"] == 6
    metrics = read_json(trained / "evaluation" / "metrics.json")
    assert metrics["num_scored"] == 3 and metrics["num_frames"] == 6


@pytest.mark.parametrize("command", ["train", "train-loop"])
def test_training_starts_from_a_checkpoint_with_frozen_layers(command, trained, videos, tmp_path):
    options = [
        f"model_name_or_path={trained}",
        f"data={videos}",
        f"output_dir={tmp_path / 'run'}",
        "num_frozen_layers=1",
    ]
    assert main([command, *options, *RUN, "num_train_epochs=3"]) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "run"))
    frozen = {name for name in before if (before[name] == after[name]).all()}
    assert {name for name in before if name.startswith(("backbone.patch", "backbone.stages.0"))} == frozen
    assert read_json(tmp_path / "run" / "video_preprocessor_config.json")["num_frames"] == 6


def test_eval_and_predict_agree(trained, videos, tmp_path, capsys):
    views = ["num_temporal_views=2", "num_spatial_views=3"]
    options = [f"model_name_or_path={trained}", f"data={videos}", f"output_dir={tmp_path / 'out'}", "use_cpu=true"]
    assert main(["eval", *options, *views]) == 0
    capsys.readouterr()
    assert (
        main(
            [
                "predict",
                str(videos / "val"),
                "--model",
                str(trained),
                "--json",
                "--temporal-views",
                "2",
                "--spatial-views",
                "3",
            ]
        )
        == 0
    )
    predicted = {each["file"]: each["predictions"][0]["label"] for each in json.loads(capsys.readouterr().out)}
    rows = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    columns = rows[0].split(",")
    scored = {row.split(",")[columns.index("path")]: row.split(",")[columns.index("predicted")] for row in rows[1:]}
    assert len(predicted) == 3 and predicted == scored


def test_export_loads_without_the_registered_family(trained, tmp_path):
    assert main(["export", str(trained), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "toy_family.py").is_file()
    code = f"""
from transformers import AutoModelForVideoClassification, AutoVideoProcessor
model = AutoModelForVideoClassification.from_pretrained({str(tmp_path / "out")!r}, trust_remote_code=True)
processor = AutoVideoProcessor.from_pretrained({str(tmp_path / "out")!r}, trust_remote_code=True)
print(type(model).__name__, type(processor).__name__, processor.num_frames)
"""
    result = run_python("-c", code)
    assert result.stdout.split() == ["ToyForVideoClassification", "ToyVideoProcessor", "6"], result.stderr[-2000:]


def test_info_describes_its_presets_and_checkpoints(trained, capsys):
    assert main(["info", str(trained), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    (clip,) = report["clips"]
    assert (clip["num_frames"], clip["image_size"], clip["tokens"]) == (6, [16, 16], 24)
    assert report["parameters"] == sum(each.numel() for each in load_file(trained / "model.safetensors").values())
    assert main(["info", "toy-2"]) == 0
    assert "toy-2" in capsys.readouterr().out


def test_show_draws_the_pictures_of_the_entry(trained, tmp_path, capsys):
    assert main(["show", "kernels", "--model", str(trained), "--output", str(tmp_path / "kernels.png")]) == 0
    assert (tmp_path / "kernels.png").stat().st_size > 1000
    capsys.readouterr()
    assert main(["show", "tubes", "--model", str(trained)]) == 2
    error = capsys.readouterr().err
    assert "The picture 'tubes' cannot be drawn" in error and "a Toy model; possible: kernels." in error


def test_new_model_with_a_rate_reads_clips_at_this_rate():
    data = VideoData({}, ["a", "b"], "video", False, None)
    model = make_model(ModelConfig(preset="toy-2"), ClipConfig(num_frames=4, fps=5, pad_mode="loop"), data)
    reader, own = model.processor, model.own_processor
    assert (reader.sampling, reader.fps, reader.num_frames, reader.pad_mode) == ("fixed_rate", 5, 4, "loop")
    assert (own.fps, own.num_frames, model.model.config.num_frames) == (5, None, 4)


def test_options_of_the_model_without_effect_are_named():
    data = VideoData({}, ["a", "b"], "video", False, None)
    options = {"lora_alpha": 3, "lora_target_modules": "q", "model_revision": "v2"}
    messages = make_model(ModelConfig(preset="toy-2", **options), ClipConfig(), data).messages
    for name, value in options.items():
        assert sum(each.startswith(f"{name}={value} has no effect with ") for each in messages) == 1
    assert "no effect" not in " ".join(make_model(ModelConfig(preset="toy-2"), ClipConfig(), data).messages)


def test_images_raise_one_line(trained, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    assert main(["predict", str(tmp_path / "a.png"), "--model", str(trained)]) == 2
    assert "A Toy model does not classify images; it classifies videos" in capsys.readouterr().err


def test_export_of_a_transformers_model_has_no_code(tmp_path):
    from video_classifiers import save_peer

    save_peer(tmp_path / "model", "videomae", NAMES)
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out")]) == 0
    write_video(tmp_path / "a.mp4", moving_frames(8, 20, 24))
    assert main(["predict", str(tmp_path / "a.mp4"), "--model", str(tmp_path / "out")]) == 0


def test_second_entry_for_a_model_type_raises():
    from tubevit.training.models.families import ModelFamily, register_family

    with pytest.raises(ValueError, match="'toy' is registered already, as Toy"):
        register_family(ModelFamily(model_type="toy", title="Other"))
