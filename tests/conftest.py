"""Fixtures of all tests, and the import path of the helper modules in tests/helpers."""

import gc
import os
import shutil
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path


# Set before torch is imported, here and in the processes that tests start: tiny tensors gain nothing from threads, and sums are
# bit-identical only with the same number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
# Tests neither read nor write the user's cache, token and settings of the Hub; those in a browser read the npm packages in it, whose
# folder the workers of pytest-xdist inherit.
os.environ["NPM_ARCHIVES"] = os.environ.get("NPM_ARCHIVES") or os.path.join(
    os.environ.get("TUBEVIT_CACHE") or os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"),
    "npm" if os.environ.get("TUBEVIT_CACHE") else "tubevit/npm",
)
os.environ["HF_TOKEN"] = ""
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="tubevit_cache_")
os.environ["HF_MODULES_CACHE"] = os.path.join(os.environ["HF_HOME"], "modules")
os.environ["TUBEVIT_CACHE"] = os.environ["HF_HOME"]

import pytest


TESTS = Path(__file__).resolve().parent
CACHE = Path(os.environ["HF_HOME"])  # of these tests; a test may change the variable
# pytest's importlib mode does not change sys.path, so the helper modules need this.
sys.path.insert(0, str(TESTS / "helpers"))


def pytest_unconfigure():
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """
    Exclude modules and collected tests from garbage collection, which costs 0.4 s of CPU time, after each training run for example. Collect
    after 50,000 new objects instead of 700: torch.compile and exports create millions, and a seventh of their time was garbage collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000)
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Exclude the modules that a test has imported, too: those of ONNX are as many as those of Transformers."""
    num_modules = len(sys.modules)
    result = yield
    if len(sys.modules) > num_modules + 20:
        gc.collect()
        gc.freeze()
    return result


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


# What processes of tests import that decode, serve or train.
FORKED_WITH = ("tubevit.training.data.check_data", "tubevit.training.serving.decoding", "transformers.trainer")
FORKED_WITH += ("tubevit.training.trainer.run_steps",)


@pytest.fixture(scope="session", autouse=True)
def one_fork_server():
    """
    The server of multiprocessing imports these modules once for all tests, whichever test starts it. Otherwise it has imported what the
    processes of that test need, and those of other tests import torch and Transformers for themselves.
    """
    set_preload = forkserver.set_forkserver_preload
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "set_forkserver_preload", lambda names: set_preload([*names, *FORKED_WITH]))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real video clips, which exists next to the repository on the project's machines only."""
    folder = TESTS.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real clips in ../shared/data")
    return folder
