"""UniFormerV2 and ViViT in every command: trained, scored, predicted and exported with their own frame sampling."""

import json

import pytest
import torch
from random_weights import randomize
from tiny_runs import make_videos
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel, pipeline
from warm_processes import run_python

from tubevit import (
    FactorizedViViTConfig,
    FactorizedViViTForVideoClassification,
    FactorizedViViTVideoProcessor,
    TubeViTConfig,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    UniFormerV2VideoProcessor,
)
from tubevit.training.cli import main
from tubevit.training.data.video_datasets import DataConfig, VideoData, load_video_dataset
from tubevit.training.evaluation.evaluator import ViewConfig
from tubevit.training.models.build import load_run_config, make_model
from tubevit.training.models.families import get_family
from tubevit.training.models.model_options import ClipConfig, ModelConfig
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.run_config import TrainingRun


SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
}
RUN = [
    "num_train_epochs=1",
    "use_cpu=true",
    "num_temporal_views=1",
    "num_spatial_views=1",
    "ignore_mismatched_sizes=true",
]
FAMILIES = ("uniformerv2", "factorized_vivit")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), num_train=2, num_validation=1)


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, videos, tmp_path_factory):
    """A run that starts from a checkpoint with a classifier of other classes."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "uniformerv2":
        config = UniFormerV2Config(
            **SIZES, patch_size=8, num_frames=6, num_labels=5, num_local_blocks=2, temporal_downsampling=True
        )
        model = UniFormerV2ForVideoClassification(config)
        processor = UniFormerV2VideoProcessor(num_frames=6, size=20, crop_size=16, do_flip_channel_order=True)
    else:
        model = FactorizedViViTForVideoClassification(
            FactorizedViViTConfig(
                **SIZES, tubelet_size=[2, 8, 8], num_frames=4, num_labels=5, temporal_num_hidden_layers=1
            )
        )
        processor = FactorizedViViTVideoProcessor(num_frames=4, frame_stride=3, size=20, crop_size=16)
    randomize(model).save_pretrained(folder / "start")
    processor.save_pretrained(folder / "start")
    options = [f"model_name_or_path={folder / 'start'}", f"data={videos}", f"output_dir={folder / 'run'}"]
    # The first step changes ViViT's new classifier, which starts at zero, where all classes have the same score.
    more = ["layer_decay=0.5", "ema_decay=0.5", "learning_rate=0.05", "warmup_steps=0"]
    assert main(["train", *options, *RUN, *more]) == 0
    return folder / "run"


def read_json(path):
    return json.loads(path.read_text())


def test_run_keeps_the_processor_of_the_checkpoint(trained):
    start, saved = (
        read_json(folder / "video_preprocessor_config.json") for folder in (trained.parent / "start", trained)
    )
    assert {name: saved[name] for name in start} == start
    assert read_json(trained / "evaluation" / "metrics.json")["num_frames"] == start["num_frames"]
    assert read_json(trained / "config.json")["num_frames"] == start["num_frames"]


def test_a_new_classifier_starts_as_that_of_a_new_model(trained, videos):
    """ViViT's at zero, as published: the first logits are equal for all classes."""
    config = ModelConfig(model_name_or_path=str(trained.parent / "start"), ignore_mismatched_sizes=True)
    data = load_video_dataset(DataConfig(data=str(videos)))
    classifier = make_model(config, ClipConfig(), data, load_run_config(config)).model.classifier
    assert classifier.out_features == len(data.class_names) != 5
    assert classifier.weight.any().item() == ("uniformerv2" in trained.parent.name)


def test_predict_equals_the_stock_pipeline(trained, videos, capsys):
    clip = next(videos.rglob("*.mp4"))
    capsys.readouterr()
    assert main(["predict", str(clip), "--model", str(trained), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    ours = {each["label"]: each["score"] for each in entry["predictions"]}
    theirs = {each["label"]: each["score"] for each in pipeline("video-classification", model=str(trained))(str(clip))}
    assert set(ours) == set(theirs)
    for name, score in theirs.items():
        assert ours[name] == pytest.approx(score, abs=1e-5)


def test_validation_reads_the_pixels_of_the_pipeline(trained, videos, tmp_path):
    """The clips that a run scores while it trains; a damaged video has the same dtype, so that batches can be stacked."""
    options = {"model_name_or_path": str(trained), "on_corrupt_video": "skip", "max_corrupt_fraction": 1.0}
    run = TrainingRun.of(**options, **{"data": str(videos), "output_dir": str(tmp_path), "use_cpu": True})
    setup = build_run(run, tmp_path)
    clips, path = setup.validation_clips, next(videos.rglob("*.mp4"))
    (tmp_path / "damaged.mp4").write_bytes(b"no video")
    samples = [
        clips._sample(dict(clips.rows[0], video={"path": str(each), "bytes": None}), 0, 0)
        for each in (path, tmp_path / "damaged.mp4")
    ]
    assert [sample["is_corrupt"] for sample in samples] == [False, True]
    batch = setup.model.prepare(setup.evaluation_collator()(samples))
    own = setup.model.own_processor(str(path), return_tensors="pt")
    model = setup.model.model.eval()
    with torch.no_grad():
        found = model(pixel_values_videos=batch["pixel_values_videos"]).logits
        torch.testing.assert_close(found[:1], model(**own).logits, rtol=0, atol=1e-5)


def test_eval_reads_the_views_of_the_family(trained, videos, tmp_path):
    options = [str(trained), f"data={videos}", "num_temporal_views=2", "num_spatial_views=3", "use_cpu=true"]
    assert main(["eval", *options, f"output_dir={tmp_path / 'eval'}"]) == 0
    metrics = read_json(tmp_path / "eval" / "metrics.json")
    assert (metrics["num_temporal_views"], metrics["num_scored"]) == (2, 3)


def test_frame_stride_is_an_option_where_the_processor_has_one(trained, videos, tmp_path, capsys):
    clip, has_stride = next(videos.rglob("*.mp4")), "factorized_vivit" in trained.parent.name
    message = "frame_stride=2 cannot be set for a UniFormerV2VideoProcessor, which has no frame stride"
    data = load_video_dataset(DataConfig(data=str(videos)))
    config = ModelConfig(model_name_or_path=str(trained), ignore_mismatched_sizes=True)
    clips = ClipConfig(frame_stride=2)
    if has_stride:
        model = make_model(config, clips, data, load_run_config(config))
        for processor in (model.own_processor, model.processor):
            assert (processor.sampling, processor.frame_stride) == ("frame_stride", 2)
        switched = make_model(config, ClipConfig(fps=5), data, load_run_config(config)).own_processor
        assert (switched.sampling, switched.fps) == ("fixed_rate", 5)
    else:
        with pytest.raises(ValueError, match=message):
            make_model(config, clips, data, load_run_config(config))
    evaluation = [str(trained), f"data={videos}", "frame_stride=2", "use_cpu=true", f"output_dir={tmp_path / 'eval'}"]
    assert main(["eval", *evaluation]) == (0 if has_stride else 2)
    assert has_stride or message in capsys.readouterr().err
    if has_stride:
        metrics = read_json(tmp_path / "eval" / "metrics.json")
        assert (metrics["sampling"], metrics["frame_stride"]) == ("frame_stride", 2)
    answers = {}
    for more in ([], ["--frame-stride", "2"]):
        capsys.readouterr()
        code = main(["predict", str(clip), "--model", str(trained), "--json", *more])
        assert code == (0 if has_stride or not more else 2)
        output, error = capsys.readouterr()
        assert code == 0 or message in error
        answers[len(more)] = (
            {each["label"]: each["score"] for each in json.loads(output)[0]["predictions"]} if output else {}
        )
    if has_stride:
        processor = FactorizedViViTVideoProcessor.from_pretrained(trained, frame_stride=2)
        expected = pipeline("video-classification", model=str(trained), video_processor=processor)(str(clip))
        expected = {each["label"]: each["score"] for each in expected}
        assert answers[0] != answers[2] and answers[2] == pytest.approx(expected, abs=0.01)


def test_contradicting_samplings_are_refused():
    for options, message in (
        ({"fps": 5, "frame_stride": 2}, "fps=5 and frame_stride=2 are two samplings"),
        ({"frame_stride": 2, "sampling": "uniform"}, "frame_stride=2 has no effect with sampling=uniform"),
        ({"fps": 5, "sampling": "frame_stride"}, "fps=5 has no effect with sampling=frame_stride"),
    ):
        for block in (ClipConfig, ViewConfig):
            with pytest.raises(ValueError, match=message):
                block(**options)
    for preset in ("uniformerv2-b16", "tiny"):
        data = VideoData({}, ["a", "b"], "video", False, None)
        small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        config = ModelConfig(preset=preset, model_config=small | ({"global_layers": [0]} if preset != "tiny" else {}))
        with pytest.raises(ValueError, match="frame_stride=2 cannot be set for a "):
            make_model(config, ClipConfig(frame_stride=2), data)


@pytest.mark.parametrize("start", ["preset", "checkpoint", "image"])
def test_joint_runs_say_that_they_are_for_tubevit_before_any_work(start, trained, tmp_path, capsys):
    sizes = {name: value for name, value in SIZES.items() if name != "image_size"}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path / "clip")
    options = {
        "preset": ["preset=vivit-b16x2"],
        "checkpoint": [f"model_name_or_path={trained}"],
        "image": [f"model_name_or_path={tmp_path / 'clip'}", "model_family=uniformerv2"],
    }[start]
    arguments = ["train", *options, "datasets.a.data=/nowhere", f"output_dir={tmp_path / 'run'}", "use_cpu=true"]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "Joint runs are for TubeViT, and " in error[0] and not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["info", "show"])
def test_model_is_described(command, trained, tmp_path, capsys):
    if command == "info":
        assert main(["info", str(trained)]) == 0
        assert "16x16" in capsys.readouterr().out
    else:
        assert main(["show", "kernels", "--model", str(trained), "--output", str(tmp_path / "kernels.png")]) == 0
        assert (tmp_path / "kernels.png").stat().st_size > 1000


def test_export_is_loaded_without_the_package(trained, videos, tmp_path):
    assert main(["export", str(trained), str(tmp_path / "export")]) == 0
    clip = next(videos.rglob("*.mp4"))
    code = (
        "import sys; from transformers import pipeline;"
        f"answer = pipeline('video-classification', model={str(tmp_path / 'export')!r}, trust_remote_code=True)({str(clip)!r});"
        "assert not any(name.split('.')[0] == 'tubevit' for name in sys.modules); print(answer)"
    )
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "score" in result.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_presets_are_known(family, videos, tmp_path, capsys):
    """A dry run of a preset at a size that a test can build."""
    sizes = {name: value for name, value in SIZES.items() if name != "image_size"}
    preset, extra = {
        "uniformerv2": (
            "uniformerv2-b16-full",
            {"patch_size": 8, "global_layers": [0, 1], "num_global_attention_heads": 2},
        ),
        "factorized_vivit": ("vivit-b16x2-fe", {"tubelet_size": [2, 8, 8], "temporal_num_hidden_layers": 1}),
    }[family]
    options = [f"model_config={json.dumps(sizes | extra)}", "image_size=16", "num_frames=4"]
    run = [f"preset={preset}", f"data={videos}", f"output_dir={tmp_path / 'run'}", *options, *RUN[:-1]]
    assert main(["train", *run, "--dry-run"]) == 0
    assert "4 frames of 16x16" in capsys.readouterr().out


@pytest.mark.parametrize("family", FAMILIES)
def test_training_starts_from_an_image_model_of_the_family(family, videos, tmp_path, capsys):
    sizes = {name: value for name, value in SIZES.items() if name != "image_size"}
    source, other = (
        CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8)),
        ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8), add_pooling_layer=False),
    )
    if family == "factorized_vivit":
        source, other = other, source
    source.save_pretrained(tmp_path / "image")
    other.save_pretrained(tmp_path / "other")
    run = [f"data={videos}", f"model_family={family}", "num_frames=4", *RUN[:-1]]
    assert main(["train", f"model_name_or_path={tmp_path / 'image'}", f"output_dir={tmp_path / 'run'}", *run]) == 0
    assert read_json(tmp_path / "run" / "config.json")["model_type"] == family
    assert "an image model, becomes a" in capsys.readouterr().out
    assert main(["train", f"model_name_or_path={tmp_path / 'other'}", f"output_dir={tmp_path / 'run2'}", *run]) == 2
    assert f"model_family={family}" in capsys.readouterr().err


def test_ddp_searches_for_unused_parameters_where_there_may_be_some():
    """The tests of each model of this package state that videos give every parameter a gradient."""
    for name in ("tubevit", "uniformerv2", "factorized_vivit", "vivit", "timesformer", "vjepa2", "videomae", "vit"):
        family = get_family(name)
        assert family.uses_all_parameters("video") == (name in ("tubevit", "uniformerv2", "factorized_vivit"))
        assert not family.uses_all_parameters("image")
        assert not family.uses_all_parameters("video", TubeViTConfig(allow_missing_tubes=True))
