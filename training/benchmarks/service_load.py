# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
A load test of `tubevit serve`, on this machine only.

    python -m tubevit.training.benchmarks.service_load MODEL VIDEO ...

It starts the service twice, with batches of 1 and of several videos, sends videos to both in alternating rounds, and prints requests
per second, their ratio and latencies. Then it sends malformed requests, and prints the statuses, and the memory of the service after each
1,000 requests. The exit code is 1 if a request was answered with a status of 500 or above, or not at all.
"""

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx

from ..errors import run_script
from .memory import memory_of


ROUNDS = 3
MEMORY_STEP = 1000  # malformed requests between two measurements of memory


class Service:
    """A running `tubevit serve` with `options`, on a free port of the loopback interface."""

    def __init__(self, model: str, options: Sequence[str]):
        command = [
            sys.executable,
            "-m",
            f"{__package__.rpartition('.')[0]}.cli",
            "serve",
            model,
            "--port",
            "0",
            *options,
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "Uvicorn running on" in line:
                self.url = line.split("Uvicorn running on ")[1].split()[0]
                break
        else:
            raise RuntimeError(f"{' '.join(command)} ended with exit code {self.process.wait()}.")

    def post(self, **sent) -> int:
        """The status of the answer; 0 without an answer."""
        try:
            # No TLS, so no certificates, whose reading takes longer than a request.
            return httpx.post(f"{self.url}/classify", timeout=120, verify=False, **sent).status_code
        except httpx.HTTPError:
            return 0

    def memory(self) -> float:
        """MiB of the service and its processes."""
        return memory_of(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)


def send_all(send: Callable[[int], int], number: int, concurrency: int) -> tuple[float, list[float], Counter]:
    """Seconds of all requests, seconds of each, and the statuses."""
    seconds = []

    def timed(index: int) -> int:
        begin = time.perf_counter()
        status = send(index)
        seconds.append(time.perf_counter() - begin)
        return status

    begin = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        statuses = Counter(pool.map(timed, range(number)))
    return time.perf_counter() - begin, seconds, statuses


def malformed(videos: list[bytes], seed: int) -> dict:
    """A request with a damaged video, random bytes, or a body that is neither a form nor JSON."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(videos))
    kind = seed % 8
    if kind == 0:
        return {"content": bytes(data[: rng.randrange(len(data))])}
    if kind == 1:
        for _ in range(rng.randrange(1, 200)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return {"files": {"file": ("damaged.mp4", bytes(data))}}
    if kind == 2:
        start = rng.randrange(len(data))
        data[start : start + rng.randrange(1, 4096)] = rng.randbytes(16)
        return {"content": bytes(data)}
    if kind == 3:
        return {"content": rng.randbytes(rng.randrange(1, 100_000))}
    if kind == 4:
        return {"content": rng.randbytes(300), "headers": {"content-type": "multipart/form-data; boundary=x"}}
    if kind == 5:
        return {"content": rng.randbytes(30), "headers": {"content-type": "application/json"}}
    if kind == 6:
        return {"json": {"url": rng.choice(["http://localhost/x", "file:///etc/passwd", "x" * 5000, 7, None])}}
    return {"files": {rng.choice(["file", "other"]): ("x.mp4", b"")}, "params": {"top_k": rng.choice([-1, "x", 3])}}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--requests", type=int, default=100, help="videos per round (default: 100)")
    parser.add_argument("--malformed", type=int, default=10_000, help="malformed requests (default: 10000)")
    parser.add_argument("--concurrency", type=int, default=16, help="requests at the same time (default: 16)")
    parser.add_argument(
        "--max-batch-size", type=int, default=8, help="videos of a batch, compared with 1 (default: 8)"
    )
    args = parser.parse_args(argv)
    videos = [path.read_bytes() for path in args.videos]
    sizes = (1, args.max_batch_size)
    services = {size: Service(args.model, ["--max-batch-size", str(size)]) for size in sizes}
    failed = 0
    try:
        rates: dict[int, list[float]] = {size: [] for size in sizes}
        latencies: dict[int, list[float]] = {size: [] for size in sizes}
        for number in range(ROUNDS + 1):
            for size, service in services.items():

                def send(index: int, service: Service = service) -> int:
                    return service.post(content=videos[index % len(videos)])

                seconds, each, statuses = send_all(send, args.requests, args.concurrency)
                failed += sum(count for status, count in statuses.items() if status != 200)
                if number:  # the first round warms up
                    rates[size].append(args.requests / seconds)
                    latencies[size] += each
        for size in sizes:
            p50, p99 = (statistics.quantiles(latencies[size], n=100)[index] for index in (49, 98))
            rate = statistics.median(rates[size])
            print(f"batches of up to {size}: {rate:.2f} requests/s, p50 {p50:.3f} s, p99 {p99:.3f} s")
        ratio = statistics.median(rates[sizes[1]]) / statistics.median(rates[sizes[0]])
        print(f"requests per second with batches, relative to single videos: {ratio:.2f}")

        service = services[sizes[1]]
        send_malformed = lambda index: service.post(**malformed(videos, index))  # noqa: E731
        statuses, memory = Counter(), {}
        for number in range(0, args.malformed, MEMORY_STEP):
            count = min(MEMORY_STEP, args.malformed - number)
            statuses += send_all(lambda index, first=number: send_malformed(first + index), count, args.concurrency)[2]
            memory[number + count] = service.memory()
        print(
            f"{args.malformed:,} malformed requests: " + ", ".join(f"{n:,} x {s}" for s, n in sorted(statuses.items()))
        )
        print("MiB of the service after requests: " + ", ".join(f"{n:,}: {mib:,.0f}" for n, mib in memory.items()))
        failed += sum(count for status, count in statuses.items() if status == 0 or status >= 500)
        failed += service.post(content=videos[0]) != 200
    finally:
        for service in services.values():
            service.stop()
    print(f"{failed} requests failed." if failed else "No request failed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_script(main))
