"""Shared by all tests: `import video_files` works from any test file, and `shared_data` finds the real clips."""

import os
import sys
from pathlib import Path


# Before torch is loaded, here and in the processes that tests start: tiny tensors gain nothing from more threads, and sums are
# the same bit for bit only with the same number of them.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest


TESTS = Path(__file__).resolve().parent
# pytest's importlib mode leaves sys.path alone, so helper modules beside the tests need this.
sys.path.insert(0, str(TESTS / "helpers"))


@pytest.fixture(autouse=True)
def compile_afresh():
    """Each test compiles for itself: torch stops compiling a function that was compiled for many models."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch"].compiler.reset()


@pytest.fixture(autouse=True)
def one_thread():
    """Commands set the number of threads of their process; other tests compare sums bit for bit."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real clips, which lie beside the repository on the project's machines only."""
    folder = TESTS.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real clips in ../shared/data")
    return folder
