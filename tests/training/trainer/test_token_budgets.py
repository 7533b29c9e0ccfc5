"""Laws of `token_budget_range`: a budget for each step that depends on seed and step alone, and the loss with a teacher."""

import json

import pytest
import tiny_runs
import torch
from safetensors.torch import load_file
from tiny_models import make_model, tiny_clips
from tiny_runs import ONE_VIEW, TINY_MODEL, arguments, kill_behind, make_run, make_videos
from warm_processes import run_python

from tubevit import TubeViTForVideoClassification
from tubevit.training import run_video_classification, run_video_classification_no_trainer
from tubevit.training.cli import main
from tubevit.training.trainer.token_budgets import TEMPERATURE, TokenBudgets, spread


SCRIPTS = {"train": run_video_classification, "train-loop": run_video_classification_no_trainer}
FULL = 20  # tube tokens of a clip of `tiny_models`
BUDGETS = {"token_budget_range": [5, FULL], "budget_distillation": 0.5}
# Without random numbers that depend on the script, the process or the number of batches.
PLAIN = {**ONE_VIEW, "max_steps": 4, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
PLAIN |= {"optim": "sgd", "learning_rate": 0.05, "mixup_alpha": 0.3}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"), 6, 2)


def make_budgets(distillation=0.5, seed=0, lowest=5, **fields):
    model = make_model(TubeViTForVideoClassification, **fields)
    return model, TokenBudgets(model, lowest, FULL, distillation, seed)


def num_tokens(model):
    return sum(model.tubevit.embeddings.num_tokens_per_tube((8, 16, 16)))


def numbers_of_steps(seed, steps=range(60)):
    model, budgets = make_budgets(seed=seed)
    numbers = []
    for step in steps:
        with budgets.of_step(step):
            numbers.append(num_tokens(model))
        assert num_tokens(model) == FULL
    return numbers


def test_the_budget_depends_on_seed_and_step_alone():
    numbers = numbers_of_steps(3)
    assert set(numbers) == set(spread(5, FULL)) and max(numbers.count(each) for each in set(numbers)) < 20
    assert numbers[40:50] == numbers_of_steps(3, range(40, 50))
    assert numbers != numbers_of_steps(4)


def test_all_tokens_are_back_after_an_error():
    model, budgets = make_budgets()
    with pytest.raises(RuntimeError, match="stop"), budgets.of_step(1):
        raise RuntimeError("stop")
    assert num_tokens(model) == FULL


def test_the_teacher_is_the_evaluated_model_at_all_tokens():
    model, budgets = make_budgets(lowest=18, hidden_dropout_prob=0.5, classifier_dropout=0.5)
    expected = model(pixel_values_videos=tiny_clips()).logits
    model.train()
    has_teacher = []
    for step in range(20):
        with budgets.of_step(step):
            inside = budgets.embeddings.tubes
            teacher = budgets.teacher_logits(model, {"pixel_values_videos": tiny_clips()})
            assert model.training and budgets.embeddings.tubes is inside
            has_teacher.append(teacher is not None)
            assert (teacher is None) == (budgets.level.num_tokens == FULL)
            if teacher is not None:
                assert torch.equal(teacher, expected) and not teacher.requires_grad
                assert budgets.step_flops() == pytest.approx(1e9 * (3 * budgets.level.gflops + budgets.teacher.gflops))
    assert 0 < sum(has_teacher) < 20


GROUPS = [["noun", 2], ["verb", 3]]
HARD, SOFT = torch.tensor([0, 4, -100, 2]), torch.rand(4, 5, generator=torch.Generator().manual_seed(1)).softmax(-1)
SOFT[2] = -100
LABELS = {
    "class": ({}, HARD),
    "mixup": ({}, SOFT),
    "several": ({"problem_type": "multi_label_classification"}, torch.where(SOFT == -100, -100, (SOFT > 0.2).float())),
    "groups": ({"label_groups": GROUPS}, torch.tensor([[0, 4], [1, 2], [-100, -100], [0, 3]])),
    "groups, one of them unknown": (
        {"label_groups": GROUPS},
        torch.tensor([[0, -100], [1, 2], [-100, -100], [-100, 3]]),
    ),
}


@pytest.mark.parametrize("kind", LABELS)
def test_loss_is_that_of_labels_and_teacher_in_any_batches(kind):
    fields, labels = LABELS[kind]
    _, budgets = make_budgets(0.3, **{"problem_type": "single_label_classification", **fields})
    student, teacher = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    num_items = int((labels != -100).sum())

    def expected_of(rows) -> torch.Tensor:
        """Of one clip, by torch's own functions."""
        (one,), (two,), label = student[rows] / TEMPERATURE, teacher[rows] / TEMPERATURE, labels[rows]
        if kind == "several":
            cross = torch.nn.functional.binary_cross_entropy_with_logits
            plain = cross(student[rows], label.double(), reduction="sum") / 5
            divergence = (cross(one, two.sigmoid(), reduction="sum") - cross(two, two.sigmoid(), reduction="sum")) / 5
        else:
            groups = [slice(0, 2), slice(2, 5)] if kind.startswith("groups") else [slice(0, 5)]
            first = torch.tensor([0, 2][: len(groups)])
            target = label[0].double() if kind == "mixup" else label.reshape(-1) - first
            known = [index for index in range(len(groups)) if kind == "mixup" or label.reshape(-1)[index] != -100]
            plain = sum(
                torch.nn.functional.cross_entropy(
                    student[rows][0, groups[index]], target if kind == "mixup" else target[index]
                )
                for index in known
            ) / len(groups)
            divergence = sum(
                torch.nn.functional.kl_div(one[each].log_softmax(-1), two[each].softmax(-1), reduction="sum")
                for each in (groups[index] for index in known)
            ) / len(groups)
        return 0.7 * plain + 0.3 * TEMPERATURE**2 * divergence

    # A label counts equally, and a clip without any does not count.
    num_clips = num_items / (2 if kind.startswith("groups") else 5 if labels.ndim == 2 else 1)
    expected = sum(expected_of(slice(index, index + 1)) for index in (0, 1, 3)) / num_clips
    losses = [
        budgets.loss(labels[rows], student[rows], teacher[rows], torch.tensor(num_items))
        for rows in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(sum(losses), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(budgets.loss(labels, student, teacher, None), expected, rtol=1e-6, atol=1e-7)


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def assert_same(one, two, **tolerance):
    one, two = weights_of(one), weights_of(two)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("command", SCRIPTS)
def test_range_of_all_tokens_is_ordinary_training(command, videos, tmp_path, capsys):
    for name, budgets in (("whole", {}), ("range", {**BUDGETS, "token_budget_range": [FULL, FULL]})):
        options = {**PLAIN, "drop_path_rate": 0.2, "max_steps": 2, **budgets}
        assert SCRIPTS[command].train(make_run(videos, tmp_path / name, **options)) == 0
    assert_same(tmp_path / "whole", tmp_path / "range")
    assert "each step 20 tokens with equal probability" in capsys.readouterr().out


def test_scripts_accumulation_and_processes_agree(videos, tmp_path):
    """All have the same budget in a step, and a loss that does not depend on how its clips are divided."""
    options = {**PLAIN, **BUDGETS, "label_smoothing": 0.1, "mixup_alpha": 0.0}
    one = tmp_path / "one"
    assert SCRIPTS["train"].train(make_run(videos, one, per_device_train_batch_size=4, **options)) == 0
    accumulated = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    assert SCRIPTS["train-loop"].train(make_run(videos, tmp_path / "loop", **options, **accumulated)) == 0
    given = arguments(videos, tmp_path / "two", per_device_train_batch_size=2, **options)
    result = run_python("-m", "tubevit.training.cli", "train", *given, ranks=2)
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ("loop", "two"):
        assert_same(one, tmp_path / name, rtol=1e-3, atol=1e-5)
    plain = tmp_path / "plain"
    options |= {"token_budget_range": None, "budget_distillation": 0.0}
    assert SCRIPTS["train"].train(make_run(videos, plain, per_device_train_batch_size=4, **options)) == 0
    with pytest.raises(AssertionError):
        assert_same(one, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("command", SCRIPTS)
def test_killed_and_resumed_is_uninterrupted(command, videos, tmp_path, capsys):
    options = {**tiny_runs.RANDOM, **BUDGETS, "num_train_epochs": 2}
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert SCRIPTS[command].train(make_run(videos, whole, **options)) == 0
    shown = capsys.readouterr().out
    assert "token budgets" in shown and "evaluations 20 tokens" in shown and "logits at 20 tokens" in shown
    kill_behind(6, videos, folder, command, **options)
    assert SCRIPTS[command].train(make_run(videos, folder, resume_from_checkpoint="true", **options)) == 0
    assert_same(whole, folder)
    config = json.loads((whole / "config.json").read_text())
    assert (
        config["tubes"] == TubeViTForVideoClassification.config_class(**TINY_MODEL, num_frames=8, image_size=16).tubes
    )


def test_compiles_once_for_each_budget():
    """More graphs than `recompile_limit` would run without a compiler, and a new graph in each step for minutes."""
    import torch._dynamo as dynamo
    from torch._dynamo.testing import CompileCounter

    limit = dynamo.config.recompile_limit
    try:
        dynamo.reset()
        dynamo.config.recompile_limit = 2
        model = make_model(TubeViTForVideoClassification, num_hidden_layers=1).train()
        budgets, counter = TokenBudgets(model, 18, FULL, 0.5, 0, is_compiled=True), CompileCounter()
        compiled = torch.compile(model, backend=counter)
        clips, graphs = tiny_clips(), []
        for step in range(40):
            with budgets.enough_recompiles(), budgets.of_step(step):
                teacher = budgets.teacher_logits(compiled, {"pixel_values_videos": clips})
                logits = compiled(pixel_values_videos=clips).logits
                assert (teacher is None) == (budgets.level is budgets.teacher) and logits.requires_grad
            graphs.append(counter.frame_count)
        assert len(budgets.levels) == 2
        assert graphs[-1] == graphs[10] == 3  # each budget in training, the larger one in evaluation mode
        model.set_token_budget(18)
        compiled(pixel_values_videos=clips)
        model.set_token_budget(None)
        compiled(pixel_values_videos=clips)
        assert counter.frame_count == 3  # the tubes are those of the budgets of training
        assert dynamo.config.recompile_limit == 2
    finally:
        dynamo.config.recompile_limit = limit
        dynamo.reset()


REFUSED = {
    "token_budget_range=[3]": "must be two whole numbers of at least 1, the smallest and the largest, got [3]",
    "token_budget_range=[9,5]": "got [9, 5]",
    "token_budget_range=[5,20.5]": "got [5, 20.5]",
    "token_budget_range=5": "token_budget_range must be a list",
    "token_budget_range=[2,20]": "token_budget_range=[2, 20]: token_budget=2 is too small for a clip of 8x16x16",
    "token_budget_range=[5,21]": "a clip of this model has 20 tube tokens",
    "budget_distillation=2": "budget_distillation must be from 0 to 1, got 2",
    "preset=vivit-b16x2": "is for TubeViT, and this is a ViViT",
    'model_config={"position_embedding": "learned"}': "position_embedding='learned' numbers the tokens",
    "class_weights=balanced": "budget_distillation gives the classes equal weights",
    "datasets.a.data=here": "Joint training does not support token_budget_range",
}


@pytest.mark.parametrize(("option", "message"), REFUSED.items())
def test_options_that_cannot_be_used_are_one_line(option, message, videos, tmp_path, capsys):
    options = {"token_budget_range": "[5,20]", "budget_distillation": "0.5"}
    given = dict(pair.split("=", 1) for pair in arguments(videos, tmp_path / "run", **options))
    name, value = option.split("=", 1)
    if name == "model_config":
        value = json.dumps({**TINY_MODEL, **json.loads(value)})
    elif name == "preset":
        del given["model_config"]
    elif name.startswith("datasets"):
        del given["data"]
    assert main(["train", *(f"{key}={each}" for key, each in {**given, name: value}.items())]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_distillation_without_a_range_is_said():
    training = make_run("x", "y", budget_distillation=0.5).training
    assert "budget_distillation=0.5 has no effect with token_budget_range=none." in training.without_effect()


def test_sharded_weights_are_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="token_budget_range does not work with FSDP"):
        make_run("x", "y", token_budget_range=[5, 20])
