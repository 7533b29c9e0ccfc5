"""Fixtures of all tests, and the import path of the helper modules in tests/helpers."""

import gc
import os
import sys
import tempfile
from pathlib import Path


# Set before torch is imported, here and in the processes that tests start: tiny tensors gain nothing from threads, and sums are
# bit-identical only with the same number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
# Runs remember readable files there, and Transformers copies the code of exported models there, not to the folders of the user.
os.environ["TUBEVIT_CACHE"] = tempfile.mkdtemp(prefix="tubevit_cache_")
os.environ["HF_MODULES_CACHE"] = os.path.join(os.environ["TUBEVIT_CACHE"], "modules")

import pytest


TESTS = Path(__file__).resolve().parent
# pytest's importlib mode does not change sys.path, so the helper modules need this.
sys.path.insert(0, str(TESTS / "helpers"))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Exclude modules and collected tests from garbage collection, which costs 0.4 s of CPU time, after each training run for example."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def compile_afresh():
    """Reset torch.compile after each test: torch stops compiling a function after too many recompilations."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch"].compiler.reset()


@pytest.fixture(autouse=True)
def one_thread():
    """Restore one thread after each test: commands change the number, and other tests compare sums bit for bit."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real video clips, which exists next to the repository on the project's machines only."""
    folder = TESTS.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real clips in ../shared/data")
    return folder
