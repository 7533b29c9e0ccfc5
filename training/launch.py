# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`--num_processes N`: run a command with torchrun in several processes, on one machine or several.

The options have Accelerate's names. Each process runs the `tubevit` module with the same arguments, so an installed wheel needs no
path to a script. A process that fails with a message for the user writes the message to torchrun's error file, and the launching
process prints it once.

`gather_on_cpu` exchanges values between the processes while some of them may work for hours, and `end_processes` ends them together.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .command_line import whole_number


IS_LAUNCHED = "TUBEVIT_LAUNCHED"  # set in the environment of the processes that `launch` starts
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # where torchrun looks for the error of a process
REPORTED = "reported_by_tubevit"  # entry of the error file
INTERRUPTED = 130  # exit code of a program that SIGINT (Ctrl-C) ends
DAYS_FOR_EXCHANGE = 30  # that a process waits in `gather_on_cpu`: longer than any check of files
SECONDS_TO_END = 600  # that a process waits in `end_processes` for the others, which may still upload files

RANK_VARIABLES = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE"})  # of which a launcher of torch sets all
# Environment variable with the number of tasks that one call started, to the name of the launcher, which sets no `RANK_VARIABLES`.
TASK_LAUNCHERS = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",  # Open MPI
    "PMI_SIZE": "mpirun",  # MPICH, Intel MPI; `srun --mpi=pmi2` sets it too
    "MV2_COMM_WORLD_SIZE": "mpirun",  # MVAPICH2
}
# The same with other launchers. `SLURM_NTASKS` is of the whole job: `salloc` and `sbatch` set it.
LAUNCHERS = {"WORLD_SIZE": "torchrun or accelerate launch", **TASK_LAUNCHERS, "SLURM_NTASKS": "SLURM"}


@dataclass(frozen=True)
class LaunchOptions:
    """Number of processes and machines, and the address of the first machine."""

    num_processes: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    main_process_ip: str | None = None
    main_process_port: int | None = None

    def __post_init__(self) -> None:
        if self.num_processes % self.num_machines:
            raise ValueError(
                f"num_processes={self.num_processes} counts the processes of all machines and must be a multiple of "
                f"num_machines={self.num_machines}."
            )
        if self.machine_rank >= self.num_machines:
            raise ValueError(
                f"machine_rank={self.machine_rank} must be below num_machines={self.num_machines}; the first machine has 0."
            )
        if self.num_machines > 1 and self.main_process_ip is None:
            raise ValueError(
                f"num_machines={self.num_machines} needs main_process_ip, the address of the machine with machine_rank=0."
            )
        if self.num_machines == 1 and self.main_process_ip is not None:
            raise ValueError("main_process_ip has no effect with num_machines=1: give num_machines, or leave it out.")


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several processes", "torchrun starts the processes, usually one per GPU.")
    group.add_argument(
        "--num_processes",
        type=whole_number(1),
        metavar="N",
        help="number of processes on all machines together (default: 1)",
    )
    group.add_argument(
        "--num_machines", type=whole_number(1), default=1, metavar="N", help="number of machines (default: 1)"
    )
    group.add_argument(
        "--machine_rank",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="index of this machine, 0 to num_machines - 1 (default: 0)",
    )
    group.add_argument(
        "--main_process_ip", metavar="ADDRESS", help="address of machine 0; required with several machines"
    )
    group.add_argument(
        "--main_process_port",
        type=whole_number(1),
        metavar="PORT",
        help="port on machine 0 for the processes to connect (default: 29500 with several machines, else a free port)",
    )


def pop_launch_options(args: argparse.Namespace) -> LaunchOptions:
    """
    Remove the options of `add_launch_arguments` from `args`.

    Raises `ValueError` if they contradict each other, and if `srun` or `mpirun` started several processes without ranks.
    """
    given = {name: vars(args).pop(name) for name in LaunchOptions.__dataclass_fields__}
    if given["num_processes"] is None:
        _check_tasks()
        given["num_processes"] = LaunchOptions.num_processes
    return LaunchOptions(**given)


def _check_tasks() -> None:
    """
    Refuse several tasks of one `srun` or `mpirun` without the variables of torchrun: on GPUs each task would train alone, into the
    same folder. (On CPUs Accelerate reads the ranks of MPI. It reads those of torchrun as well, so one rule holds for both.)
    """
    if not RANK_VARIABLES.isdisjoint(os.environ):
        return
    for variable, launcher in TASK_LAUNCHERS.items():
        number = os.environ.get(variable, "1")
        if number.isdecimal() and int(number) > 1:
            raise ValueError(
                f"{launcher} started {number} tasks ({variable}={number}), which on GPUs would run without each other: start one task per machine "
                "with --num_processes N --num_machines M, or set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in each task "
                "(see docs/guides/several-machines.md); --num_processes 1 leaves the tasks as they are (Accelerate joins those of "
                "MPI on CPUs)."
            )


def should_launch(options: LaunchOptions) -> bool:
    """
    Whether this process has to start the others; not if it was itself started by `launch`.

    Raises `ValueError` if another launcher started this process: each of its processes would start `num_processes` more.
    """
    if options.num_processes == 1 or IS_LAUNCHED in os.environ:
        return False
    for variable, launcher in LAUNCHERS.items():
        number = os.environ.get(variable, "1")
        if number.isdecimal() and int(number) > options.num_machines:
            raise ValueError(
                f"num_processes={options.num_processes} starts processes, and {launcher} has already started this one "
                f"({variable}={number}): leave num_processes out, or start one `tubevit` per machine."
            )
    return True


def launch(module: str, argv: Sequence[str], options: LaunchOptions) -> int:
    """
    Run `python -m module *argv` in several processes and return the exit code: 0, or that of the process that failed first.

    SIGINT and SIGTERM are passed on to the processes.
    """
    import logging

    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from tubevit.processing.cpu_cores import num_cores

    num_local = options.num_processes // options.num_machines
    own_environment = dict(os.environ)
    os.environ[IS_LAUNCHED] = "1"
    os.environ.setdefault(
        "OMP_NUM_THREADS", str(max(1, num_cores() // num_local))
    )  # torchrun would set 1 and print a warning
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # failures are reported below
    if options.num_machines == 1 and options.main_process_port is None:
        rendezvous = ["--standalone"]
    else:
        rendezvous = [
            f"--nnodes={options.num_machines}",
            f"--node-rank={options.machine_rank}",
            f"--master-addr={options.main_process_ip or '127.0.0.1'}",
            f"--master-port={options.main_process_port or 29500}",
        ]
    # -P: a module in the current folder must not replace a library, as with the `tubevit` script.
    command = [sys.executable, "-P", "-m", module, *argv]
    try:
        torchrun.run(
            torchrun.parse_args([f"--nproc-per-node={num_local}", *rendezvous, "--no-python", "--", *command])
        )
    except ChildFailedError as error:
        rank, failure = _first_failure(error.failures)
        reported = failure.error_file_data.get(REPORTED)
        if reported is None:
            how = f"signal {failure.signal_name()}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
            print(f"tubevit: process {rank} of {options.num_processes} ended with {how}.", file=sys.stderr)
        elif reported["message"]:
            print(reported["message"], file=sys.stderr)
        return _exit_code(rank, error.failures)
    except SignalException as error:
        print("\ntubevit: interrupted", file=sys.stderr)
        return 128 + error.sigval
    finally:
        os.environ.clear()
        os.environ.update(own_environment)
    return 0


def _first_failure(failures: dict[int, Any]) -> tuple[int, Any]:
    """
    Rank and failure of the process that failed first: one that a signal ended, or the first that reported an error. The others
    fail because they lose their connection to it. torchrun compares whole seconds only.
    """
    killed = [rank for rank, each in failures.items() if each.exitcode < 0 and each.exitcode != -signal.SIGTERM]
    reported = {rank: each.error_file_data.get(REPORTED) for rank, each in failures.items()}
    times = {rank: each["time"] for rank, each in reported.items() if each is not None}
    rank = killed[0] if killed else min(times, key=lambda each: times[each]) if times else min(failures)
    return rank, failures[rank]


def _exit_code(rank: int, failures: dict[int, Any]) -> int:
    """
    The exit code of the process that failed first. If it was about to end and torchrun was faster (SIGTERM), it is that of a process
    that ended itself.
    """
    code = failures[rank].exitcode
    if code == -signal.SIGTERM:
        code = next((each.exitcode for each in failures.values() if each.exitcode > 0), code)
    return 128 - code if code < 0 else code


def report(message: str) -> None:
    """
    Print a message to stderr. In a process that `launch` started, pass the message to the launching process, which prints it once.

    An empty message means that the process has printed the reason for its failure itself.
    """
    if IS_LAUNCHED in os.environ:
        now = time.time()
        content = {
            REPORTED: {"message": message, "time": now},
            "message": message or "see above",
            "timestamp": int(now),
        }
        with open(os.environ[ERROR_FILE], "w", encoding="utf-8") as file:
            json.dump(content, file)
    elif message:
        print(message, file=sys.stderr)


_CPU_GROUP: list[Any] = []  # the group of `gather_on_cpu`, and the world that it belongs to


def gather_on_cpu(value: Any) -> list[Any]:
    """
    The values of all processes of a run, in the order of their ranks. Called on all processes.

    A collective of GPUs ends the run if a process comes later than `ddp_timeout` (30 minutes), because it reads a slow disk. This one
    runs on the CPU and waits. Its group is created once: a group that is destroyed closes its connections, also those from which
    another process still reads.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    world = distributed.group.WORLD
    if not _CPU_GROUP or _CPU_GROUP[1] is not world:
        _CPU_GROUP[:] = distributed.new_group(backend="gloo", timeout=timedelta(days=DAYS_FOR_EXCHANGE)), world
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group=_CPU_GROUP[0])
    return values


def end_processes() -> None:
    """
    End the process groups of a run when all its processes have called this function, after at most `SECONDS_TO_END`.

    A collective is complete for a process as soon as that process has received, so a process that ends at once may close connections
    from which another one still reads. (One run of two processes ended with SIGABRT for an unknown reason, which this would explain; it
    was not reproduced.) The processes therefore count themselves in the store, which belongs to the launcher.
    """
    if "torch" not in sys.modules:
        return
    from accelerate import PartialState
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    store, deadline = distributed.distributed_c10d._get_default_store(), time.monotonic() + SECONDS_TO_END
    with suppress(distributed.DistError):  # a store without launcher is rank 0's, which leaves when it has counted all
        number = store.add("tubevit/ended", 1)
        while number < distributed.get_world_size() and time.monotonic() < deadline:
            time.sleep(0.02)
            number = store.add("tubevit/ended", 0)
    _CPU_GROUP.clear()
    PartialState().destroy_process_group()
