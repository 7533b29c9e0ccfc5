"""Experiments that take seconds: the code of the real ones with clips of 8 frames of 16x16 pixels."""

from tiny_models import TINY_TUBES

from tubevit.training.experiments.settings import Data, Experiment, with_recipe


TINY_DATA = Data(task="direction", num_train=12, num_validation=8, num_images=12, num_frames=8, image_size=16)
TINY_ENCODER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TINY_TUBEVIT = {**TINY_ENCODER, "tubes": TINY_TUBES}
TINY_CLIPS = {"num_frames": 8, "image_size": 16, "per_device_train_batch_size": 4, "logging_steps": 1}


def tiny_experiment(model: dict | None = None, kinds=("video",), seed=0, max_steps=3, data=TINY_DATA, **changes):
    """changes: fields of the experiment; `options` has the options of its run."""
    options = {**TINY_CLIPS, "max_steps": max_steps, **changes.pop("options", {})}
    if changes.get("initial"):
        options |= {"preset": None, "model_config": None}
    else:
        options |= {"model_config": {**TINY_TUBEVIT, **(model or {})}}
    return Experiment(with_recipe("ablations-cpu", **options), data, tuple(kinds), seed, **changes)


def invented_record(group="table_7a", name="one", seed=0, accuracy=0.5, is_old=False, **changes) -> dict:
    """A record with invented numbers. is_old: as the training loop for experiments wrote it until November 2026."""
    row = {"name": name, "title": f"row {name}", "score": "video", **changes.pop("row", {})}
    settings = {"seed": seed, "options": {"per_device_train_batch_size": 4, "max_steps": 10}, "initial": name}
    if is_old:
        settings = {"seed": seed, "recipe": {"batch_size": 4, "steps": 10}, "model": {"kind": name}}
    return {
        "group": group,
        "title": "Table 7a: positions",
        "size": "cpu",
        "name": name,
        "rows": [row],
        "command": "tubevit experiments ablations 7a --train",
        "position": 0,
        "about": "Trained on clips.",
        "settings": settings,
        "scores": {"video": {"accuracy": accuracy, "correct": round(100 * accuracy), "number": 100, "chance": 0.25}},
        "losses": [{"step": step, "video" if is_old else "loss": 3.0 - 0.2 * step} for step in (5, 10)],
        "tokens": 176,
        "gflops": 0.2,
        "parameters": 640_000,
        "steps": 10,
        "commit": "0123456789abcdef",
        "dirty": False,
        "machine": {"cpu": "Some CPU", "cores": 2, "threads": 1, "torch": "2.15.0"},
        "date": "2026-01-02",
        "seconds": 60.0,
        **({} if is_old else {"loop": "VideoTrainer"}),
        **changes,
    }
