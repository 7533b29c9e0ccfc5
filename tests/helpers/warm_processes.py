"""Python processes that start in milliseconds: they are forked from a process that has imported torch, Transformers and the libraries
that draw and decode, and nothing of this project. An import of these takes seven seconds of CPU time, for each process of each test.
For tests of imports, the process has imported torch only.

A test whose subject is the start of a process (imports, `torchrun`, streams of the real command) starts a real process instead.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


TORCH_ONLY = ("torch", "torchvision.transforms.v2")
ALL_LIBRARIES = (*TORCH_ONLY, "accelerate", "transformers.trainer", "transformers.pipelines", "matplotlib.figure")
ALL_LIBRARIES += ("matplotlib.backends.backend_agg", "av")
# Libraries read these when they are imported; a process that is forked later cannot have others.
READ_BY_TORCH = ("OMP_", "MKL_", "TORCH_", "PYTHON")
READ_ON_IMPORT = {TORCH_ONLY: READ_BY_TORCH, ALL_LIBRARIES: (*READ_BY_TORCH, "HF_", "TRANSFORMERS_")}
STANDARD = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TIME_LIMIT = 300  # seconds


def run_python(
    *arguments: str | Path, ranks: int = 0, cwd=None, imported: tuple = ALL_LIBRARIES, variables: dict | None = None
) -> subprocess.CompletedProcess:
    """As `python *arguments`, where they begin with the path of a script, `-m` and a module, or `-c` and code. `imported` is
    `ALL_LIBRARIES` or `TORCH_ONLY`; `variables` are added to the environment.

    With `ranks`, this number of processes, as `torchrun --standalone --nproc-per-node` starts them: when one fails, the others are
    ended. stdout and stderr are then those of all ranks, and the exit status is that of the first rank that failed.
    """
    running = Running(
        *arguments, ranks=ranks, cwd=cwd, imported=imported, environment={**os.environ, **(variables or {})}
    )
    status = running.wait()
    return subprocess.CompletedProcess(running.arguments, status, *running.read_output())


class Running:
    """A process of `run_python` that runs beside the test, with what users of `subprocess.Popen` need. One runs at a time."""

    stdin = stdout = stderr = None  # no pipes

    def __init__(self, *arguments, ranks: int = 0, cwd=None, imported: tuple = ALL_LIBRARIES, environment=os.environ):
        self.server, started_with = start_server(imported)
        environment = {**environment, **STANDARD}
        differing = read_on_import(environment, imported).items() ^ started_with.items()
        assert not differing, f"needs a real process: {differing}"
        environments = [environment]
        if ranks:
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
            shared["LOCAL_WORLD_SIZE"] = str(ranks)
            environments = [
                {**environment, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)
            ]
        self.arguments, self.folder = list(map(str, arguments)), tempfile.TemporaryDirectory()
        self.returncode = None
        request = {"arguments": self.arguments, "cwd": str(cwd or os.getcwd()), "folder": self.folder.name}
        self.server.stdin.write(json.dumps({**request, "environments": environments}).encode() + b"\n")
        self.pid = int(self.server.stdout.readline())  # of the first rank

    def poll(self) -> int | None:
        is_over = self.returncode is None and select.select([self.server.stdout], [], [], 0)[0]
        return self.wait() if is_over else self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. timeout: in seconds, after which it raises `TimeoutError`."""
        if self.returncode is None:
            if not select.select([self.server.stdout], [], [], timeout)[0]:
                raise TimeoutError(f"{' '.join(self.arguments)} runs after {timeout:g} s.")
            self.returncode = int(self.server.stdout.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def stderr_so_far(self) -> str:
        return Path(self.folder.name, "0.stderr").read_text()

    def read_output(self) -> list[str]:
        """stdout and stderr of a process that has ended. Removes their files."""
        with self.folder as folder:
            paths = [sorted(Path(folder).glob(f"*.{stream}")) for stream in ("stdout", "stderr")]
            return ["".join(path.read_text() for path in each) for each in paths]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@functools.cache
def start_server(imported: tuple[str, ...]) -> tuple[subprocess.Popen, dict[str, str]]:
    """The process that is forked, one in each process that runs tests, and the variables that its libraries have read."""
    environment = {**os.environ, **STANDARD}
    server = subprocess.Popen(
        [sys.executable, __file__, *imported],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # `Running.poll` must not miss a line in a buffer
    )
    atexit.register(server.kill)
    return server, read_on_import(environment, imported)


def read_on_import(environment: dict[str, str], imported: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_ON_IMPORT[imported])}


def serve() -> dict:
    """
    Fork for each request of stdin. Answer with the ID of the first process, then with the exit status. Only the forked processes
    return: with what they shall run.
    """
    for line in sys.stdin:
        request = json.loads(line)
        ranks = {}
        for rank, environment in enumerate(request["environments"]):
            pid = os.fork()
            if pid == 0:
                return {**request, "environment": environment, "rank": rank}
            os.setpgid(pid, pid)  # Jupyter ends the process group of a kernel
            os.close(os.open(f"{request['folder']}/{rank}.stderr", os.O_CREAT | os.O_WRONLY))
            ranks[pid] = rank
        print(min(ranks, key=ranks.get), flush=True)
        print(wait(ranks), flush=True)
    sys.exit()


def wait(ranks: dict[int, int]) -> int:
    """Wait for processes. Return 0, or the exit status of the first that failed, or minus the number of the signal that ended it."""
    failed, deadline = 0, time.monotonic() + TIME_LIMIT
    while ranks:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
            continue
        code = os.waitstatus_to_exitcode(status) if pid else -signal.SIGALRM
        ranks.pop(pid, None)
        if code and not failed:
            failed = code
            for other in ranks:
                os.kill(other, signal.SIGKILL)
    return failed


def become(request: dict) -> None:
    """Run the program of the request, in the forked process."""
    for descriptor, name in enumerate(("stdout", "stderr"), 1):
        opened = os.open(f"{request['folder']}/{request['rank']}.{name}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.modules["numpy"].random.seed()  # a new process has other random numbers; `random` sees to this itself
    first, *rest = request["arguments"]
    folder = Path(first).parent if first.endswith(".py") else request["cwd"]
    sys.path[0] = str(folder)
    sys.argv = [first, *rest]
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), sys.modules["__main__"].__dict__)
    elif first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    gc.disable()
    for library in sys.argv[1:]:
        importlib.import_module(library)
    gc.freeze()
    gc.enable()
    become(serve())
