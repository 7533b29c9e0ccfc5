"""A message for the user is one line that names --traceback; a programming error shows its traceback."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from dataset_files import read_all
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, TrainingArguments
from warm_processes import run_python

from tubevit import TubeViTConfig
from tubevit.processing import decode_video
from tubevit.training.cli import OUTPUT_CLOSED, main
from tubevit.training.commands import info
from tubevit.training.errors import error_message, is_user_error, run_script
from tubevit.training.options import convert


class Rows(Dataset):
    """Rows whose reading fails: with a message of ours, or by a mistake in the code."""

    def __init__(self, is_mistake: bool):
        self.is_mistake = is_mistake

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return int("x") if self.is_mistake else convert("x", int, "steps")


def in_data_loader(is_mistake: bool):
    return read_all(DataLoader(Rows(is_mistake), num_workers=1))


def in_pool(function, *arguments):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def import_missing_name():
    from tubevit import tubes

    exec("from tubevit.tubes import no_such_name")
    return tubes


def assert_something():
    assert not TubeViTConfig


MESSAGES = {
    "a raise of ours": lambda: convert("x", int, "steps"),
    "a config that is refused": lambda: TubeViTConfig(hidden_size=-1),
    "a config of a wrong type": lambda: TubeViTConfig(hidden_size="a"),
    "a missing file": lambda: Path("/no/such/file").read_text(),
    "a file that is no video": lambda: decode_video(__file__, None),
    "a missing package": lambda: __import__("no_such_package"),
    "Transformers' options": lambda: TrainingArguments("x", load_best_model_at_end=True),
    "a value that no option has": lambda: TrainingArguments("x", lr_scheduler_type="no"),
    "an unknown checkpoint": lambda: AutoConfig.from_pretrained("/no/such/folder"),
    "a data loader's worker": lambda: in_data_loader(False),
    "a process pool": lambda: in_pool(convert, "x", int, "steps"),
}
MISTAKES = {
    "a ValueError of Python": lambda: int("x"),
    "a raise outside of the package": lambda: DataLoader([], batch_size=-1),
    "a product of wrong shapes": lambda: torch.zeros(3) @ torch.zeros(4),
    "a call with a wrong argument": lambda: convert(no_such_argument=1),
    "a missing key": lambda: {}["x"],
    "a name that a module of ours lacks": import_missing_name,
    "an assertion": assert_something,
    "a data loader's worker": lambda: in_data_loader(True),
    "a process pool": lambda: in_pool(int, "x"),
}


@pytest.mark.parametrize("cause", MESSAGES.values(), ids=MESSAGES)
def test_messages(cause):
    with pytest.raises(Exception) as caught:
        cause()
    assert is_user_error(caught.value)
    message = error_message(caught.value)
    assert message and "\n" not in message and "Traceback" not in message and 'File "' not in message


@pytest.mark.parametrize("cause", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(cause):
    with pytest.raises(Exception) as caught:
        cause()
    assert not is_user_error(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "clip.mp4", "--model", "./missing"],
        ["train", "learning_rate=fast"],
        ["train-loop", "learning_rat=1"],
        ["eval", "--config", "missing.yaml"],
        ["export", "./missing", "out"],
        ["data", "check", "./missing"],
        ["data", "prepare", "./missing", "out"],
        ["info", "./missing"],
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_a_message_of_a_command_is_one_line(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("tubevit ") and ": error: " in err and err.endswith("(--traceback shows where)\n")
    with pytest.raises((ValueError, TypeError, OSError)):
        main([*argv, "--traceback"])


@pytest.mark.parametrize("option", ["--traceback", "--traceback=true", "traceback=true"])
def test_traceback_is_an_option_like_others(option):
    with pytest.raises(OSError):
        main(["info", "./missing", option])


def test_a_mistake_in_a_command_shows_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(info, "run", lambda args: int(args.traceback_of))
    with pytest.raises(AttributeError):
        main(["info"])
    code = """
import sys
from tubevit.training import cli
from tubevit.training.commands import info
info.run = lambda args: int("x")
sys.exit(cli.main(["info"]))
"""
    done = run_python("-c", code)
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and "invalid literal for int()" in done.stderr


def test_command_ends_quietly_when_the_reader_of_its_output_is_gone():
    code = """
import os, runpy, sys
read_end, write_end = os.pipe()
os.close(read_end)
os.dup2(write_end, 1)
sys.stdout.reconfigure(line_buffering=False)  # as that of any command whose output is a pipe
sys.argv = ["tubevit", "experiments", "ablations"]
runpy.run_module("tubevit.training.cli", run_name="__main__")
"""
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (OUTPUT_CLOSED, "")


def test_a_script_reports_an_error_of_the_user_on_one_line(capsys):
    assert run_script(lambda: convert("x", int, "steps")) == 2 and run_script(lambda: 3) == 3
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(ValueError, match="invalid literal"):
        run_script(lambda: int("x"))
