"""Paths in the repository, for tests in any folder."""

from pathlib import Path


HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parents[1]
