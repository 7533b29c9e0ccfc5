# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
`tubevit doctor`: check the installed packages, the machine, video codecs, attention backends and matmul speed.

The speed test is a matrix product of TubeViT-B's shape in two float32 matmul precisions of torch. "medium" allows torch to use
other routines. On CPUs where MKL is slow, a forward pass then takes 40 % less time at the same accuracy; on other CPUs the setting
has no effect, or rounds to bfloat16. This package never changes the setting; the report shows its effect on this machine.
"""

import argparse
import platform
import statistics
import time
from importlib.metadata import requires, version
from typing import Any

from ..environment import REQUIRED, installed_versions


TOKENS, WIDTH, MLP_WIDTH = 539, 768, 3072  # TubeViT-B's largest product: (tokens, width) x (width, MLP width)
MIN_SPEEDUP = 1.15  # smaller speedups may be noise from other processes
EXACT_BELOW = 1e-5  # relative error that counts as float32; bfloat16 has about 2e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="duration of the matmul speed test, in seconds (default: 2)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the report. The exit code is 1 if the installation has a problem that stops the package from working."""
    broken, warnings = [], []
    _print_section("versions", describe_versions(broken))
    if not broken:
        _print_section("machine", describe_machine())
        _print_section("video decoding", describe_decoder(broken))
        _print_section("attention backends", describe_attention())
        _print_section("float32 matrix products", describe_matmul(measure_matmul(args.seconds), warnings))
        broken += find_broken_operators()
    for line in broken:
        print(f"\nbroken: {line}")
    for line in warnings:
        print(f"\nadvice: {line}")
    if not broken:
        print("\nNo problems found.")
    return 1 if broken else 0


def describe_versions(broken: list[str]) -> dict[str, str]:
    """Package to version. Missing packages and versions that do not meet a requirement are added to `broken`."""
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
    """CPU cores, threads and GPUs as torch sees them."""
    import torch

    from tubevit.processing.cpu_cores import num_cores

    lines = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": f"{num_cores()}",
        "torch threads": f"{torch.get_num_threads()}",
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if not torch.cuda.is_available():
        lines["GPU"] = "none seen by torch" + (
            f" (torch is built for CUDA {torch.version.cuda})" if torch.version.cuda else ""
        )
    else:
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            lines[f"GPU {index}"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return lines


def describe_decoder(broken: list[str]) -> dict[str, str]:
    """Versions of the FFmpeg libraries in PyAV, and which common codecs they have. Missing decoders are added to `broken`."""
    import av

    libraries = ", ".join(f"{name} {'.'.join(map(str, numbers))}" for name, numbers in av.library_versions.items())
    codecs = {name: _has_codec(name, "r") for name in ("h264", "hevc", "vp9", "av1", "mpeg4")}
    if missing := [name for name, is_available in codecs.items() if not is_available]:
        broken.append(
            f"PyAV's FFmpeg cannot decode {', '.join(missing)}: pip install --force-reinstall --only-binary :all: av"
        )
    writes = "yes" if _has_codec("libx264", "w") else "no; `tubevit demo` and `tubevit data prepare` need it"
    return {
        "FFmpeg": libraries,
        "decodes": ", ".join(name for name, is_available in codecs.items() if is_available),
        "writes H.264": writes,
    }


def describe_attention() -> dict[str, str]:
    """The values of `attn_implementation`, and whether this machine supports them."""
    import torch
    from transformers.utils import import_utils

    has_gpu = torch.cuda.is_available()
    available = {
        "eager": True,
        "sdpa": True,
        "flex_attention": import_utils.is_torch_flex_attn_available(),
        "flash_attention_2": has_gpu and import_utils.is_flash_attn_2_available(),
        "flash_attention_3": has_gpu and import_utils.is_flash_attn_3_available(),
        "flash_attention_4": has_gpu and import_utils.is_flash_attn_4_available(),
    }
    return {name: "yes" if is_available else "no" for name, is_available in available.items()}


def measure_matmul(seconds: float) -> dict[str, dict[str, float]]:
    """
    `{"highest" | "medium": {"gflops", "error"}}` of a product of TubeViT-B's shape, on the GPU if torch sees one.

    Speeds are medians; the precisions alternate, so that other processes slow down both equally. `error` is the largest
    absolute difference from float64, divided by the largest value. torch's precision setting is restored.
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
    """The lines of the report. Advice is added to `warnings` if "medium" is faster."""
    gain = measured["medium"]["gflops"] / measured["highest"]["gflops"]
    is_exact = measured["medium"]["error"] < EXACT_BELOW
    switch = 'torch.set_float32_matmul_precision("medium")'
    if gain >= MIN_SPEEDUP and is_exact:
        warnings.append(
            f"{switch} makes matrix products {gain:.1f} times as fast on this device, at full accuracy: add it to your script, or give predict, eval, watch and serve --matmul-precision medium."
        )
    elif gain >= MIN_SPEEDUP:
        warnings.append(
            f"{switch} makes matrix products {gain:.1f} times as fast on this device, but rounds them to "
            f"{measured['medium']['error']:.0e} of the largest value: try it and compare the accuracy of your model."
        )
    lines = {
        precision: f"{values['gflops']:.0f} GFLOP/s, error {values['error']:.0e}"
        for precision, values in measured.items()
    }
    verdict = "is faster" if gain >= MIN_SPEEDUP else "is not faster"
    return {**lines, "verdict": f'"medium" {verdict} on this device ({gain:.2f} x); torch uses "highest" by default'}


def find_broken_operators() -> list[str]:
    """
    An error message if torchvision's operators do not work. A torchvision that was built for another torch version may be
    imported without an error and fail at its first operator.
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
    """Messages for the requirements of `package` on packages in `needed` that the versions in `found` do not meet."""
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
                f"{package} {found[package]} needs {requirement}, but {have} is installed: "
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
