"""Options of a training run: defaults, files, arguments, and error messages."""

import argparse
import functools
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands import launch
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from torch.distributed.fsdp import StateDictType
from transformers import HfArgumentParser, TrainingArguments

from tubevit import TubeViTConfig, TubeViTForVideoClassification
from tubevit.presets import PRESETS
from tubevit.training.command_line import add_config_arguments, parse_arguments
from tubevit.training.data.video_datasets import VideoData
from tubevit.training.data.worker_processes import gpu_messages
from tubevit.training.models.build import make_model
from tubevit.training.option_types import convert
from tubevit.training.options import load_config_file, make_config, write_yaml
from tubevit.training.trainer.run_config import (
    RECIPES,
    JointRun,
    TrainingRun,
    all_blocks,
    check_sharding,
    read_run,
    training_blocks,
)
from tubevit.training.trainer.training_arguments import VideoTrainingArguments


GIVEN = {"preset": "tiny", "data": "videos"}
RECIPE_FILES = sorted(RECIPES.glob("*.yaml"))


@functools.cache
def config_parser() -> argparse.ArgumentParser:
    """Building it takes longer than parsing. Parsing changes nothing in it."""
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, all_blocks())
    return parser


def read(*argv: str) -> dict:
    return vars(read_run(parse_arguments(config_parser(), argv)))


def datasets_of(recipe: Path) -> list[str]:
    return list(yaml.safe_load(recipe.read_text())["datasets"])


def test_names_are_unique_over_all_blocks():
    names = [each.name for block in all_blocks().values() for each in fields(block)]
    assert len(names) == len(set(names))


def test_arguments_override_the_file_and_the_file_overrides_defaults(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "model: {preset: tiny}\ndata: videos\nlearning_rate: 1e-3\nweight_decay: 0.5\ntraining:\n  optim: sgd\n"
    )
    config = read(
        "--config", str(file), "weight_decay=0.25", "training.num_train_epochs=2", "--max-grad-norm", "3", "--use_cpu"
    )
    training = config["training"]
    assert (training.learning_rate, training.weight_decay, training.num_train_epochs) == (1e-3, 0.25, 2)
    assert (training.optim, training.max_grad_norm, training.lr_scheduler_type) == ("sgd", 3, "cosine")
    assert config["training"].use_cpu and config["data"].data == "videos"


def test_entries_of_a_mapping_are_added_to_those_of_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model:\n  preset: tiny\n  model_config: {hidden_size: 24, pooling: mean}\ndata: {data: videos}\n")
    config = read(
        "--config",
        str(file),
        "model_config.layer_norm_eps=1e-5",
        "model_config.pooling=cls",
        "lr_scheduler_kwargs.num_cycles=2",
    )
    assert config["model"].model_config == {"hidden_size": 24, "pooling": "cls", "layer_norm_eps": 1e-5}
    assert config["training"].lr_scheduler_kwargs == {"num_cycles": 2}


def test_written_options_read_back_the_same(tmp_path):
    run = TrainingRun.of(**GIVEN, learning_rate=3e-6, model_config={"tubes": [{"kernel_size": [1, 8, 8]}]}, fps=None)
    blocks = training_blocks()
    write_yaml(tmp_path / "all.yaml", vars(run))
    assert make_config(load_config_file(str(tmp_path / "all.yaml"), blocks), blocks) == vars(run)


def test_hf_argument_parser_reads_the_same():
    argv = ["--preset", "tiny", "--data", "videos", "--learning_rate", "1e-3", "--num_frames", "8", "--use_cpu"]
    theirs = HfArgumentParser(list(training_blocks().values())).parse_args_into_dataclasses(argv)
    theirs = vars(TrainingRun(**dict(zip(training_blocks(), theirs, strict=True)))).values()
    assert [asdict(block) for block in theirs] == [asdict(block) for block in read(*argv).values()]


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("3e5", int, 300_000),
        ("12", int | None, 12),
        ("NULL", int | None, None),
        ("1e-4", float, 1e-4),
        (1, float, 1.0),
        ("off", bool, False),
        ("none", str, "none"),
        ("null", str | None, None),
        (7, str, "7"),
        ('{"a": 1}', dict | str | None, {"a": 1}),
    ],
)
def test_values_take_the_type_of_their_field(value, annotation, expected):
    result = convert(value, annotation, "name")
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"), [("1.5", int), ("x", float), (True, float), ("2", bool), (None, int), ([], str)]
)
def test_values_of_wrong_types_raise(value, annotation):
    with pytest.raises(TypeError, match=r"^some_name must be "):
        convert(value, annotation, "some_name")


WRONG_FILES = {
    "training: {lerning_rate: 1}": "no option 'lerning_rate'; the nearest is 'learning_rate'",
    "lerning_rate: 1": "no option 'lerning_rate'; the nearest is 'learning_rate'",
    "trianing: {learning_rate: 1}": "no option 'trianing'; the nearest is 'training'",
    "model: {learning_rate: 1}": "It belongs to the block training",
    "learning_rate: 1\ntraining: {learning_rate: 2}": "gives learning_rate twice",
    "learning_rate: 1\nlearning_rate: 2": "line 1: the key 'learning_rate' is given twice",
    "- 1": "must contain options",
    "a: [": "is not YAML",
    "learning_rate: fast": "learning_rate must be a number or null, got 'fast'",
    "training: {max_steps: 0}": "max_steps must be at least 1",
    "pad_mode: lop": "pad_mode must be one of loop, last, error",
}


@pytest.mark.parametrize(("text", "message"), WRONG_FILES.items())
def test_wrong_files_raise_one_line(text, message, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        read("--config", str(file), "preset=tiny", "data=videos")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["lerning_rate=1"], "the nearest is 'learning_rate'"),
        (["learning_rate"], "does not have the form option=value"),
        (["learning_rate.x=1"], "is not a mapping"),
        (["--config", "finetune-smal"], "did you mean the recipe 'finetune-small'"),
        (["preset=tiny"], "Give data, or one or more of train_data"),
        (["data=videos"], "Give model_name_or_path"),
        (["data=videos", "preset=tiny", "layer_decay=0"], "layer_decay must be above 0"),
        (["data=videos", "preset=tiny", "short_side=8", "image_size=16"], "smaller than the crop"),
        (["data=videos", "preset=tiny", "model_config=[1]"], "model_config must be a mapping"),
    ],
)
def test_wrong_arguments_raise_one_line(argv, message):
    with pytest.raises((ValueError, TypeError, OSError), match=message) as error:
        read(*argv)
    assert "\n" not in str(error.value)


def test_every_field_of_training_arguments_is_an_option():
    config = read("preset=tiny", "data=videos", "--use_cpu", "--dataloader-drop-last", "ddp_timeout=9", "--bf16")
    training = config["training"]
    assert training.dataloader_drop_last and training.ddp_timeout == 9 and training.bf16
    assert {each.name for each in fields(TrainingArguments)} <= {each.name for each in fields(training)}


@pytest.mark.parametrize(
    ("argv", "precision"),
    [
        (["mixed_precision=bf16"], "bf16"),
        (["bf16=true"], "bf16"),
        (["--fp16"], "fp16"),
        (["--bf16", "mixed_precision=bf16"], "bf16"),
        (["--no-check-data"], "no"),
    ],
)
def test_mixed_precision_agrees_with_bf16_and_fp16(argv, precision):
    training = read("preset=tiny", "data=videos", "--use_cpu", *argv)["training"]
    assert (training.mixed_precision, training.bf16, training.fp16) == (
        precision,
        precision == "bf16",
        precision == "fp16",
    )
    assert training.to_options()["mixed_precision"] == precision


CONTRADICTIONS = {
    "mixed_precision=no bf16=true": "bf16=true contradicts mixed_precision=no",
    "mixed_precision=fp16 bf16=true": "bf16=true contradicts mixed_precision=fp16",
    "bf16=true fp16=true": "bf16=true and fp16=true exclude each other",
    "label_smoothing_factor=0.1": "set label_smoothing",
    "remove_unused_columns=true": "remove_unused_columns=True is not supported",
    "eval_strategy=no load_best_model_at_end=true": "load_best_model_at_end needs evaluations",
    "trainer.xyzzy=0.1": r"There is no option 'xyzzy'; `--help` lists the options\.$",
    "trainer.warmup_ratio=0.1": "There is no option 'warmup_ratio'; the nearest is 'warmup_steps'",
}
WITHOUT_MEANING = [
    *("learning_rate=nan", "learning_rate=0", "fps=inf", "fps=-1", "seed=-5", "weight_decay=-1", "adam_beta1=1"),
    *(
        "adam_epsilon=0",
        "max_grad_norm=inf",
        "warmup_steps=-1",
        "logging_steps=0",
        "logging_steps=nan",
        "data_seed=-1",
    ),
    *("per_device_train_batch_size=0", "num_train_epochs=inf", "num_train_epochs=0", "max_steps=-2", "ema_decay=1"),
    *(
        "ema_decay=nan",
        "split_seed=-1",
        "validation_fraction=nan",
        "mixup_alpha=inf",
        "label_smoothing=1.5",
        "lora_rank=-1",
    ),
    *(
        "num_frames=0",
        "image_size=-16",
        "drop_path_rate=nan",
        "max_corrupt_fraction=2",
        "save_total_limit=0",
        "ddp_timeout=0",
    ),
    *(
        "rrc_ratio_max=inf",
        "rand_augment_magnitude=31",
        "shuffle_buffer_size=0",
        "eval_delay=-1",
        "label_smoothing_factor=nan",
    ),
    *("lr_scheduler_kwargs.min_lr=inf", "model_config.layer_norm_eps=nan"),
]


@pytest.mark.parametrize(("text", "message"), CONTRADICTIONS.items())
def test_contradictions_and_options_without_effect_raise(text, message):
    with pytest.raises(ValueError, match=message) as error:
        read("preset=tiny", "data=videos", *text.split())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", WITHOUT_MEANING)
def test_numbers_out_of_range_raise(text):
    name, _, value = text.partition("=")
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {float(value):g}(\.0)?\.$") as error:
        read("preset=tiny", "data=videos", text)
    assert "\n" not in str(error.value)


def test_resume_needs_no_value(capsys):
    for option in ("--resume_from_checkpoint", "--resume"):
        run = read("preset=tiny", "data=videos", option, "--learning_rate", "1e-3")
        assert run["training"].resume_from_checkpoint == "true" and run["training"].learning_rate == 1e-3


OLD_NAMES = {
    "stop_if_flat_steps=5": ("training", "chance_loss_patience", 5),
    "crop_min_area=0.5": ("augmentation", "rrc_scale_min", 0.5),
    "crop_max_ratio=2": ("augmentation", "rrc_ratio_max", 2),
    "erasing_probability=0.5": ("augmentation", "random_erasing_prob", 0.5),
    "mix_probability=0.5": ("augmentation", "mixup_prob", 0.5),
    "validation_share=0.5": ("data", "validation_fraction", 0.5),
    "max_bad_share=0.5": ("training", "max_corrupt_fraction", 0.5),
    "on_bad_video=raise": ("training", "on_corrupt_video", "raise"),
    "bad_video_report=a.csv": ("training", "corrupt_videos_file", "a.csv"),
    "fit=squeeze": ("clips", "resize_mode", "stretch"),
    "fit=crop": ("clips", "resize_mode", "crop"),
    "min_time_share=0.5": ("augmentation", "min_temporal_span", 0.5),
    "resume=true": ("training", "resume_from_checkpoint", "true"),
    "video_folder=here": ("data", "video_root", "here"),
    "lora_modules=q": ("model", "lora_target_modules", "q"),
    "scale_tubes_from=a": ("model", "tube_checkpoint", "a"),
    "gradient_checkpointing=true": ("training", "activation_checkpointing", True),
    "trainer.ddp_timeout=9": ("training", "ddp_timeout", 9),
    "trainer.lr_scheduler_kwargs.num_cycles=2": ("training", "lr_scheduler_kwargs", {"num_cycles": 2}),
    "training.learning_rate=1e-2": ("training", "learning_rate", 0.01),
    "run.seed=3": ("training", "seed", 3),
    "model=here": ("model", "model_name_or_path", "here"),
}


@pytest.mark.parametrize(("text", "expected"), OLD_NAMES.items())
@pytest.mark.parametrize("form", ["pair", "option", "dashes", "file"])
def test_old_option_names_work_with_a_warning(form, text, expected, tmp_path, capsys):
    block, new, value = expected
    old, _, given = text.partition("=")
    argv = {"pair": [text], "option": [f"--{old}", given], "dashes": [f"--{old.replace('_', '-')}={given}"]}.get(form)
    if form == "file":
        nested = given
        for part in reversed(old.split(".")):
            nested = f"{{{part}: {nested}}}"
        (tmp_path / "old.yaml").write_text(nested)
        argv = ["--config", str(tmp_path / "old.yaml")]
    start = [] if new == "model_name_or_path" else ["model_name_or_path=a/model"]
    config = read("data=videos", *start, *argv)
    assert getattr(config[block], new) == value
    shown = capsys.readouterr().err.splitlines()
    is_old = old.split(".")[0] not in ("training", "run", "model")
    assert len(shown) == (1 if is_old else 0) + (given == "squeeze")
    assert all(line.startswith("warning: ") and new in line for line in shown)


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_recipes_build_a_run_and_a_model(path):
    if path.stem.startswith("joint-"):
        run = JointRun(**read("--config", path.stem, *(f"datasets.{name}.data=here" for name in datasets_of(path))))
        assert {run.run_of(name).data.data for name in run.names} == {"here"}
    else:
        run = TrainingRun(**read("--config", path.stem, "data=videos"))
    settings = dict(run.model.model_config)
    if path.stem == "finetune-figures":  # its model is the one that the other recipe trained
        before = TrainingRun(**read("--config", "figures", "data=figures"))
        assert run.clips == before.clips and run.model.model_name_or_path == "./runs/figures"
        settings = dict(before.model.model_config)
    if (
        path.stem == "finetune-transfer"
    ):  # arguments of from_image_checkpoint, and fields for the positions of its source
        assert settings.pop("tube_init") == "average" and settings.pop("add_patch_tube") is False
        settings |= {"position_embedding": "transfer", "position_grid": [37, 37]}
    tubes = settings.pop("tubes", None)
    if tubes is not None:
        settings["tubes"] = tubes
    size = path.stem.split("-")[-1]
    num_frames, side = run.clips.num_frames, run.clips.image_size
    sizes = {**PRESETS.get(size, PRESETS["base"]), **settings, "num_hidden_layers": 1}  # all layers are alike
    config = TubeViTConfig(**sizes, num_frames=num_frames, image_size=side)
    with torch.device("meta"):
        model = TubeViTForVideoClassification(config)
        assert model(torch.empty(1, num_frames, 3, side, side)).logits.shape == (1, 2)


TUBE_8 = {"kernel_size": [8, 8, 8], "stride": [16, 32, 32], "offset": [0, 0, 0], "space_to_depth": [2, 1, 1]}
TUBE_16 = {"kernel_size": [16, 4, 4], "stride": [6, 32, 32], "offset": [4, 8, 8], "space_to_depth": [1, 2, 2]}
TUBE_4 = {"kernel_size": [4, 12, 12], "stride": [16, 32, 32], "offset": [0, 16, 16]}
PATCH = {"kernel_size": [1, 16, 16], "stride": [32, 16, 16], "offset": [0, 0, 0]}
TABLE_12 = [TUBE_8, TUBE_16, TUBE_4, PATCH]
# The paper's values, copied by hand from its text (sections 3 and 4), tables 10 and 12, and section A.
OF_ALL = {
    "image_size": 224,
    "rand_augment_layers": 2,
    "rand_augment_magnitude": 10,
    "max_steps": 300_000,
    "warmup_steps": 10_000,
    "lr_scheduler_type": "cosine",
    "num_temporal_views": 4,
    "num_spatial_views": 3,
}
MODEL = {"model_config.position_embedding": "fixed", "model_config.pooling": "attention"}
KINETICS = {**OF_ALL, **MODEL, "num_frames": 64, "fps": 15, "mixup_alpha": 0, "label_smoothing": 0}
KINETICS |= {"model_config.hidden_dropout_prob": 0}
JOINT = {**KINETICS, "datasets.kinetics.kind": "video", "datasets.imagenet1k.kind": "image"}
SSV2 = {**OF_ALL, "num_frames": 32, "fps": 24, "mixup_alpha": 0.3, "label_smoothing": 0.3, "learning_rate": 2e-5}
SSV2 |= {"model_config.hidden_dropout_prob": 0.3}
CHARADES = {**OF_ALL, **MODEL, "num_frames": 128, "fps": 6, "label_smoothing": 0.1, "learning_rate": 1e-3}
CHARADES |= {
    "model_config.hidden_dropout_prob": 0.2,
    "model_config.interpolate_kernels": True,
    "num_classes": 157,
    "model_config.tubes.0": {"kernel_size": [16, 16, 16], "stride": [16, 32, 32]},
    "model_config.tubes.1": {"kernel_size": [32, 8, 8], "stride": [6, 32, 32], "offset": [4, 8, 8]},
    "model_config.tubes.2": {"kernel_size": [4, 32, 32], "stride": [16, 32, 32], "offset": [0, 16, 16]},
}
OF_TABLE_12 = {"num_frames": 32, **{f"model_config.tubes.{index}": tube for index, tube in enumerate(TABLE_12)}}
PAPER = {
    **{f"kinetics-{size}": dict(KINETICS) for size in ("base", "large", "huge")},
    **{f"joint-imagenet-kinetics-{size}": dict(JOINT) for size in ("base", "large")},
    **{f"ssv2-{size}": dict(SSV2) for size in ("base", "large", "huge")},
    **{f"charades-{size}": dict(CHARADES) for size in ("base", "large", "huge")},
    "ablations-gpu": OF_TABLE_12,
    "ablations-cpu": OF_TABLE_12,
}
for name, values in PAPER.items():
    if "ablations" not in name:
        values["weight_decay"] = 1e-3 if name.endswith("base") else 1e-5
    if "kinetics" in name:
        values["learning_rate"] = 5e-5 if name.endswith("base") else 1e-5
PAPER["kinetics-huge-scaled"] = {**PAPER["kinetics-huge"], "num_frozen_layers": 26}
PAPER["joint-imagenet-kinetics-tiny"] = dict(JOINT)  # no learning rate and weight decay: table 10 has no small model
for size in ("base", "large"):
    PAPER[f"ssv2-{size}"]["model_name_or_path"] = f"runs/joint-imagenet-kinetics-{size}/kinetics"
    PAPER[f"charades-{size}"]["model_config.tubes.3"] = {"kernel_size": [1, 16, 16], "stride": [32, 16, 16]}
BATCH_SIZES = {"kinetics": 256, "joint": 256, "ssv2": 256, "charades": 64}
MARK = re.compile(r"  # (paper|ours)\b(.*)$")


def marked_values(path: Path) -> dict[str, tuple[str, object, str]]:
    """Option to its mark ("paper" or "ours"), value, and the rest of the comment, for each line of a recipe with a value."""
    values, parents, counts = {}, [], {}
    for line in path.read_text().splitlines():
        body = line.split("  # ")[0].rstrip()
        if not body or body.startswith("#"):
            continue
        indent, text = len(body) - len(body.lstrip()), body.strip()
        parents = [each for each in parents if each[0] < indent]
        if text.startswith("- "):
            name, text = parents[-1][1], text[2:]
            counts[name] = counts.get(name, -1) + 1
            key = str(counts[name])
        else:
            key, _, text = text.partition(":")
            if not text.strip():
                parents.append((indent, key))
                continue
        names = [each for _, each in parents if each not in ("model", "data", "clips", "augmentation", "training")]
        mark = MARK.search(line)
        assert mark, f"{path.name}: this line does not say whose value it is: {line}"
        values[".".join([*names, key])] = (mark[1], yaml.safe_load(text), mark[2])
    return values


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_each_value_of_a_recipe_is_the_papers_or_ours(path):
    """A value marked "paper" is the paper's, and no value of the paper is missing or marked "ours"."""
    lines = path.read_text().splitlines()
    assert any(line.startswith("# Source: ") for line in lines)
    assert any(f"--config {path.stem} " in line for line in lines)

    def as_number(value: object) -> object:
        try:
            return float(value)
        except (TypeError, ValueError):
            return value

    found = {name: as_number(value) for name, (mark, value, _) in marked_values(path).items() if mark == "paper"}
    expected = dict(PAPER.get(path.stem, {}))
    if path.stem == "ablations-cpu":
        for name, tube in expected.items():
            if name.startswith("model_config.tubes"):
                assert "halved in space" in marked_values(path)[name][2]
                expected[name] = {
                    key: value if key == "space_to_depth" else [value[0], *(length / 2 for length in value[1:])]
                    for key, value in tube.items()
                }
    assert found == {name: as_number(value) for name, value in expected.items()}


@pytest.mark.parametrize("name", sorted(name for name in PAPER if "ablations" not in name))
def test_recipes_of_the_paper_have_its_batch_size_and_keep_the_last_checkpoint(name):
    datasets = [f"datasets.{each}.data=here" for each in ("kinetics", "imagenet1k")]
    run = read("--config", name, *(datasets if name.startswith("joint") else ["data=here"]))
    training = run["training"]
    batch = 8 * training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert batch == BATCH_SIZES[name.partition("-")[0]]
    assert training.load_best_model_at_end is False and training.early_stopping_patience == 0
    if name.startswith("charades"):  # all training videos are trained on
        assert run["data"].validation_fraction == 0 and training.eval_strategy == "no"


@pytest.mark.parametrize("name", sorted(name for name in PAPER if re.match(r"(kinetics|charades)-\w+$", name)))
def test_a_preset_takes_the_tubes_and_positions_of_a_recipe(name):
    """With --preset, Charades had no 2D tube, and the recipes set `positions`, an attribute that nothing reads."""
    run = TrainingRun(**read("--config", name, "--preset", "tiny", "data=here", "num_frames=64"))
    data = VideoData({}, ["a", "b"], "video", name.startswith("charades"), None)
    with torch.device("meta"):
        config = make_model(run.model, run.clips, data).model.config
    patch = [1, 14, 14] if name == "charades-huge" else [1, 16, 16]
    assert len(config.tubes) == 4 and [tube["kernel_size"] for tube in config.tubes][3] == patch
    assert config.position_embedding == "fixed"
    assert config.num_image_tokens() == (224 // patch[1]) ** 2


def test_every_model_of_the_paper_has_a_recipe():
    names = {f"{data}-{size}" for data in ("kinetics", "ssv2", "charades") for size in ("base", "large", "huge")}
    names |= {f"joint-imagenet-kinetics-{size}" for size in ("tiny", "base", "large")} | {"kinetics-huge-scaled"}
    assert {path.stem for path in RECIPE_FILES} == {
        *names,
        "finetune-small",
        "finetune-transfer",
        "demo",
        "joint-small",
        "figures",
        "ablations-cpu",
        "ablations-gpu",
        "finetune-figures",
        "pretrain-masked",
    }


@pytest.mark.parametrize("size", ["base", "large"])
def test_joint_recipes_have_the_options_of_the_video_recipes(size):
    alone = TrainingRun(**read("--config", f"kinetics-{size}", "data=here"))
    path = RECIPES / f"joint-imagenet-kinetics-{size}.yaml"
    run = JointRun(**read("--config", str(path), *(f"datasets.{name}.data=here" for name in datasets_of(path))))
    assert run.run_of("kinetics") == alone
    assert [run.options_of(name).kind for name in run.names] == ["video", "image"]
    assert run.run_of("imagenet1k").data.num_classes == 1000


def test_old_recipe_names_work_with_a_warning(capsys):
    old, new = (read("--config", name, "data=here") for name in ("kinetics600-base", "kinetics-base"))
    assert old == new
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: --config kinetics600-base is now --config kinetics-base")


SHARDING = {"multi_gpu": None, "fsdp": "FSDP", "deepspeed_zero2": "DeepSpeed"}  # by file


@pytest.mark.parametrize("name", SHARDING)
def test_accelerate_launch_starts_the_engine_of_each_file(name, monkeypatch):
    path = Path(RECIPES).parent / "engine_configs" / f"{name}.yaml"
    started = {}
    for engine in ("multi_gpu", "deepspeed"):
        monkeypatch.setattr(launch, f"{engine}_launcher", functools.partial(started.setdefault, engine))
    options = ["--config_file", str(path), "--main_process_port", "0"]
    launch.launch_command(launch.launch_command_parser().parse_args([*options, "train.py"]))
    ((engine, arguments),) = started.items()
    assert engine == ("deepspeed" if name == "deepspeed_zero2" else "multi_gpu")
    assert (arguments.num_processes, arguments.mixed_precision, arguments.use_fsdp) == (8, "bf16", name == "fsdp")
    found = prepare_multi_gpu_env(arguments) if engine == "multi_gpu" else prepare_deepspeed_cmd_env(arguments)[1]
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    assert VideoTrainingArguments.sharding.fget(argparse.Namespace(fsdp=None, deepspeed=None)) == SHARDING[name]
    if name == "fsdp":
        plugin = FullyShardedDataParallelPlugin()
        assert (plugin.fsdp_version, plugin.transformer_cls_names_to_wrap) == (2, None)  # `_no_split_modules`
        assert plugin.state_dict_type == StateDictType.FULL_STATE_DICT and plugin.reshard_after_forward is True
    elif engine == "deepspeed":
        config = DeepSpeedPlugin().deepspeed_config
        assert config["zero_optimization"]["stage"] == 2 and not {"optimizer", "scheduler"} & config.keys()


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("FSDP", {"ema_decay": 0.9}, "ema_decay does not work with FSDP"),
        ("FSDP", {"lora_rank": 4}, "lora_rank does not work with FSDP"),
        ("FSDP", {"datasets": {"a": {"data": "x"}}, "data": None}, "Joint training does not work with FSDP"),
        (None, {"fsdp": "true"}, "FSDP needs GPUs: on CPUs, Accelerate trains with DDP"),
    ],
)
def test_what_sharded_weights_do_not_allow_is_refused_before_the_data_are_read(engine, options, message, monkeypatch):
    if engine is not None:
        monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    options = {"preset": "tiny", "use_cpu": True, "data": "no such folder", **options}
    kind = JointRun if "datasets" in options else TrainingRun
    with pytest.raises(ValueError, match=message):
        kind.of(**{name: value for name, value in options.items() if value is not None})


def test_deepspeed_is_recognized(monkeypatch):
    """Without the package, which `TrainingArguments` asks for first."""
    training = VideoTrainingArguments(use_cpu=True, ema_decay=0.9)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="ema_decay does not work with DeepSpeed"):
        check_sharding(training, lora_rank=0)


def test_preset_argument_replaces_the_checkpoint_of_a_recipe():
    config = read("--config", "finetune-small", "--preset", "tiny", "data=videos")
    assert (config["model"].preset, config["model"].model_name_or_path) == ("tiny", None)
    with pytest.raises(ValueError, match="not both"):
        read("--preset", "tiny", "model_name_or_path=x", "data=videos")


@pytest.mark.parametrize("name", ["finetune-small", "joint-small"])
def test_preset_argument_adds_the_options_for_random_weights(name):
    data = (
        ["data=videos"]
        if name == "finetune-small"
        else [f"datasets.{each}.data=here" for each in ("videos", "images")]
    )
    start = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["from_random_weights"]
    new = read("--config", name, "--preset", "tiny", *data)
    blocks = {block: new[block] for block in start}
    assert {block: {key: getattr(blocks[block], key) for key in start[block]} for block in start} == {
        block: {key: float(value) if key == "learning_rate" else value for key, value in values.items()}
        for block, values in start.items()
    }
    loaded = read("--config", name, *data)
    assert (loaded["training"].num_train_epochs, loaded["clips"].image_size) == (50, 224)
    given = read("--config", name, "preset=tiny", "image_size=64", "num_train_epochs=7", *data)
    assert (given["training"].num_train_epochs, given["clips"].image_size) == (7, 64)


def test_wrong_options_for_random_weights_raise(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("from_random_weights: {training: {lerning_rate: 1}}\n")
    with pytest.raises(ValueError, match="from_random_weights, block training: There is no option 'lerning_rate'"):
        read("--config", str(file), "data=videos", "some/model")


def test_default_learning_rate_depends_on_the_checkpoint():
    def rates(**options):
        training = TrainingRun.of(data="videos", **options).training
        return training.learning_rate, training.given["learning_rate"], training.copy().learning_rate

    assert rates(preset="tiny") == (5e-4,) * 3
    assert rates(model_name_or_path="a/model") == (1e-4,) * 3
    assert rates(preset="tiny", learning_rate=1e-3) == (1e-3,) * 3


def test_default_layer_decay_depends_on_the_checkpoint():
    def decay(**options):
        return TrainingRun.of(data="videos", **options).training.layer_decay

    assert decay(preset="tiny") == 1
    assert decay(model_name_or_path="a/model") == 0.75
    assert decay(preset="tiny", layer_decay=0.5) == decay(model_name_or_path="a/model", layer_decay=0.5) == 0.5


def test_min_temporal_span_with_fps_raises():
    assert TrainingRun.of(preset="tiny", data="videos", min_temporal_span=0.5).augmentation.min_temporal_span == 0.5
    with pytest.raises(ValueError, match=r"^min_temporal_span applies to clips spread over the video, and fps is 8"):
        TrainingRun.of(preset="tiny", data="videos", min_temporal_span=0.5, fps=8)


def test_one_process_uses_one_gpu(monkeypatch, tmp_path):
    """With several GPUs Trainer would use DataParallel."""
    prepare = TrainingArguments.__post_init__

    def prepare_with_gpus(arguments):
        prepare(arguments)
        arguments._n_gpu = 4

    monkeypatch.setattr(TrainingArguments, "__post_init__", prepare_with_gpus)
    run = TrainingRun.of(preset="tiny", data="videos", use_cpu=True, per_device_train_batch_size=3)
    assert run.training.for_trainer().train_batch_size == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert gpu_messages(use_cpu=True) == [] and "--num_processes 4" in gpu_messages(use_cpu=False)[0]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert gpu_messages(use_cpu=False) == []


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({}, []),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 4}, []),
        ({"eval_steps": 2}, ["eval_steps=2 has no effect with eval_strategy=epoch."]),
        (
            {"save_steps": 2, "save_strategy": "no", "load_best_model_at_end": False},
            ["save_steps=2 has no effect with save_strategy=no."],
        ),
        ({"max_steps": 5, "num_train_epochs": 2}, ["num_train_epochs=2 has no effect with max_steps=5."]),
    ],
)
def test_options_that_others_switch_off_are_reported(options, messages):
    assert TrainingRun.of(**GIVEN, **options).training.without_effect() == messages
