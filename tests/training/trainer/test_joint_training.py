"""Several data sets in one run: options, samples of the batches, and the parameters that a batch trains."""

import argparse
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from tiny_runs import OPTIONS, make_images, make_videos

from tubevit.training.command_line import add_config_arguments, parse_arguments
from tubevit.training.data.joint_datasets import JointBatches, draw_names
from tubevit.training.models import build as build_joint
from tubevit.training.options import write_yaml
from tubevit.training.run_folder import write_run_files
from tubevit.training.trainer import run_steps
from tubevit.training.trainer.build import build_run
from tubevit.training.trainer.checkpointing import check_same_run
from tubevit.training.trainer.joint_trainer import JointTrainer, RunningScores
from tubevit.training.trainer.model_card import history_of
from tubevit.training.trainer.run_config import JointRun, TrainingRun, all_blocks, read_run
from tubevit.training.trainer.run_steps import split_and_evaluate


ROWS, SIZES, WEIGHTS = {"a": 23, "b": 7, "c": 40}, {"a": 4, "b": 2, "c": 8}, {"a": 3, "b": 1, "c": 2}


def batches(world_size: int = 1, epoch: int = 0, seed: int = 5, factor: int = 1) -> JointBatches:
    sizes = {name: factor * size for name, size in SIZES.items()}
    made = JointBatches(ROWS, sizes, WEIGHTS, seed, world_size)
    made.set_epoch(epoch)
    return made


# Samples of a batch


def test_data_sets_are_sampled_in_proportion_to_their_weights():
    """Within one batch in each epoch, and over many epochs for each position in the epoch."""
    number, total, num_epochs = 8, sum(WEIGHTS.values()), 3000
    epochs = [draw_names(WEIGHTS, 0, epoch, number) for epoch in range(num_epochs)]
    for name, weight in WEIGHTS.items():
        share = weight / total
        assert all(abs(epoch.count(name) - number * share) < 1 for epoch in epochs), name
        for place in range(number):
            seen = Counter(epoch[place] for epoch in epochs)[name] / num_epochs
            assert abs(seen - share) < 5 * (share * (1 - share) / num_epochs) ** 0.5, (name, place)


def test_sampling_depends_on_seed_and_epoch_only():
    state = torch.get_rng_state()
    first = draw_names(WEIGHTS, 0, 1, 50)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert draw_names(WEIGHTS, 0, 1, 50) == first
    assert draw_names(WEIGHTS, 1, 1, 50) != first != draw_names(WEIGHTS, 0, 0, 50)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_processes_have_batches_of_one_data_set_in_each_step(world_size):
    sampler = batches(world_size)
    ranks = [list(BatchSamplerShard(sampler, world_size, rank)) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1 and len(ranks[0]) == sampler.num_steps
    for step in zip(*ranks, strict=True):
        names = {index.name for batch in step for index in batch}
        assert len(names) == 1
        assert all(len(batch) == SIZES[names.copy().pop()] for batch in step)
        assert len({index for batch in step for index in batch}) == sum(map(len, step))


def test_batches_of_two_processes_equal_one_process_with_twice_the_size():
    pairs = list(batches(world_size=2))
    assert [first + second for first, second in zip(pairs[::2], pairs[1::2], strict=True)] == list(batches(factor=2))


def test_every_row_is_sampled_once_in_each_epoch_of_its_data_set():
    """The epochs of a data set continue over the epochs of the run."""
    taken = {name: [] for name in ROWS}
    for epoch in range(9):
        for batch in batches(epoch=epoch):
            taken[batch[0].name] += batch
    for name, indices in taken.items():
        for start in range(0, len(indices) - ROWS[name], ROWS[name]):
            whole = indices[start : start + ROWS[name]]
            assert {index.epoch for index in whole} == {start // ROWS[name]}
            assert sorted(index.row for index in whole) == list(range(ROWS[name]))
        orders = {tuple(index.row for index in indices if index.epoch == epoch) for epoch in (0, 1)}
        assert len(orders) == 2, name


def test_resumed_run_has_the_remaining_batches():
    whole = [batch for epoch in range(4) for batch in batches(epoch=epoch)]
    number = len(batches())
    for done in (0, 1, number - 1, number, 2 * number + 3):
        epoch, skipped = divmod(done, number)
        rest = list(SkipBatchSampler(batches(epoch=epoch), skipped))
        rest += [batch for later in range(epoch + 1, 4) for batch in batches(epoch=later)]
        assert rest == whole[done:]


def test_epoch_has_as_many_steps_as_all_data_sets_together():
    assert batches().num_steps == 6 + 4 + 5
    assert batches(world_size=2).num_steps == 3 + 2 + 3 and len(batches(world_size=2)) == 16
    assert len(list(batches(world_size=2))) == 16


# Options

DATA = {"videos": {"data": "clips"}, "images": {"data": "pictures", "weight": 3}}


def read(*argv: str) -> TrainingRun | JointRun:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, all_blocks())
    return read_run(parse_arguments(parser, argv))


def test_options_of_data_sets_from_file_and_arguments(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "preset: tiny\nrandom_erasing_prob: 0.25\ndatasets:\n  videos: {data: clips, data_format: list}\n"
        "  images: {weight: 1e-1, random_erasing_prob: 0}\n"
    )
    run = read("--config", str(file), "datasets.images.data=pictures", "datasets.videos.weight=2", "seed=3")
    assert isinstance(run, JointRun) and run.names == ["videos", "images"]
    assert (run.options_of("videos").weight, run.options_of("images").weight) == (2, 0.1)
    videos, images = run.run_of("videos"), run.run_of("images")
    assert (videos.data.data, videos.data.data_format, images.data.data) == ("clips", "list", "pictures")
    assert (videos.augmentation.random_erasing_prob, images.augmentation.random_erasing_prob) == (0.25, 0)
    assert videos.training.seed == images.training.seed == 3


def test_without_datasets_the_run_is_a_training_run():
    assert isinstance(read("preset=tiny", "data=videos"), TrainingRun)


def test_written_options_read_back_the_same(tmp_path):
    run = JointRun.of(preset="tiny", datasets=DATA)
    write_yaml(tmp_path / "run.yaml", vars(run))
    assert read("--config", str(tmp_path / "run.yaml")) == run


def test_resume_with_another_order_of_data_sets_raises(tmp_path):
    run = JointRun.of(preset="tiny", datasets=DATA)
    write_run_files(tmp_path, vars(run), {}, {})
    check_same_run(tmp_path, vars(run), {}, {})
    turned = JointRun.of(preset="tiny", datasets=dict(reversed(DATA.items())))
    with pytest.raises(ValueError, match=r"has datasets=\{'videos'.*, not \{'images'.*resume it with its own options"):
        check_same_run(tmp_path, vars(turned), {}, {})


def test_data_set_may_override_augmentation():
    run = read(
        "preset=tiny",
        "min_temporal_span=0.9",
        "datasets.a.data=x",
        "datasets.a.min_temporal_span=0.5",
        "datasets.b.data=y",
    )
    assert [run.run_of(name).augmentation.min_temporal_span for name in "ab"] == [0.5, 0.9]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["datasets.videos.wieght=2"], r"^datasets\.videos: There is no option 'wieght'; the nearest is 'weight'"),
        (["datasets.videos.weight=0"], r"^datasets\.videos: weight must be above 0, got 0"),
        (["datasets.videos.kind=sound"], r"^datasets\.videos: kind must be one of video, image"),
        (
            ["datasets.videos.data_format=lst"],
            r"^datasets\.videos: data_format must be one of \d+ choices, the nearest is list",
        ),
        (["datasets.videos.per_device_train_batch_size=0"], "must be at least 1, got 0"),
        (
            ["datasets.images.weight=2"],
            r"^datasets\.images: Give data, or .* Set datasets\.images\.data; .* are videos, images\.",
        ),
        (["datasets.videos=clips"], r"^datasets\.videos must be a mapping of options, got 'clips'"),
        (["datasets=clips"], "^datasets must be a mapping"),
        (["datasets.my.videos.data=clips"], r"^datasets\.my: There is no option 'videos'"),
        (["datasets.1.data=clips"], "^datasets: '1' cannot name a data set"),
        (["datasets.evaluation.data=clips"], "^datasets: 'evaluation' cannot name a data set"),
        (["datasets.runs.data=clips"], "^datasets: 'runs' cannot name a data set"),
        (["datasets.videos.data.folder=clips"], r"datasets\.videos\.data\.folder: data is not a mapping"),
        (["train_data=clips"], r"^With datasets, set train_data for each data set: datasets\.NAME\.train_data"),
        (["lora_rank=4"], "Joint training does not support lora_rank"),
        (["corrupt_videos_file=a.csv"], r"set datasets\.NAME\.corrupt_videos_file"),
        (["trainer.ddp_static_graph=true"], "heads of other data sets unused"),
        (["trainer.ddp_find_unused_parameters=false"], "heads of other data sets unused"),
    ],
)
def test_wrong_options_raise_one_line(argv, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        read("preset=tiny", "datasets.videos.data=clips", *argv)
    assert "\n" not in str(error.value)


# Training on a batch


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    make_videos(folder / "videos", 3, 1)
    make_images(folder / "images", 4, 1)
    data = {
        "videos": {"data": str(folder / "videos"), "loss_weight": 0.5},
        "images": {"data": str(folder / "images"), "weight": 3, "mixup_alpha": 0.2, "per_device_train_batch_size": 6},
    }
    options = {**OPTIONS, "datasets": data, "output_dir": str(folder / "run"), "weight_decay": 0.5, "layer_decay": 1}
    return build_run(JointRun.of(**options), folder)


@pytest.fixture
def trainer(setup):
    return JointTrainer(setup, setup.run.training.for_trainer(), dict.fromkeys(setup.parts, 1.0))


def batch_of(trainer, name: str) -> dict:
    loader = trainer.get_train_dataloader()
    return next(batch for batch in loader if batch["head"] == name)


def test_samples_depend_on_the_epoch_of_their_data_set(setup):
    images = setup.parts["images"].train_clips
    index = next(iter(setup.batches(1)))[0]._replace(name="images", row=2)
    for epoch in (0, 3):
        images.set_epoch(epoch)
        expected = images[2]
        images.set_epoch(7)
        sample = setup.train_clips[index._replace(epoch=epoch)]
        assert sample.pop("head") == "images" and sample["sample_seed"] == expected["sample_seed"]
        assert torch.equal(sample["pixel_values"], expected["pixel_values"])


def test_batches_have_the_size_labels_and_augmentation_of_their_data_set(setup, trainer):
    for batch in islice(trainer.get_train_dataloader(), 6):
        is_image = batch["head"] == "images"
        assert batch["labels"].shape == ((6, 2) if is_image else (4,))  # mixing makes labels soft
        pixels = batch["pixel_values"] if is_image else batch["pixel_values_videos"]
        assert pixels.shape == ((6, 3, 16, 16) if is_image else (4, 8, 3, 16, 16)) and pixels.dtype == torch.uint8


@pytest.mark.parametrize("name", ["videos", "images"])
def test_trainer_loss_equals_model_loss(name, trainer):
    model = trainer.model.double().eval()
    (batch,), _ = trainer.get_batch_samples(iter([batch_of(trainer, name)]), 1, trainer.args.device)
    plain = {key: value for key, value in batch.items() if key != "num_known"}
    torch.testing.assert_close(trainer.compute_loss(model, batch), model(**plain).loss)
    assert "labels" in batch  # of which the caller still counts
    model.float()


@pytest.mark.parametrize("name", ["videos", "images"])
def test_unused_parameters_do_not_change(name, trainer):
    """Weight decay and momentum do not change them either."""
    for (
        parameter
    ) in trainer.model.classifiers.parameters():  # new classifiers are zero and give the backbone no gradient
        torch.nn.init.normal_(parameter)
    trainer.create_optimizer()
    other = {"videos": "images", "images": "videos"}[name]
    for each in (other, name):
        before = {key: parameter.detach().clone() for key, parameter in trainer.model.named_parameters()}
        (batch,), _ = trainer.get_batch_samples(iter([batch_of(trainer, each)]), 1, trainer.args.device)
        trainer.current_gradient_accumulation_steps = 1
        trainer.training_step(trainer.model, batch)
        trainer.optimizer.step()
        trainer.model.zero_grad()
    same = {key for key, parameter in trainer.model.named_parameters() if torch.equal(before[key], parameter)}
    unused = {f"classifiers.{other}.weight", f"classifiers.{other}.bias"}
    if name == "images":  # which only the last of the tubes takes
        unused |= {key for key in before if "projections.0" in key or "projections.1" in key}
        assert len(unused) > 2
    assert same == unused


def test_chance_loss_is_the_weighted_mean(setup):
    videos, images = (setup.parts[name].chance_loss for name in ("videos", "images"))
    assert setup.chance_loss == pytest.approx(0.25 * 0.5 * videos + 0.75 * images)


def test_running_scores_per_data_set():
    scores = RunningScores({"hard": False, "soft": False, "many": True}, torch.device("cpu"))
    alone = SimpleNamespace(reduce=lambda tensor, how: tensor, num_processes=1)
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    scores.add("hard", torch.tensor(1.0), logits, torch.tensor([0, 0, -100]))
    scores.add("hard", torch.tensor(3.0), logits, torch.tensor([0, 1, 0]))
    scores.add("soft", torch.tensor(0.5), logits, torch.tensor([[0.9, 0.1], [0.6, 0.4], [-100.0, -100.0]]))
    assert scores.take(alone) == pytest.approx(
        {"hard/loss": 2.0, "hard/accuracy": 4 / 5, "soft/loss": 0.5, "soft/accuracy": 1 / 2}
    )
    scores.add("many", torch.tensor(0.25), logits, torch.ones(3, 2))
    assert scores.take(alone) == {"many/loss": 0.25}


# Results


def test_all_data_sets_are_evaluated_after_an_incomplete_evaluation(setup, tmp_path, monkeypatch):
    scored = []

    def evaluate_saved(run, folder, *args):
        scored.append(folder.name)
        return 1 if folder.name == "videos" else 0

    monkeypatch.setattr(build_joint, "save_classifiers", lambda model, folder: None)
    monkeypatch.setattr(run_steps, "evaluate_saved", evaluate_saved)
    assert split_and_evaluate(setup, tmp_path) == 1
    assert scored == ["videos", "images"]


def test_history_excludes_data_sets_with_the_same_name_prefix():
    at = {"step": 3, "epoch": 1.0}
    scores = {"eval_clips_accuracy": 0.5, "eval_clips_old_accuracy": 0.25, "eval_mean_score": 0.375}
    history = [{"loss": 2.0, "step": 3}, {**scores, **at}]
    assert history_of("clips", ["clips_old"], history) == [{"eval_accuracy": 0.5, **at}]
    assert history_of("clips_old", ["clips"], history) == [{"eval_accuracy": 0.25, **at}]
