"""Experiments: runs of VideoTrainer with the same settings give the same numbers, and records are honest and reused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
from tiny_experiments import TINY_DATA, TINY_ENCODER, invented_record, tiny_experiment
from tiny_models import TINY_TUBES
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from tubevit import TubeViTForVideoClassification
from tubevit.processing import cpu_cores
from tubevit.training.experiments.initialization import config_at_size, initial_checkpoint, patch_kernels
from tubevit.training.experiments.records import FIELDS, Label, read_record, write_record
from tubevit.training.experiments.run_records import measure_classifier
from tubevit.training.experiments.runner import Run, _forget_without_weights, run_all, run_options, threads_per_run
from tubevit.training.experiments.settings import digest, with_recipe
from tubevit.training.models.families import family_of
from tubevit.training.models.loading import load_complete


JOINT = ("video", "image")
PEERS = ("videomae", "vivit", "timesformer", "vjepa2")
STATISTICS = {"image_mean": [0.4] * 3, "image_std": [0.2] * 3}


def label(name="one", score="video"):
    row = {"name": name, "title": name, "score": score}
    return Label("table_x", "A table", "tiny", name, [row], "tubevit experiments ablations x --train", 0)


def run_one(experiment, folder, name="one", score="video"):
    (record,) = run_all([Run(experiment, label(name, score))], folder, "cpu", jobs=1, threads=1)
    return record


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny experiment: its folder and its record."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run_one(tiny_experiment(), folder)


def test_the_same_settings_give_the_same_numbers_and_another_seed_others(trained, tmp_path):
    runs = [Run(tiny_experiment(seed=seed), label()) for seed in (0, 1)]
    again, other = run_all(runs, tmp_path, "cpu", jobs=2, threads=1)  # in processes of their own
    first = trained[1]
    assert [each["loss"] for each in first["losses"]] == [each["loss"] for each in again["losses"]]
    assert first["scores"] == again["scores"] and len(first["losses"]) == 3
    assert first["losses"] != other["losses"]


def test_threads_of_a_run_are_those_of_the_variable_or_a_part_of_the_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(cpu_cores, "num_cores", lambda: 8)
    assert threads_per_run(2) == 3  # the tests run with OMP_NUM_THREADS
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_per_run(2) == 4 and threads_per_run(20) == 1


def test_a_run_with_a_record_is_not_repeated(trained, monkeypatch):
    folder, record = trained
    monkeypatch.setattr("tubevit.training.experiments.runner.train_experiment", lambda *args: pytest.fail("trained"))
    assert run_one(tiny_experiment(), folder) == record
    # A run of another table with the same settings takes the numbers over, under its own label.
    other = run_one(tiny_experiment(), folder, name="two")
    assert other == {**record, "name": "two", "rows": [{"name": "two", "title": "two", "score": "video"}]}
    renamed = replace(label(), title="A better title", command="tubevit experiments ablations x --train --seeds 5")
    (after,) = run_all([Run(tiny_experiment(), renamed)], folder, "cpu", jobs=1)
    assert after == record | {"title": "A better title", "command": renamed.command}
    run_one(tiny_experiment(), folder)  # the first label again


def test_a_record_with_other_settings_is_not_overwritten(tmp_path):
    path = tmp_path / "tiny" / "table_x" / "two-seed0.json"
    write_record(path, invented_record(name="two"))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"two-seed0\.json.*other settings.*--output") as error:
        run_all([Run(tiny_experiment(), label()), Run(tiny_experiment(), label("two"))], tmp_path, "cpu", jobs=1)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before and [each.name for each in tmp_path.glob("**/*.json")] == ["two-seed0.json"]


def test_a_record_says_where_it_comes_from(trained):
    folder, record = trained
    assert set(FIELDS) <= set(record) and record["loop"] == "VideoTrainer"
    assert record["settings"] == tiny_experiment().settings()
    assert record["machine"]["torch"] == torch.__version__ and record["machine"]["cores"] >= 1
    assert record["machine"]["transformers"] == transformers.__version__
    assert record["tokens"] == 8 + 8 + 4 and record["seconds"] > record["training_seconds"] > 0
    score = record["scores"]["video"]
    assert score["number"] == 8 and score["chance"] == 0.25
    assert score["accuracy"] == pytest.approx(score["correct"] / 8)
    run = tiny_experiment().run_folder(folder)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["command"] and environment["commit"] == record["commit"]
    model = TubeViTForVideoClassification.from_pretrained(run)
    assert record["parameters"] == record["trained_parameters"] == model.num_parameters()


def test_the_options_of_a_run_are_those_of_its_recipe_and_row(tmp_path):
    experiment = tiny_experiment({"pooling": "mean"}, seed=5)
    options = run_options(experiment, tmp_path)
    assert options["learning_rate"] == 2e-3 and options["seed"] == 5 and options["max_steps"] == 3
    assert options["model_config"]["pooling"] == "mean" and options["model_config"]["image_std"] == [0.12] * 3
    assert options["data"] == str(TINY_DATA.synthetic_folder("video", tmp_path))
    joint = run_options(tiny_experiment(kinds=JOINT), tmp_path)
    assert set(joint["datasets"]) == set(JOINT) and "data" not in joint
    assert "preset" not in with_recipe("ablations-cpu", preset=None)


def test_an_interrupted_run_is_trained_anew(trained, tmp_path):
    experiment = tiny_experiment()
    run = experiment.run_folder(tmp_path)
    run.mkdir(parents=True)
    (run / "resolved_config.yaml").write_text("")
    (run / "train_metrics.json").write_text("{}")  # of a run that was interrupted in its evaluation
    record = run_one(experiment, tmp_path)
    assert record["losses"] == trained[1]["losses"]


def test_a_loss_of_nan_stops_the_run_and_leaves_no_record(tmp_path):
    data = replace(TINY_DATA, num_train=8)
    with pytest.raises(ValueError, match=r"nan|inf"):
        run_one(tiny_experiment(data=data, options={"learning_rate": 1e30, "max_grad_norm": 0.0}), tmp_path)
    assert not (tmp_path / "tiny").exists()


def test_images_beside_clips_of_files_are_refused(tmp_path):
    data = replace(TINY_DATA, source="clips")
    with pytest.raises(ValueError, match="no images"):
        data.write("image", tmp_path)


def test_other_tubes_and_views_at_evaluation_leave_the_trained_ones(trained, tmp_path):
    dense = [TINY_TUBES[0] | {"stride": [4, 4, 4]}, *TINY_TUBES[1:]]
    evaluations = {"dense": {"tubes": dense}, "views": {"num_temporal_views": 2, "num_spatial_views": 1}}
    record = run_one(tiny_experiment(evaluations=evaluations), tmp_path)
    scores, plain = record["scores"], trained[1]
    assert scores["dense"]["tokens"] > record["tokens"] == scores["views"]["tokens"]
    assert scores["dense"]["gflops"] > record["gflops"]
    assert scores["views"]["gflops"] == pytest.approx(2 * record["gflops"], rel=1e-2)
    assert scores["video"] == plain["scores"]["video"] and record["losses"] == plain["losses"]


def test_joint_training_scores_both_kinds_and_gives_checkpoints_to_others(tmp_path):
    """A joint run, a run on images alone, a run that starts from it, and one with a further layer."""
    images = tiny_experiment(kinds=["image"])
    start = {"init_from": {"weights": images}}
    after = tiny_experiment(initial={"kind": "continue"}, **start)
    # With a learning rate of next to nothing the weights after training are those of the start.
    extra = tiny_experiment(
        initial={"kind": "extra_layers", "num_extra_layers": 1}, options={"learning_rate": 1e-30}, **start
    )
    runs = [
        Run(tiny_experiment(kinds=JOINT, max_steps=4), label("joint")),
        Run(after, label("after")),
        Run(extra, label("extra")),
        Run(images, label("images", "image")),
    ]
    joint, _, _, image = run_all(runs, tmp_path, "cpu", jobs=1, threads=1)
    assert set(joint["scores"]) == set(JOINT)
    score = joint["scores"]["image"]
    assert joint["scores"]["video"]["chance"] == 0.25 and score["chance"] == 0.25  # 2 of 8 are of one pair of shapes
    assert score["tokens"] == 4 < joint["tokens"] and 0 < score["gflops"] < joint["gflops"]
    assert set(image["scores"]) == {"image"} and image["tokens"] == 4
    assert len(list((tmp_path / "runs").glob("*.log"))) == 4  # the prerequisite is a row, and is trained once
    weights = TubeViTForVideoClassification.from_pretrained(images.run_folder(tmp_path)).tubevit.state_dict()
    longer = TubeViTForVideoClassification.from_pretrained(extra.run_folder(tmp_path)).tubevit.state_dict()
    assert all(torch.allclose(longer[name], value, rtol=0, atol=1e-20) for name, value in weights.items())
    assert [name for name in longer if name not in weights and "extra_layers." not in name] == []


def test_weights_that_another_run_starts_from_are_removed_behind_it_and_trained_again(tmp_path, capsys):
    images = tiny_experiment(kinds=["image"], max_steps=1)
    after = tiny_experiment(initial={"kind": "continue"}, init_from={"weights": images}, max_steps=1)
    runs = [Run(images, label("images", "image")), Run(after, label("after"))]
    records = run_all(runs, tmp_path, "cpu", jobs=1, threads=1, keep_weights=False)
    assert not list(tmp_path.glob("runs/**/*.safetensors"))
    runs[1].path(tmp_path).unlink()
    shutil.rmtree(after.run_folder(tmp_path))
    again = run_all(runs[1:], tmp_path, "cpu", jobs=1, threads=1, keep_weights=False)
    assert "is trained again: its weights were removed" in capsys.readouterr().out
    assert again[0]["losses"] == records[1]["losses"] and not list(tmp_path.glob("runs/**/*.safetensors"))


def test_only_weights_that_a_run_starts_from_are_trained_again(tmp_path, capsys):
    first = tiny_experiment(kinds=["image"], max_steps=1)
    second = tiny_experiment(initial={"kind": "continue"}, init_from={"weights": first}, max_steps=2)
    third = tiny_experiment(initial={"kind": "continue"}, init_from={"weights": second}, max_steps=3)
    for each in (first, second):
        each.run_folder(tmp_path).mkdir(parents=True)
        (each.run_folder(tmp_path) / "finished.json").touch()
    weights = second.run_folder(tmp_path) / "model.safetensors"
    weights.touch()
    _forget_without_weights([third], tmp_path)
    assert weights.is_file() and first.run_folder(tmp_path).is_dir() and capsys.readouterr().out == ""
    weights.unlink()
    _forget_without_weights([third], tmp_path)
    assert not any((tmp_path / "runs").iterdir())


def test_image_to_video_scaling_trains_the_layers_of_its_row(tmp_path):
    small = tiny_experiment({"hidden_size": 12, "intermediate_size": 16, **STATISTICS}, JOINT, max_steps=1)
    vit = {"kind": "random", "name": "vit", "media": "image", "image_size": 16, "patch_size": 8, **STATISTICS}
    patch = {"tubes": [{"kernel_size": [1, 8, 8], "stride": [8, 8, 8]}], **STATISTICS}
    large = tiny_experiment(kinds=["image"], max_steps=1, initial=vit | TINY_ENCODER)
    large.options["model_config"] = patch
    runs = []
    for name, frozen, gate in (("fc", 2, False), ("gate", 1, True), ("full", 0, False)):
        initial = {"kind": "scaled", "num_frozen_layers": frozen, "gate": gate}
        start = {"small": small, "large": large}
        runs.append(Run(tiny_experiment(max_steps=1, initial=initial, init_from=start), label(name)))
    records = run_all(runs, tmp_path, "cpu", jobs=1, threads=1)
    trained = [each["trained_parameters"] for each in records]
    assert trained[0] < trained[1] < trained[2] == records[2]["parameters"]
    assert len(list((tmp_path / "runs").glob("*.log"))) == 5
    # The encoder is that of the trained large model, and its frozen layers stay as they are.
    image_model = AutoModelForVideoClassification.from_pretrained(large.run_folder(tmp_path)).state_dict()
    frozen = AutoModelForVideoClassification.from_pretrained(runs[0].experiment.run_folder(tmp_path)).state_dict()
    layers = [name for name in image_model if ".layers." in name]
    assert layers and all(torch.equal(frozen[name], image_model[name]) for name in layers)


@pytest.mark.parametrize(("name", "tokens"), list(zip(PEERS, (16, 17, 33, 16), strict=True)))
def test_checkpoints_of_the_librarys_models_are_trained_as_any_other(name, tokens, tmp_path):
    initial = {"kind": "random", "name": name, "image_size": 16, "patch_size": 8, "num_frames": 8, **TINY_ENCODER}
    experiment = tiny_experiment(initial=initial | STATISTICS)
    experiment.data.write("video", tmp_path)
    folder = initial_checkpoint(experiment, tmp_path)
    assert initial_checkpoint(experiment, tmp_path) == folder
    model, processor = (
        AutoModelForVideoClassification.from_pretrained(folder),
        AutoVideoProcessor.from_pretrained(folder),
    )
    assert list(processor.image_mean) == STATISTICS["image_mean"] and name in type(processor).__name__.lower()
    family = family_of(model.config)
    assert family.num_frames(model.config) == 8 and model.config.initializer_range == 0.2041
    assert measure_classifier(model.config, "video")["tokens"] == tokens


@pytest.mark.parametrize(
    ("name", "frames", "tokens"),
    [
        ("uniformerv2", 8, 40),
        ("uniformerv2_full", 16, 40),
        ("vivit_fe", 32, 80),
        ("vivit_fe_mean", 32, 64),
        ("vivit_fsa", 32, 64),
        ("vivit_fdp", 32, 64),
    ],
)
def test_checkpoints_of_our_other_families_keep_their_initialization(name, frames, tokens, tmp_path):
    """Frames as designed, a new patch kernel and no classifier of zeros, and a processor that takes the frames of the whole clip."""
    sizes = {**TINY_ENCODER, "hidden_size": 48, "num_attention_heads": 3}
    initial = {"kind": "random", "name": name, "image_size": 16, "patch_size": 8, "num_frames": 64, **sizes}
    experiment = tiny_experiment(initial=initial | STATISTICS)
    experiment.data.write("video", tmp_path)
    folder = initial_checkpoint(experiment, tmp_path)
    model, processor = (
        load_complete(AutoModelForVideoClassification, folder),
        AutoVideoProcessor.from_pretrained(folder),
    )
    assert (processor.sampling, processor.num_frames, model.config.num_frames) == ("uniform", frames, frames)
    assert model.config.image_mean == list(processor.image_mean) == STATISTICS["image_mean"]
    assert measure_classifier(model.config, "video")["tokens"] == tokens
    (kernel,) = patch_kernels(model)
    assert kernel is model.get_input_embeddings().patch_embedding.weight
    assert kernel.std().item() == pytest.approx(kernel[0].numel() ** -0.5, rel=0.05)
    classes = sorted(path.name for path in (experiment.data.synthetic_folder("video", tmp_path) / "train").iterdir())
    assert list(model.config.id2label.values()) == classes
    if "vivit" in name:
        assert model.classifier.weight.std().item() == pytest.approx(model.config.initializer_range, rel=0.3)
        assert model.config.num_attention_heads == (4 if name == "vivit_fdp" else 3)
        return
    blocks = [each for each in model.modules() if type(each).__name__ == "UniFormerV2LocalBlock"]
    assert len(blocks) == (2 * 2 if name == "uniformerv2_full" else 0)
    assert not any(each.expand.weight.any() for each in blocks)
    for block in model.uniformerv2.global_blocks:
        assert not block.dpe.bias.any() and block.dpe.weight.abs().max() <= 27**-0.5
        assert not block.attention.out_proj.weight.any()


def test_a_peer_is_trained_by_its_own_processor(tmp_path):
    initial = {
        "kind": "random",
        "name": "videomae",
        "image_size": 16,
        "patch_size": 8,
        "num_frames": 8,
        **TINY_ENCODER,
    }
    clips = {"num_frames": None, "image_size": None}
    record = run_one(tiny_experiment(initial=initial | STATISTICS, max_steps=1, options=clips), tmp_path)
    assert record["scores"]["video"]["number"] == 8 and record["steps"] == 1 and record["tokens"] == 16


@pytest.mark.parametrize("name", ["videomae", "vivit", "vjepa2"])
def test_attention_of_the_librarys_models_is_counted(name):
    def gflops(layers):
        sizes = TINY_ENCODER | {"num_hidden_layers": layers}
        return measure_classifier(config_at_size(name, 16, 8, **sizes, num_frames=8), "video")

    two, three = gflops(2), gflops(3)
    tokens = two["tokens"]
    layer = 2 * tokens * (4 * 24 * 24 + 2 * 24 * 32) + 4 * tokens * tokens * 24
    assert 1e9 * (three["gflops"] - two["gflops"]) == pytest.approx(layer, rel=1e-6)


def test_the_key_names_all_settings_but_the_evaluations():
    plain = tiny_experiment()
    assert plain.key == replace(plain, evaluations={"a": {}}).key != replace(plain, seed=1).key
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_record_that_lacks_a_field_is_refused(name, tmp_path):
    path = tmp_path / "x.json"
    write_record(path, invented_record())
    assert read_record(path)["group"] == "table_7a"
    record = invented_record()
    del record[name]
    write_record(path, record)
    with pytest.raises(ValueError, match=rf"x\.json.*{name}") as error:
        read_record(path)
    assert "\n" not in str(error.value)


def test_a_row_without_its_score_is_refused(tmp_path):
    write_record(tmp_path / "x.json", invented_record(row={"score": "sound"}))
    with pytest.raises(ValueError, match="score"):
        read_record(tmp_path / "x.json")
