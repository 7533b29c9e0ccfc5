"""Training runs that take seconds: small videos whose color is their class, a tiny TubeViT, and runs that are killed.

`python tests/helpers/tiny_runs.py train STEP ...` runs `tubevit train ...` and kills it with SIGKILL after optimizer step STEP
(0 = never).
"""

import functools
import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import TINY_TUBES
from transformers import TrainerCallback
from video_files import write_video
from warm_processes import STANDARD, run_python

from tubevit.training.cli import main
from tubevit.training.trainer.run_config import TrainingRun


CLASSES = {"blue": (40, 60, 220), "green": (50, 200, 60), "red": (220, 50, 40)}
SHADES = {"dark": 50, "light": 200}
TINY_MODEL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "tubes": TINY_TUBES,
    "initializer_range": 0.2,
}
OPTIONS = {
    "preset": "tiny",
    "model_config": TINY_MODEL,
    "num_frames": 8,
    "image_size": 16,
    "short_side": 20,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "num_temporal_views": 2,
    "num_spatial_views": 3,
    "use_cpu": True,
    "logging_steps": 1,
}
UNEVEN = {"class_weights": str(Path(__file__).parent / "class_weights.json"), "sampler": "sqrt"}
ONE_VIEW = {"num_temporal_views": 1, "num_spatial_views": 1}
# All options that use random numbers or need state in a checkpoint.
RANDOM = {
    **ONE_VIEW,
    "model_config": {**TINY_MODEL, "hidden_dropout_prob": 0.1},
    "drop_path_rate": 0.2,
    "mixup_alpha": 0.3,
    "random_erasing_prob": 0.25,
    "ema_decay": 0.9,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 4,  # an epoch with six videos per class has five steps
    "load_best_model_at_end": False,
}


def without_bias(tensors: dict) -> dict:
    return {name: each for name, each in tensors.items() if name != "classifier.bias"}


def with_another(tensors: dict) -> dict:
    return {**tensors, "other.weight": torch.zeros(2)}


# Edits that make a checkpoint differ from the weights of the model.
WRONG_WEIGHTS = {"missing": without_bias, "unexpected": with_another}


def edit_weights(checkpoint: Path, edit) -> None:
    path = checkpoint / "model.safetensors"
    save_file(edit(load_file(path)), path, metadata={"format": "pt"})


@functools.cache
def _clip(color: tuple, seed: int, suffix: str) -> bytes:
    rng = np.random.default_rng(seed)
    frames = np.clip(rng.normal(color, 25, (12, 32, 40, 3)), 0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        codec = {".webm": "libvpx-vp9"}.get(suffix, "libx264")
        return write_video(Path(folder) / f"clip{suffix}", frames, fps=10, codec=codec).read_bytes()


def make_videos(root: Path, num_train: int = 6, num_validation: int = 3, suffix: str = ".mp4") -> Path:
    """Class folders in `train/` and `val/` with `num_train` and `num_validation` videos per class."""
    for split, number in (("train", num_train), ("val", num_validation)):
        for name, color in CLASSES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                (folder / f"{index}{suffix}").write_bytes(_clip(color, index + 100 * (split == "val"), suffix))
    return root


def make_images(root: Path, num_train: int = 6, num_validation: int = 3) -> Path:
    """Class folders in `train/` and `val/` with `num_train` and `num_validation` images per class."""
    for split, number in (("train", num_train), ("val", num_validation)):
        for name, brightness in SHADES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                rng = np.random.default_rng(index + 100 * (split == "val"))
                pixels = np.clip(rng.normal(brightness, 25, (24, 28, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def make_run(data: Path, output: Path, /, **options) -> TrainingRun:
    return TrainingRun.of(**{**OPTIONS, "data": str(data), "output_dir": str(output), **options})


def arguments(data: Path, output: Path, /, **options) -> list[str]:
    """The options of `make_run` as arguments of `tubevit train`."""
    options = {**OPTIONS, "data": data, "output_dir": output, **options}
    return [f"{name}={value}" for name, value in options.items()]


def environment() -> dict[str, str]:
    """Environment of subprocesses: one thread, no network."""
    return {**os.environ, **STANDARD}


def kill_behind(step: int, videos: Path, folder: Path, /, command: str = "train", **options) -> None:
    """Train in another process, which is killed after this step."""
    result = run_python(__file__, command, str(step), *arguments(videos, folder, **options))
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]


class KilledBehind(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    command, step = sys.argv[1], int(sys.argv[2])
    from tubevit.training.trainer.video_trainer import VideoTrainer

    callbacks = VideoTrainer._callbacks
    VideoTrainer._callbacks = lambda self: [*callbacks(self), KilledBehind(step)]

    from tubevit.training import run_video_classification_no_trainer as loop

    train_step = loop.train_step

    def step_or_die(*arguments):
        if arguments[-1] == step:  # number of steps taken so far
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(*arguments)

    loop.train_step = step_or_die
    sys.exit(main([command, *sys.argv[3:]]))
