"""Experiments that take a fraction of a second: the code of the real ones on clips of 8 frames of 16x16."""

from dataclasses import replace

from tiny_models import TINY_TUBES

from tubevit.training.experiments.settings import Data, Experiment, Recipe


TINY_DATA = Data(task="direction", num_train=12, num_validation=8, num_images=12, num_frames=8, image_size=16)
TINY_RECIPE = Recipe(steps=3, batch_size=4)
TINY_ENCODER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TINY_TUBEVIT = {"kind": "tubevit", **TINY_ENCODER, "tubes": TINY_TUBES}
IMAGES = {"image": 1.0}
JOINT = {"video": 1.0, "image": 1.0}


def tiny_experiment(model: dict | None = None, seed: int = 0, data: dict | None = None, **changes) -> Experiment:
    """changes: of the recipe, but for `starts` and `evaluations`."""
    others = {name: changes.pop(name) for name in ("starts", "evaluations") if name in changes}
    description = {**TINY_TUBEVIT, **(model or {})}
    return Experiment(description, replace(TINY_DATA, **(data or {})), replace(TINY_RECIPE, **changes), seed, **others)


def made_result(group: str = "table_7a", name: str = "one", seed: int = 0, accuracy: float = 0.5, **changes) -> dict:
    """A result file's content with numbers made up for a test."""
    row = {"name": name, "title": f"row {name}", "score": "video", **changes.pop("row", {})}
    return {
        "group": group,
        "title": "Table 7a: positions",
        "size": "cpu",
        "name": name,
        "rows": [row],
        "command": "tubevit sweep 7a",
        "position": 0,
        "about": "Trained on clips.",
        "settings": {"seed": seed, "recipe": {"batch_size": 4, "steps": 10}, "model": {"kind": name}},
        "scores": {"video": {"accuracy": accuracy, "correct": round(100 * accuracy), "number": 100, "chance": 0.25}},
        "losses": [{"step": 5, "video": 2.0}, {"step": 10, "video": 1.0}],
        "tokens": 176,
        "gflops": 0.2,
        "parameters": 640_000,
        "steps": 10,
        "commit": "0123456789abcdef",
        "dirty": False,
        "machine": {"cpu": "Some CPU", "cores": 2, "threads": 1, "torch": "2.15.0"},
        "date": "2026-01-02",
        "seconds": 60.0,
        **changes,
    }
