# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The packages that results depend on, and which versions of them are installed."""

from importlib.metadata import PackageNotFoundError, version


REQUIRED = (
    "tubevit",
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "av",
    "numpy",
    "matplotlib",
)
OPTIONAL = ("peft", "tensorboard", "trackio")


def installed_versions() -> dict[str, str | None]:
    """Package to version, `None` for one that is not installed."""
    return {name: _version(name) for name in (*REQUIRED, *OPTIONAL)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
