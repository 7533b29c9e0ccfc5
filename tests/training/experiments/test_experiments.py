"""Experiments: the same settings give the same numbers, batches are shared, result files are honest and reused."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
import transformers
from tiny_experiments import IMAGES, JOINT, TINY_DATA, TINY_ENCODER, TINY_TUBEVIT, made_result, tiny_experiment
from tiny_models import TINY_TUBES

from tubevit.training.experiments.data import LabelledPixels, batch_of, load_pixels, views_of
from tubevit.training.experiments.models import Setting, build_model, count_gflops, count_tokens, example_input
from tubevit.training.experiments.runner import FIELDS, Label, Run, read_result, run_all, write_result
from tubevit.training.experiments.settings import Experiment, Recipe, kinds_in_turn
from tubevit.training.experiments.training import evaluate, train


CLIPS = Setting(TINY_DATA, {"video": 4})


def label(name="one", score="video"):
    row = {"name": name, "title": name, "score": score}
    return Label("table_x", "A table", "tiny", name, [row], "tubevit sweep x", 0)


def run_one(experiment, folder, name="one", score="video"):
    (result,) = run_all([Run(experiment, label(name, score))], folder, "cpu", jobs=1, threads=1)
    return result


def test_the_same_settings_give_the_same_numbers_and_another_seed_others(tmp_path):
    first, again, other = (
        run_one(tiny_experiment(seed=seed), tmp_path / folder) for seed, folder in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert first["losses"] == again["losses"] and first["scores"] == again["scores"]
    assert first["losses"] != other["losses"]


def test_a_run_whose_result_is_there_is_not_run_again(tmp_path):
    experiment = tiny_experiment()
    run_one(experiment, tmp_path)
    path = tmp_path / "tiny" / "table_x" / "one-seed0.json"
    marked = json.loads(path.read_text()) | {"seconds": 12345.0}
    write_result(path, marked)
    assert run_one(experiment, tmp_path)["seconds"] == 12345.0
    # Another table's run with the same settings takes the numbers over, under its own label.
    assert run_one(experiment, tmp_path, name="two")["seconds"] == 12345.0
    assert read_result(tmp_path / "tiny" / "table_x" / "two-seed0.json")["name"] == "two"


def test_a_result_with_other_settings_is_not_overwritten(tmp_path):
    path = tmp_path / "tiny" / "table_x" / "two-seed0.json"
    write_result(path, made_result(name="two"))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"two-seed0\.json.*other settings.*--output") as error:
        run_all([Run(tiny_experiment(), label()), Run(tiny_experiment(), label("two"))], tmp_path, "cpu", jobs=1)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before and [each.name for each in tmp_path.glob("**/*.json")] == ["two-seed0.json"]


def test_a_known_result_gets_the_label_that_its_run_has_now(tmp_path):
    experiment = tiny_experiment()
    before = run_one(experiment, tmp_path)
    renamed = replace(label(), title="A better title", command="tubevit sweep x --seeds 5")
    (after,) = run_all([Run(experiment, renamed)], tmp_path, "cpu", jobs=1)
    assert after == before | {"title": "A better title", "command": "tubevit sweep x --seeds 5"}


def test_runs_in_processes_give_the_numbers_of_one_process(tmp_path):
    runs = [Run(tiny_experiment(seed=seed), label()) for seed in (0, 1)]
    alone = run_all(runs, tmp_path / "a", "cpu", jobs=1, threads=1)
    shared = run_all(runs, tmp_path / "b", "cpu", jobs=2, threads=1)
    assert [each["losses"] for each in alone] == [each["losses"] for each in shared]


def test_a_result_says_where_it_comes_from(tmp_path):
    result = run_one(tiny_experiment(), tmp_path)
    assert set(FIELDS) <= set(result)
    assert result["settings"] == tiny_experiment().settings()
    assert result["machine"]["torch"] == torch.__version__ and result["machine"]["cores"] >= 1
    assert result["machine"]["transformers"] == transformers.__version__
    assert result["tokens"] == 8 + 8 + 4 and result["seconds"] > 0
    score = result["scores"]["video"]
    assert score["number"] == 8 and score["chance"] == 0.25
    assert score["accuracy"] == pytest.approx(score["correct"] / 8)


def test_training_fits_what_it_sees():
    experiment = tiny_experiment(steps=60, learning_rate=3e-3, batch_size=12)
    pixels = load_pixels(experiment.data, with_images=False)
    torch.manual_seed(0)
    model = build_model(experiment.model, Setting(experiment.data, pixels.num_classes))
    losses = train(model, pixels, experiment)["losses"]
    assert losses[-1]["step"] == 60 and losses[-1]["video"] < 0.5 * losses[0]["video"]


def test_the_loss_that_is_no_number_stops_the_run(tmp_path):
    with pytest.raises(ValueError, match="loss is nan"):
        run_one(tiny_experiment(learning_rate=float("nan")), tmp_path)
    assert not list(tmp_path.glob("**/*.json"))


def test_batches_depend_on_seed_and_number_alone():
    numbers = torch.arange(10)
    split = LabelledPixels(numbers.to(torch.uint8).view(10, 1, 1, 1, 1), numbers, [str(i) for i in range(10)])
    batches = [batch_of(split, TINY_DATA, "video", number, 4, seed=3) for number in range(5)]
    for number in (4, 1):
        again = batch_of(split, TINY_DATA, "video", number, 4, seed=3)
        assert torch.equal(again[0], batches[number][0]) and torch.equal(again[1], batches[number][1])
    drawn = torch.cat([labels for _, labels in batches])
    assert drawn[:10].sort().values.tolist() == drawn[10:].sort().values.tolist() == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert batch_of(split, TINY_DATA, "image", 0, 4, seed=3)[1].tolist() != batches[0][1].tolist()


def test_kinds_follow_their_weights():
    drawn = list(islice(kinds_in_turn({"video": 3, "image": 1}), 40))
    assert drawn.count("video") == 30
    for number in range(1, 41):
        assert abs(drawn[:number].count("video") - 0.75 * number) <= 1


def test_crops_and_views_lie_within_the_clip():
    data = tiny_experiment(data={"extra_frames": 4, "extra_pixels": 8}).data
    time = torch.arange(12, dtype=torch.uint8).view(1, 12, 1, 1, 1).expand(1, 12, 3, 24, 24)
    column = torch.arange(24, dtype=torch.uint8).expand(1, 12, 3, 24, 24)
    views = views_of(time, data, (3, 1))
    assert views.shape == (1, 3, 8, 3, 16, 16)
    assert views[0, :, 0, 0, 0, 0].tolist() == [0, 2, 4]
    assert views_of(column, data, (1, 3))[0, :, 0, 0, 0, 0].tolist() == [0, 4, 8]
    assert views_of(time, data)[0, 0, :, 0, 0, 0].tolist() == list(range(2, 10))
    split = LabelledPixels(time, torch.zeros(1, dtype=torch.long), ["a"])
    starts = set()
    for number in range(40):
        (clip,), _ = batch_of(split, data, "video", number, 1, seed=0)
        frames = clip[:, 0, 0, 0].tolist()
        assert clip.shape == (8, 3, 16, 16) and frames == list(range(frames[0], frames[0] + 8))
        starts.add(frames[0])
    assert starts == {0, 1, 2, 3, 4}


def test_views_are_averaged_as_probabilities():
    experiment = tiny_experiment(
        data={"extra_frames": 4, "extra_pixels": 8}, evaluations={"views": {"views": [2, 3]}, "one": {"views": [1, 1]}}
    )
    pixels = load_pixels(experiment.data, with_images=False)
    torch.manual_seed(0)
    model = build_model(experiment.model, Setting(experiment.data, pixels.num_classes)).eval()
    scores = evaluate(model, pixels, experiment)
    validation = pixels.validation["video"]
    with torch.no_grad():
        views = views_of(validation.pixels, experiment.data, (2, 3))
        predicted = torch.stack([model(view).logits.softmax(-1) for view in views.unbind(1)]).mean(0).argmax(-1)
    assert scores["views"]["correct"] == int((predicted == validation.labels).sum())
    assert scores["one"]["correct"] == scores["video"]["correct"]
    assert scores["views"]["gflops"] == pytest.approx(6 * count_gflops(model, experiment.data), rel=1e-2)


def test_other_tubes_at_evaluation_leave_the_trained_ones(tmp_path):
    dense = [TINY_TUBES[0] | {"stride": [4, 4, 4]}, *TINY_TUBES[1:]]
    with_dense = run_one(tiny_experiment(evaluations={"dense": {"tubes": dense}}), tmp_path / "a")
    without = run_one(tiny_experiment(), tmp_path / "b")
    assert with_dense["scores"]["dense"]["tokens"] > with_dense["tokens"]
    assert with_dense["scores"]["video"] == without["scores"]["video"] and with_dense["losses"] == without["losses"]


def test_joint_training_counts_both_kinds(tmp_path):
    result = run_one(tiny_experiment({"joint": True}, steps=4, mix=JOINT), tmp_path)
    assert {"video", "image"} <= set(result["losses"][-1]) | set(result["losses"][0])
    assert (
        result["scores"]["video"]["chance"] == 0.25 and result["scores"]["image"]["chance"] == 0.25
    )  # 2 of 8 are of a pair
    image = result["scores"]["image"]
    assert image["tokens"] == 4 < result["tokens"] and 0 < image["gflops"] < result["gflops"]
    only = run_one(tiny_experiment({"joint": True}, mix=IMAGES), tmp_path, "two", "image")
    assert set(only["scores"]) == {"image"}
    assert (only["tokens"], only["gflops"]) == (image["tokens"], image["gflops"])


def test_a_start_is_trained_once_and_its_weights_are_taken_over(tmp_path):
    start = tiny_experiment({"joint": True}, mix=IMAGES)
    # A learning rate of next to nothing: the weights after training are those of the start.
    after = tiny_experiment({"joint": True, "num_extra_layers": 1}, learning_rate=1e-30, starts={"weights": start})
    runs = [Run(after, label()), Run(start, label("three", "image"))]
    _, as_row = run_all(runs, tmp_path, "cpu", jobs=1, threads=1)
    files = list((tmp_path / "starts").glob("*.safetensors"))
    assert [file.stem for file in files] == [start.key]
    time = files[0].stat().st_mtime_ns
    run_one(tiny_experiment({"joint": True}, seed=0, starts={"weights": start}), tmp_path, "two")
    assert files[0].stat().st_mtime_ns == time
    # The start itself, as a row of the same table, is not trained again.
    kept = json.loads(files[0].with_suffix(".json").read_text())
    assert as_row["seconds"] == kept["seconds"] and as_row["scores"] == kept["scores"]


def test_kernels_that_start_otherwise_are_left_as_they_are():
    torch.manual_seed(0)
    model = build_model({**TINY_TUBEVIT, "kernel_initialization": "temporal_difference"}, CLIPS)
    kernel = model.tubevit.embeddings.projections[0].weight
    assert kernel.mean(dim=2).abs().max() < 1e-6 < kernel.abs().max()


def test_weights_of_another_model_are_refused():
    model = {"joint": True} | tiny_experiment().model
    classes = {"video": 4, "image": 6}
    start = build_model(model, Setting(TINY_DATA, classes))
    with pytest.raises(ValueError, match="other weights"):
        build_model(model | {"pooling": "cls"}, Setting(TINY_DATA, classes), {"weights": start})


def test_image_to_video_scaling_trains_what_it_says(tmp_path):
    half = {"hidden_size": 12, "intermediate_size": 16}
    small = tiny_experiment({"joint": True, **half}, mix=JOINT)
    large = Experiment({"kind": "vit", "patch_size": 8, **TINY_ENCODER}, TINY_DATA, Recipe(steps=1, mix=IMAGES))
    results = []
    for name, frozen, gate in (("fc", 2, False), ("gate", 1, True), ("full", 0, False)):
        description = {"kind": "scaled", "num_frozen_layers": frozen, "gate": gate}
        experiment = Experiment(
            description, TINY_DATA, Recipe(steps=1, batch_size=2), 0, {"small": small, "large": large}
        )
        results.append(run_one(experiment, tmp_path, name))
    trained = [each["trained_parameters"] for each in results]
    assert trained[0] < trained[1] < trained[2] == results[2]["parameters"]
    assert len(list((tmp_path / "starts").glob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("name", "tokens"), [("videomae", 16), ("vivit", 17), ("timesformer", 33), ("vjepa2", 16), ("vit", 5)]
)
def test_models_of_the_library_take_the_same_input(name, tokens):
    kind = "image" if name == "vit" else "video"
    torch.manual_seed(0)
    model = build_model({"kind": name, "patch_size": 8, **TINY_ENCODER}, Setting(TINY_DATA, {"video": 5, "image": 5}))
    inputs = example_input(TINY_DATA, kind, 2)
    logits = model(**inputs).logits
    assert logits.shape == (2, 5)
    (pixels,) = inputs.values()
    assert not torch.equal(model(**{next(iter(inputs)): pixels + 128}).logits, logits)
    assert count_tokens(model, TINY_DATA) == tokens


@pytest.mark.parametrize("name", ["tubevit", "videomae", "timesformer"])
def test_flops_are_those_of_the_matrix_products(name):
    """Doubling the MLP adds twice its two products, on every token that passes it."""
    fields = {"tubes": TINY_TUBES} if name == "tubevit" else {"patch_size": 8}

    def gflops(width):
        description = {"kind": name, **TINY_ENCODER, **fields, "intermediate_size": width}
        return count_gflops(build_model(description, CLIPS), TINY_DATA)

    model = build_model({"kind": name, **TINY_ENCODER, **fields}, CLIPS)
    tokens, head = count_tokens(model, TINY_DATA), 1 if name == "tubevit" else 0  # the attention pooling has an MLP
    expected = 2 * 2 * 24 * 32 * (2 * tokens + head)
    assert 1e9 * (gflops(64) - gflops(32)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["videomae", "vivit", "vjepa2", "vit"])
def test_attention_of_the_librarys_models_is_counted(name):
    def build(layers):
        return build_model(
            {"kind": name, "patch_size": 8, **TINY_ENCODER, "num_hidden_layers": layers},
            Setting(TINY_DATA, {"video": 4, "image": 4}),
        )

    kind = "image" if name == "vit" else "video"
    two, three = build(2), build(3)
    tokens = count_tokens(two, TINY_DATA)
    layer = 2 * tokens * (4 * 24 * 24 + 2 * 24 * 32) + 4 * tokens * tokens * 24
    counted = count_gflops(three, TINY_DATA, kind) - count_gflops(two, TINY_DATA, kind)
    assert 1e9 * counted == pytest.approx(layer, rel=1e-6)


def test_attention_is_counted():
    """Of twice as many tokens, the products of attention are four times as many; those of linear layers twice."""
    tubes = [{"kernel_size": [1, 8, 8], "stride": [1, 8, 8]}]

    def gflops(frames, layers):
        data = tiny_experiment(data={"num_frames": frames}).data
        description = {"kind": "tubevit", **TINY_ENCODER, "num_hidden_layers": layers, "tubes": tubes}
        return 1e9 * count_gflops(build_model(description, Setting(data, {"video": 4})), data)

    for frames in (8, 16):
        tokens = 4 * frames
        layer = 2 * tokens * (4 * 24 * 24 + 2 * 24 * 32) + 4 * tokens * tokens * 24
        assert gflops(frames, 3) - gflops(frames, 2) == pytest.approx(layer, rel=1e-6)


@pytest.mark.parametrize(
    "changes", [{"mix": {}}, {"mix": {"sound": 1.0}}, {"mix": {"video": 0}}, {"steps": 0}, {"batch_size": 0}]
)
def test_bad_recipes_are_refused(changes):
    with pytest.raises(ValueError) as error:
        Recipe(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_result_that_lacks_a_field_is_refused(name, tmp_path):
    path = tmp_path / "x.json"
    write_result(path, made_result())
    assert read_result(path)["group"] == "table_7a"
    result = made_result()
    del result[name]
    write_result(path, result)
    with pytest.raises(ValueError, match=rf"x\.json.*{name}") as error:
        read_result(path)
    assert "\n" not in str(error.value)


def test_a_row_without_its_score_is_refused(tmp_path):
    write_result(tmp_path / "x.json", made_result(row={"score": "sound"}))
    with pytest.raises(ValueError, match="score"):
        read_result(tmp_path / "x.json")
