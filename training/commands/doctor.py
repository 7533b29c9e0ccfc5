# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit doctor`: what is installed, what this machine can do, and the traps that are known.

The measurement is a matrix product of TubeViT-B's shape in both of torch's float32 precisions. "medium" lets torch take
other routines: on processors where MKL is slow it takes 40 % off a forward pass at the same accuracy, elsewhere it does
nothing or rounds to bfloat16. It is the user's switch, so it is measured and explained here and never set silently.
"""

import argparse
import platform
import statistics
import time
from importlib.metadata import requires, version
from typing import Any

from ..environment import REQUIRED, installed_versions


TOKENS, WIDTH, MLP_WIDTH = 539, 768, 3072  # TubeViT-B's largest product: (tokens, width) x (width, MLP width)
PAYS_FROM = 1.15  # a smaller gain is within what other load on the machine does to a measurement
EXACT_BELOW = 1e-5  # relative error that counts as float32; bfloat16 has about 2e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="leave the measurement out")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure matrix products (default: 2)")


def run(args: argparse.Namespace) -> int:
    """Print the report; the exit code is 1 if something is broken."""
    broken, warnings = [], []
    _print_section("versions", describe_versions(broken))
    if not broken:
        _print_section("machine", describe_machine())
        _print_section("video decoding", describe_decoder(broken))
        _print_section("attention backends", describe_attention())
        if not args.dry_run:
            _print_section("float32 matrix products", describe_matmul(measure_matmul(args.seconds), warnings))
        broken += find_broken_operators()
    for line in broken:
        print(f"\nbroken: {line}")
    for line in warnings:
        print(f"\nnote: {line}")
    if not broken:
        print("\nNothing is broken.")
    return 1 if broken else 0


def describe_versions(broken: list[str]) -> dict[str, str]:
    """Package to version; what is missing, or too old for what it is installed with, is added to `broken`."""
    found = installed_versions()
    for name in REQUIRED:
        if found[name] is None:
            broken.append(f"{name} is not installed: pip install -e . in the checkout, or pip install {name}.")
    absent = {name: "missing" if name in REQUIRED else "not installed, optional" for name in found}
    found = {"python": platform.python_version()} | {name: each or absent[name] for name, each in found.items()}
    for package, needed in (("tubevit", REQUIRED[1:]), ("torchvision", ("torch",))):
        broken += _unmet(package, needed, found)
    return found


def describe_machine() -> dict[str, str]:
    """Processor, threads and GPUs as torch sees them."""
    import torch

    from tubevit.processing.cpu_cores import num_cores

    lines = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": f"{num_cores()}",
        "torch threads": f"{torch.get_num_threads()}",
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if not torch.cuda.is_available():
        lines["GPU"] = "none that torch sees" + (
            f" (torch is built for CUDA {torch.version.cuda})" if torch.version.cuda else ""
        )
    else:
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            lines[f"GPU {index}"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return lines


def describe_decoder(broken: list[str]) -> dict[str, str]:
    """FFmpeg's libraries inside PyAV, and which of the usual codecs they have."""
    import av

    libraries = ", ".join(f"{name} {'.'.join(map(str, numbers))}" for name, numbers in av.library_versions.items())
    codecs = {name: _has_codec(name, "r") for name in ("h264", "hevc", "vp9", "av1", "mpeg4")}
    if missing := [name for name, there in codecs.items() if not there]:
        broken.append(
            f"PyAV's FFmpeg cannot decode {', '.join(missing)}: pip install --force-reinstall --only-binary :all: av"
        )
    writes = "yes" if _has_codec("libx264", "w") else "no, and `make demo` needs it for its clips"
    return {
        "FFmpeg": libraries,
        "decodes": ", ".join(name for name, there in codecs.items() if there),
        "writes H.264": writes,
    }


def describe_attention() -> dict[str, str]:
    """Which values of `attn_implementation` work here."""
    import torch
    from transformers.utils import import_utils

    available = {"eager": True, "sdpa": True, "flex_attention": import_utils.is_torch_flex_attn_available()}
    for number in (2, 3, 4):
        check = getattr(import_utils, f"is_flash_attn_{number}_available", None)
        available[f"flash_attention_{number}"] = torch.cuda.is_available() and check is not None and check()
    return {name: "yes" if there else "no" for name, there in available.items()}


def measure_matmul(seconds: float) -> dict[str, dict[str, float]]:
    """
    `{"highest" | "medium": {"gflops", "error"}}` of a product of TubeViT-B's shape, on the GPU if torch sees one.

    The precisions take turns, so that other load meets both alike; medians. `error` is the largest deviation from
    float64, relative to the largest value. torch's setting is put back.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(TOKENS, WIDTH, generator=generator).to(device)
    kernel = torch.randn(WIDTH, MLP_WIDTH, generator=generator).to(device)
    exact = tokens.double() @ kernel.double()
    times, results = {"highest": [], "medium": []}, {}
    before = torch.get_float32_matmul_precision()
    try:
        for precision in times:
            torch.set_float32_matmul_precision(precision)
            deviation = (tokens @ kernel - exact).abs().max() / exact.abs().max()  # also warms up
            results[precision] = {"error": deviation.item()}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times["medium"]) < 3:
            for precision, measured in times.items():
                torch.set_float32_matmul_precision(precision)
                measured.append(_time_product(tokens, kernel))
    finally:
        torch.set_float32_matmul_precision(before)
    for precision, measured in times.items():
        results[precision]["gflops"] = 2e-9 * TOKENS * WIDTH * MLP_WIDTH / statistics.median(measured)
    return results


def describe_matmul(measured: dict[str, dict[str, float]], warnings: list[str]) -> dict[str, str]:
    """The measurement in words; a note on "medium" is added to `warnings` where it matters."""
    gain = measured["medium"]["gflops"] / measured["highest"]["gflops"]
    is_exact = measured["medium"]["error"] < EXACT_BELOW
    switch = 'torch.set_float32_matmul_precision("medium")'
    if gain >= PAYS_FROM and is_exact:
        warnings.append(
            f"{switch} makes products {gain:.1f} times as fast here, at full accuracy: put it in your script."
        )
    elif gain >= PAYS_FROM:
        warnings.append(
            f"{switch} makes products {gain:.1f} times as fast here, but rounds them to "
            f"{measured['medium']['error']:.0e} of the largest value: try it if your accuracy bears that."
        )
    lines = {
        precision: f"{values['gflops']:.0f} GFLOP/s, error {values['error']:.0e}"
        for precision, values in measured.items()
    }
    verdict = "pays" if gain >= PAYS_FROM else "does not pay"
    return {**lines, "verdict": f'"medium" {verdict} on this processor ({gain:.2f} x); the default is "highest"'}


def find_broken_operators() -> list[str]:
    """
    A torchvision that was built for another torch imports, and fails later or at its first own operator.
    """
    import torch

    try:
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        return [
            f"torchvision {version('torchvision')} does not work with torch {torch.__version__} ({str(error).splitlines()[0]}): "
            "install both in one command, pip install --upgrade torch torchvision, from one index."
        ]
    return []


def _unmet(package: str, needed: tuple[str, ...], found: dict[str, str]) -> list[str]:
    """Sentences for the requirements of `package` on `needed` that the versions in `found` do not meet."""
    from packaging.requirements import Requirement

    if found.get(package) == "missing":
        return []
    problems = []
    for line in requires(package) or []:
        requirement = Requirement(line)
        have = found.get(requirement.name, "missing")
        if (
            requirement.name not in needed
            or have == "missing"
            or (requirement.marker and not requirement.marker.evaluate())
        ):
            continue
        if not requirement.specifier.contains(have, prereleases=True):
            problems.append(
                f"{package} {found[package]} needs {requirement}, here is {have}: "
                f"pip install --upgrade '{requirement}'."
            )
    return problems


def _has_codec(name: str, mode: str) -> bool:
    import av

    try:
        av.codec.Codec(name, mode)
    except ValueError:
        return False
    return True


def _time_product(left: Any, right: Any) -> float:
    import torch

    start = time.perf_counter()
    left @ right
    if left.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _print_section(title: str, lines: dict[str, str]) -> None:
    width = max(map(len, lines))
    print(f"\n{title}")
    for name, value in lines.items():
        print(f"  {name:<{width}}  {value}")
