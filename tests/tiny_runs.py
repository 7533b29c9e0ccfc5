"""Training runs of seconds: small videos whose colour is their class, a tiny TubeViT, and runs that are killed.

`python tests/tiny_runs.py train STEP ...` is `tubevit train ...`, killed by SIGKILL behind optimizer step STEP (0 for never).
"""

import functools
import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
from tiny_models import TINY_TUBES
from transformers import TrainerCallback
from video_files import write_video

from tubevit.training.cli import main
from tubevit.training.run_config import TrainingRun


CLASSES = {"blue": (40, 60, 220), "green": (50, 200, 60), "red": (220, 50, 40)}
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


@functools.cache
def _clip(colour: tuple, seed: int, suffix: str) -> bytes:
    rng = np.random.default_rng(seed)
    frames = np.clip(rng.normal(colour, 25, (12, 32, 40, 3)), 0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        codec = {".webm": "libvpx-vp9"}.get(suffix, "libx264")
        return write_video(Path(folder) / f"clip{suffix}", frames, fps=10, codec=codec).read_bytes()


def make_videos(root: Path, num_train: int = 6, num_validation: int = 3, suffix: str = ".mp4") -> Path:
    """Class folders in `train/` and `val/`, with so many videos of each class."""
    for split, number in (("train", num_train), ("val", num_validation)):
        for name, colour in CLASSES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                (folder / f"{index}{suffix}").write_bytes(_clip(colour, index + 100 * (split == "val"), suffix))
    return root


def make_run(data: Path, output: Path, /, **options) -> TrainingRun:
    return TrainingRun.of(**{**OPTIONS, "data": str(data), "output_dir": str(output), **options})


def arguments(data: Path, output: Path, /, **options) -> list[str]:
    """The same as arguments of `tubevit train`."""
    options = {**OPTIONS, "data": data, "output_dir": output, **options}
    return [f"{name}={value}" for name, value in options.items()]


class KilledBehind(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    command, step = sys.argv[1], int(sys.argv[2])
    from tubevit.training.video_trainer import VideoTrainer

    callbacks = VideoTrainer._callbacks
    VideoTrainer._callbacks = lambda self: [*callbacks(self), KilledBehind(step)]

    from tubevit.training.training_loop import TrainingLoop

    evaluate_and_save = TrainingLoop._evaluate_and_save

    def kill_behind(loop, moment):
        evaluate_and_save(loop, moment)
        if moment == "steps":
            KilledBehind(step).on_step_end(None, loop.state, None)

    TrainingLoop._evaluate_and_save = kill_behind
    sys.exit(main([command, *sys.argv[3:]]))
