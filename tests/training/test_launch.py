"""`--num_processes`: what is refused, and one report of an error. (A run of two processes is in trainer/test_run_training.py.)"""

import argparse
import json

import pytest
from warm_processes import free_port, run_python

from tubevit.training.cli import IN_SEVERAL_PROCESSES, main
from tubevit.training.command_line import parse_arguments
from tubevit.training.launch import (
    LAUNCHERS,
    TASK_LAUNCHERS,
    LaunchOptions,
    _exit_code,
    _first_failure,
    add_launch_arguments,
    pop_launch_options,
    report,
    should_launch,
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for variable in (*LAUNCHERS, "TUBEVIT_LAUNCHED"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("argv", [["--num_processes", "4"], ["--num-processes=4"], ["num_processes=4"]])
def test_options_are_taken_out_of_the_arguments(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    add_launch_arguments(parser)
    args = parse_arguments(parser, [*argv, "data=videos", "num_machines=2", "--main_process_ip", "10.0.0.1"])
    options = pop_launch_options(args)
    assert options == LaunchOptions(4, num_machines=2, main_process_ip="10.0.0.1") and should_launch(options)
    assert vars(args) == {"data": "videos"}
    assert not should_launch(pop_launch_options(parse_arguments(parser, [])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_processes": 3, "num_machines": 2, "main_process_ip": "a"}, "must be a multiple of num_machines=2"),
        ({"num_processes": 2, "num_machines": 2}, "needs main_process_ip"),
        ({"num_processes": 2, "machine_rank": 1}, "machine_rank=1 must be below num_machines=1"),
        ({"num_processes": 2, "main_process_ip": "a"}, "no effect with num_machines=1"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LaunchOptions(**options)


@pytest.mark.parametrize("variable", LAUNCHERS)
@pytest.mark.parametrize("command", ["train", "train-loop", "eval"])
def test_a_process_of_another_launcher_starts_no_others(variable, command, monkeypatch, capsys):
    monkeypatch.setenv(variable, "2")
    assert main([command, "--num_processes", "2"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"({variable}=2)" in error and LAUNCHERS[variable] in error


def test_one_process_per_machine_may_be_started_by_slurm(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert should_launch(LaunchOptions(8, num_machines=2, main_process_ip="10.0.0.1"))


@pytest.mark.parametrize("variable", TASK_LAUNCHERS)
@pytest.mark.parametrize("command", IN_SEVERAL_PROCESSES)
def test_tasks_without_ranks_are_refused(command, variable, monkeypatch, capsys):
    monkeypatch.setenv(variable, "4")
    assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{TASK_LAUNCHERS[variable]} started 4 tasks ({variable}=4)" in line
    assert "--num_machines M" in line and "WORLD_SIZE" in line


@pytest.mark.parametrize(
    ("given", "argv"),
    [
        ({"SLURM_STEP_NUM_TASKS": "1"}, []),
        ({"SLURM_NTASKS": "8"}, []),  # in the shell of `salloc` and in the script of `sbatch`
        ({"SLURM_STEP_NUM_TASKS": "4", "WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1"}, []),
        ({"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_SIZE": "4", "WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1"}, []),
        ({"SLURM_STEP_NUM_TASKS": "4", "PMI_SIZE": "4"}, ["--num_processes", "1"]),
    ],
)
def test_one_task_and_tasks_with_ranks_run(given, argv, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    add_launch_arguments(parser)
    assert not should_launch(pop_launch_options(parse_arguments(parser, argv)))


# The launcher with ranks that are forked from it; real ones run in trainer/test_run_training.py.
FORKED_RANKS = """
import os, sys
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler
from tubevit.training.cli import main

class Forked:
    returncode = None

    def __init__(self, args, env, **options):
        assert args[:4] == (sys.executable, "-P", "-m", "tubevit.training.cli"), args
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.clear()
            os.environ.update(env)
            code = 1
            try:
                code = main(args[4:])
            finally:
                sys.stdout.flush()
                os._exit(code)
        os.setpgid(self.pid, self.pid)  # torchrun ends process groups

    def wait(self, timeout=None, flags=0):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, flags)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def poll(self):
        return self.wait(flags=os.WNOHANG)

subprocess_handler.Popen = Forked
sys.exit(main(sys.argv[1:]))
"""


def test_an_error_is_printed_once(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("not a run")
    options = ["preset=tiny", f"data={tmp_path}", f"output_dir={tmp_path / 'run'}", "use_cpu=true"]
    done = run_python("-c", FORKED_RANKS, "train", "--num_processes", "2", *options)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("tubevit train: error: ") and "is not empty" in line and "--traceback" in line


class Failure:
    """As `torch.distributed.elastic.multiprocessing.errors.ProcessFailure`."""

    def __init__(self, exitcode, time=None, message="an error"):
        self.exitcode = exitcode
        self.error_file_data = {"message": "<NONE>"}
        if time is not None:
            self.error_file_data["reported_by_tubevit"] = {"message": message, "time": time}


@pytest.mark.parametrize(
    ("failures", "first"),
    [
        ({0: Failure(1, 10.2), 1: Failure(2, 10.1)}, 1),  # rank 0 lost its connection to rank 1
        ({0: Failure(1, 10.2), 1: Failure(-9)}, 1),  # killed, for example because memory ran out
        ({0: Failure(-15), 1: Failure(1, 10.2)}, 1),  # torchrun ends the others by SIGTERM
        ({0: Failure(3), 1: Failure(3)}, 0),
    ],
)
def test_the_failure_that_made_the_others_fail_is_reported(failures, first):
    assert _first_failure(failures) == (first, failures[first])


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        (
            {0: Failure(-15, 10.1), 1: Failure(2, 10.2)},
            2,
        ),  # both report, and torchrun ends rank 0 because rank 1 has ended
        ({0: Failure(1, 10.2), 1: Failure(2, 10.1)}, 2),
        ({0: Failure(1, 10.2), 1: Failure(-9)}, 137),
        ({0: Failure(-15), 1: Failure(-15)}, 143),
    ],
)
def test_the_exit_code_is_that_of_the_failure(failures, code):
    assert _exit_code(_first_failure(failures)[0], failures) == code


def test_a_started_process_leaves_its_error_to_the_launcher(tmp_path, monkeypatch, capsys):
    report("tubevit train: error: alone")
    assert capsys.readouterr().err == "tubevit train: error: alone\n"
    monkeypatch.setenv("TUBEVIT_LAUNCHED", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    report("tubevit train: error: one of two")
    assert capsys.readouterr().err == ""
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "tubevit train: error: one of two"


PROCESSES_THAT_END = """
import os, sys, time
import torch
from tubevit.training.launch import end_processes, gather_on_cpu
rank = 0 if os.fork() else 1
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
from accelerate import PartialState
assert gather_on_cpu("alone") == ["alone"]
PartialState(cpu=True)
assert gather_on_cpu(f"rank {rank}") == ["rank 0", "rank 1"]
values = gather_on_cpu(rank * "long" * 100_000)  # in the same group
assert list(map(len, values)) == [0, 400_000]
if rank == 0:
    time.sleep(0.5)
    open(sys.argv[1], "w").close()
end_processes()
assert os.path.exists(sys.argv[1]) and not torch.distributed.is_initialized()
assert rank or os.wait()[1] == 0
"""


def test_processes_end_together(tmp_path):
    """Also those without a launcher, whose store is rank 0's."""
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    done = run_python("-c", PROCESSES_THAT_END, tmp_path / "rank 0 is done", variables=variables)
    assert done.returncode == 0, done.stderr
