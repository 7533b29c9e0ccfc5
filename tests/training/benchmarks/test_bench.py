"""Benchmarks: counts, comparisons and arguments. No test checks a time, because times depend on the machine."""

import argparse
import importlib.util
import json
import os
import re
import sys
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from exported_graphs import make_graph_once
from transformers import VideoMAEConfig
from video_classifiers import save_tubevit
from video_files import moving_frames, write_video
from warm_processes import run_python

from tubevit.presets import PRESETS
from tubevit.training.benchmarks import bench, data_scale, decoding, families, gpu, memory, runtimes, startup
from tubevit.training.benchmarks import loader as bench_loader
from tubevit.training.benchmarks import model as bench_model
from tubevit.training.benchmarks import pipeline as bench_pipeline
from tubevit.training.benchmarks.bench import add_arguments, selected_sections
from tubevit.training.benchmarks.decoding import RAW, ClipKind, VideoClips, measure_decoding, write_clips
from tubevit.training.benchmarks.loader import (
    format_growth,
    format_loader,
    format_stages,
    format_waiting,
    measure_growth,
    measure_loader,
    measure_waiting,
)
from tubevit.training.benchmarks.memory import RESET, memory_of
from tubevit.training.benchmarks.model import (
    PEER_FIELDS,
    Setup,
    count,
    make_products,
    measure_models,
    measure_tokenizer,
)
from tubevit.training.benchmarks.pipeline import measure_pipelines
from tubevit.training.benchmarks.tables import (
    format_decoding,
    format_families,
    format_forward,
    format_pipelines,
    format_runtimes,
    format_tokenizer,
    format_training,
)
from tubevit.training.cli import main
from tubevit.training.models import onnx_files
from tubevit.training.models.loading import load_video_classifier
from tubevit.training.models.onnx_clips import clip_shape
from tubevit.training.options import parse_names
from tubevit.training.timing import Timing, interleave, ratios, summarize


SMALL = Setup(
    preset="tiny", num_frames=20, image_size=32
)  # the smallest clip that holds the main configuration's tubes
TINY_PEER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    options = (("preset", "veryfast"), ("crf", "30"))
    kind = ClipKind("small.mp4", "small clip", 48, 64, 90, 30, "libx264", 12, options)
    return write_clips(tmp_path_factory.mktemp("clips"), [kind])


def test_calls_take_turns_and_each_leads_a_round():
    order = []
    timings = interleave({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    assert order == list("abc" + "bca" + "cab")
    assert {name: len(each) for name, each in timings.items()} == {"a": 2, "b": 2, "c": 2}


def test_summaries_are_medians_and_ratios_are_of_medians():
    ours = summarize([Timing(1, 2), Timing(2, 3), Timing(9, 4)])
    theirs = summarize([Timing(4, 6), Timing(3, 6), Timing(8, 6)])
    assert ours == {"median_ms": 2000, "min_ms": 1000, "cpu_ms": 3000}
    assert ratios(ours, theirs) == {"ratio": 0.5, "ratio_of_minima": 1 / 3, "ratio_of_cpu": 0.5}


def test_flops_of_tubevit_follow_from_its_shapes():
    tokens, width, mlp, layers = 539, 768, 3072, 12
    tubes = [(98, 8 * 8 * 8), (147, 16 * 4 * 4), (98, 4 * 12 * 12), (196, 16 * 16)]
    multiplications = sum(number * 3 * volume * width for number, volume in tubes)
    multiplications += layers * tokens * (4 * width**2 + 2 * width * mlp + 2 * tokens * width)
    pooling = 2 * tokens * width**2 + 2 * width**2 + 2 * tokens * width + 2 * width * mlp
    multiplications += pooling + width * 400
    counted = count(Setup())
    assert counted["tokens"] == tokens
    assert counted["gflops"] == pytest.approx(2e-9 * multiplications)
    assert counted == count(Setup(batch_size=3, dtype="bfloat16", train=True)), "it is that of one clip"


@pytest.mark.parametrize(
    ("name", "tokens", "gflops"),
    [("videomae", 1568, 361), ("vivit", 3137, 903), ("timesformer", 1569, 392), ("vjepa2", 2048, 1870)],
)
def test_peers_are_those_of_the_papers(name, tokens, gflops):
    counted = count(Setup(name=name))
    assert counted["tokens"] == tokens
    assert counted["gflops"] == pytest.approx(gflops, rel=0.01)


def test_products_are_all_of_the_encoders_linear_layers():
    model, _ = bench_model.build_model(SMALL)
    tokens, width, mlp, layers = 7, 192, 768, 12
    multiply, gflops = make_products(model, tokens)
    multiply()
    assert gflops == pytest.approx(2e-9 * layers * tokens * (4 * width**2 + 2 * width * mlp))


@pytest.mark.parametrize("train", [False, True])
def test_models_are_compared(train, monkeypatch):
    monkeypatch.setitem(PEER_FIELDS, "videomae", {**TINY_PEER, "image_size": 32})
    monkeypatch.setattr(bench_model, "peak_memory_mib", lambda setup, module: 2.0)
    report = measure_models(replace(SMALL, train=train), ["videomae"], rounds=1)
    ours, theirs = report["models"]
    assert (ours["name"], theirs["name"]) == ("tubevit", "videomae")
    assert theirs["ratio"] == pytest.approx(ours["median_ms"] / theirs["median_ms"])
    assert theirs["ratio_of_memory"] == 1
    assert ours["clips_per_second"] == pytest.approx(1000 / ours["median_ms"])
    assert ("fraction_of_mm" in ours) is not train
    assert "fraction_of_mm" not in theirs
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("train", [False, True])
def test_dtypes_are_compared_in_one_run(train, monkeypatch):
    monkeypatch.setitem(PEER_FIELDS, "videomae", {**TINY_PEER, "image_size": 32})
    monkeypatch.setattr(
        bench_model, "peak_memory_mib", lambda setup, module: {"float32": 4.0, "bfloat16": 2.0}[setup["dtype"]]
    )
    runs = []
    monkeypatch.setattr(
        bench_model, "interleave", lambda calls, *rest: runs.append(set(calls)) or interleave(calls, *rest)
    )
    report = measure_models(replace(SMALL, train=train), ["videomae"], 1, ["bfloat16"])
    models = {(row["name"], row["dtype"]): row for row in report["models"]}
    assert list(models) == [(name, dtype) for dtype in ("float32", "bfloat16") for name in ("tubevit", "videomae")]
    keys = {replace(SMALL, name=name, dtype=dtype).key for name, dtype in models}
    assert len(keys) == 4
    parts = set() if train else {f"{part} {dtype}" for part in ("mm", "tokens") for dtype in ("float32", "bfloat16")}
    assert runs == [keys | parts]
    for (name, dtype), row in models.items():
        ours, first = models["tubevit", dtype], models[name, "float32"]
        assert ("ratio_to_first_dtype" in row) == (dtype == "bfloat16")
        assert row.get("ratio_to_first_dtype", 1) == pytest.approx(row["median_ms"] / first["median_ms"])
        assert ("ratio" in row) == (name == "videomae")
        assert row.get("ratio", 1) == pytest.approx(ours["median_ms"] / row["median_ms"])
        assert row.get("ratio_of_memory", 1) == 1, "within a dtype"
    table = (format_training if train else format_forward)(report)
    assert "ms: TubeViT / row" in table.splitlines()[1] and table.splitlines()[1].endswith("ms / float32")
    assert "not frozen" not in table
    assert table.count("TubeViT tiny  bfloat16") == 1


# glibc reads the variables when a process starts, so a forked process sets what they mean: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
FREED_AT_ONCE = """
import ctypes, runpy, sys
for parameter in (-3, -1):
    assert ctypes.CDLL(None).mallopt(parameter, 65_536)
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""


def run_forked(command, env, **options):
    """As `subprocess.run`, for the process that measures its memory. (A real one runs in ../experiments/test_comparison.py.)"""
    interpreter, option, module, setup = command
    assert (interpreter, option) == (sys.executable, "-m") and env.items() >= memory.RETURN_FREED_BLOCKS.items()
    code = FREED_AT_ONCE.replace("sys.argv[1]", repr(module))
    return run_python("-c", code, setup)


def test_frozen_layers_are_compared_with_the_whole_model(monkeypatch):
    monkeypatch.setattr(memory.subprocess, "run", run_forked)
    report = measure_models(replace(SMALL, train=True), [], 1, num_frozen_layers=11)
    whole, frozen = report["models"]
    assert frozen["ratio"] == pytest.approx(frozen["median_ms"] / whole["median_ms"])
    if RESET.is_file():  # the memory counts of Linux
        assert frozen["ratio_of_memory"] == frozen["peak_mib"] / whole["peak_mib"] < 0.5
        assert whole["peak_mib"] > 0.9 * whole["parameters"] * 4 / 2**20, "memory of training includes the gradients"
    _, header, _, row, *_ = format_training(report).splitlines()
    assert (
        row.startswith("TubeViT tiny, 11 layers frozen")
        and "ms: row / not frozen" in header
        and "TubeViT /" not in header
    )
    assert f"{frozen['ratio']:.3f}" in row.split()


def test_a_model_is_built_in_its_dtype():
    model, inputs = bench_model.build_model(replace(SMALL, dtype="bfloat16"))
    assert {tensor.dtype for tensor in [*model.parameters(), *inputs.values()]} == {torch.bfloat16}


TINY_FAMILIES = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 96, "image_size": 64}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("preset", ["uniformerv2-b16", "uniformerv2-b16-full"])
def test_published_formulation_of_uniformerv2_has_the_logits_of_the_model(preset, train):
    pair = families.build_pair(preset, 2, TINY_FAMILIES, train=train)
    ours, theirs = (call() for call, _ in pair.values())
    assert ours.abs().mean() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    kept = [families.kept_mib(*each) for each in pair.values()]
    assert 0 < kept[0] < 0.87 * kept[1]  # 0.78 and 0.82 at size B/16


def test_memory_that_autograd_keeps_counts_each_storage_once():
    linear = torch.nn.Linear(8, 4)
    inputs = torch.randn(1024, 8, requires_grad=True)
    assert families.kept_mib(lambda: linear(inputs), [linear.weight, linear.bias]) == 1024 * 8 * 4 / 2**20
    assert families.kept_mib(lambda: linear(inputs) + linear(inputs[:512]).sum(), list(linear.parameters())) == 2**-5
    assert families.kept_mib(lambda: inputs.exp().exp(), []) == 2 * 2**-5


def test_families_are_compared(monkeypatch):
    monkeypatch.setattr(families, "peak_memory_mib", lambda setup, module: {"ours": 2.0, "theirs": 4.0}[setup["name"]])
    rows = families.measure_families(1, "cpu", 1, **TINY_FAMILIES)
    assert [row["unit"] for row in rows] == ["ms", "MiB", "MiB"] * 2 + ["ms"] * 4
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["theirs"]) for row in rows)
    assert [row["aim"] for row in rows] == [0.95, 0.85, 0.85, 0.9, 0.85, 0.85, 0.85, 0.55, 0.7, 0.55]
    text = format_families(rows)
    assert "ViViT Model 4, a layer" in text and "peak of a training step" in text and "0.500" in text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tokenizers_agree(dtype):
    report = measure_tokenizer("tiny", 20, 32, 1, "cpu", dtype, rounds=1)
    # Tokens are of the order of 1; bfloat16 keeps 8 bits of them.
    assert all(row["difference"] < (1e-4 if dtype == "float32" else 4e-2) for row in report["variants"].values())
    assert {name for name, row in report["variants"].items() if "ratio" in row} == {"float", "uint8"}
    assert "Conv3d" in format_tokenizer(report)


def test_clips_have_the_key_frames_that_were_asked_for(clip):
    ((_, path),) = clip
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert len(packets) == 90
        assert sum(packet.is_keyframe for packet in packets) >= 90 / 12


def test_both_routes_decode_the_same_frames(clip):
    ((_, path),) = clip
    clips = VideoClips(path)
    ours = clips.ours(**RAW, do_resize=False, do_center_crop=False)
    assert len(ours) == len(clips.indices) > 1
    for pixels, frames in zip(ours, clips.load(clips.indices), strict=True):
        difference = pixels[0].permute(0, 2, 3, 1).numpy().astype(int) - frames
        assert np.abs(difference).max() <= 2, "color conversion may round differently"


def test_loading_is_measured_from_originals_and_copies(clip):
    (video,) = measure_loader(clip, num_frames=8, device="cpu", rounds=1)
    assert video["num_frames"] == 8 and video["bytes"] > 0 and video["prepared_bytes"] > 0
    assert all(video[name]["cpu_ms"] > 0 for name in ("original", "prepared", "augment"))
    assert "small clip" in format_loader([video])
    for name in ("original", "prepared"):
        stages = video["stages"][name]
        assert stages["copy"] == 0 and all(stages[each] > 0 for each in stages if each != "copy")
        reading = stages["open"] + stages["decode"] + stages["crop and resize"]
        assert reading < 5 * video[name]["cpu_ms"], "the stages are parts of reading, per clip"
    text = format_stages([{**video, "title": f"clip {number}"} for number in range(4)])
    assert "clip 3, prepared" in text and "Slowest files: clip 0 (" in text
    assert "Slowest" not in format_stages([video])


def test_fraction_of_a_training_step_that_waits_for_data(clip):
    report = measure_waiting(clip[0][1], "tiny", num_frames=32, device="cpu", batch_size=1, num_workers=0, rounds=1)
    assert all(0 < report[name] < 1 for name in ("original", "prepared"))
    text = format_waiting({**report, "original": 0.5, "prepared": 0.25})
    assert (
        "0 DataLoader workers that read and augment) wait for data 50 % of the time with the original and 25 % with the "
        "prepared copy" in text
    )


def test_memory_of_a_process_is_what_it_allocates_without_mapped_files(tmp_path):
    if not bench_loader.STATUS.is_file():
        pytest.skip("needs /proc")
    (tmp_path / "file").write_bytes(bytes(32 * 2**20))
    before = memory_of(os.getpid())
    mapped = np.memmap(tmp_path / "file", np.uint8, "r")
    assert mapped.sum() == 0 and memory_of(os.getpid()) - before < 16
    allocated = np.ones(64 * 2**20, np.uint8)
    assert 48 < memory_of(os.getpid()) - before < 80 and allocated.any()


def test_memory_of_a_worker_is_followed(clip):
    if not bench_loader.STATUS.is_file():
        pytest.skip("needs /proc")
    memory = measure_growth(clip[0][1], 20)
    assert [number for number, _ in memory] == list(range(2, 21, 2)) and all(mib > 10 for _, mib in memory)
    assert format_growth([(10, 5.0), (20, 6.0), (30, 7.0)]).endswith("+102.40 KiB per clip in the second half.")


def test_decoding_is_compared_in_all_ways(clip):
    (report,) = measure_decoding(clip, rounds=1)
    for situation in ("worker", "request"):
        assert {name for name, times in report[situation].items() if "ratio" in times} == {
            "uint8",
            "float",
            "views",
            "uniform_views",
        }
    assert report["stages"].keys() == {"decode", "convert", "resize", "normalize"}
    assert all(milliseconds > 0 for milliseconds in report["stages"].values())
    assert "small clip" in format_decoding([report])


@pytest.mark.parametrize(("clip_fps", "step"), [(None, 1), (2.0, 10), (1000.0, 1)])
def test_clips_of_the_decoding_benchmark_have_the_asked_rate(clip_fps, step, tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving_frames(330), fps=20)
    clips = VideoClips(path, clip_fps)
    assert clips.fps == 20 / step
    assert all(np.diff(indices).tolist() == [step] * 31 for indices in clips.indices)


def test_pipelines_are_compared(clip, monkeypatch):
    monkeypatch.setattr(bench_pipeline, "VideoMAEConfig", lambda: VideoMAEConfig(**TINY_PEER))
    (report,) = measure_pipelines(clip, "tiny", "cpu", "float32", rounds=1)
    assert report["pipelines"].keys() == {"tubevit", "tubevit_uint8", "videomae", "videomae_whole"}
    assert "small clip" in format_pipelines([report])


@pytest.mark.parametrize("dtypes", [["float32"], ["float32", "bfloat16"]])
def test_command_prints_a_table_and_writes_numbers(tmp_path, capsys, monkeypatch, dtypes):
    monkeypatch.setattr(bench_model, "peak_memory_mib", lambda setup, module: None)
    file = tmp_path / "bench.json"
    small = ["--preset", "tiny", "--num-frames", "20", "--image-size", "32", "--device", "cpu"]
    assert main(["bench", *small, "--dtype", ",".join(dtypes), "--rounds", "1", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report["machine"]["torch"] == torch.__version__
    assert [(row["tokens"], row["dtype"]) for row in report["forward"]["models"]] == [(8, dtype) for dtype in dtypes]
    assert format_forward(report["forward"]) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sections"),
    [
        ([], ["forward"]),
        (["--against", "vivit", "--train"], ["forward", "training"]),
        (["--train"], ["training"]),
        (["--decoding"], ["decoding"]),
        (["--loader"], ["loader"]),
        (["--tokenizer", "--pipeline", "a.mp4"], ["tokenizer", "pipeline"]),
        (["--families"], ["families"]),
        (["--runtime", "--loader"], ["loader", "runtime"]),
    ],
)
def test_arguments_choose_what_is_measured(arguments, sections):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert selected_sections(parser.parse_args(arguments)) == sections


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "videomea"], "--against videomea: unknown model; use videomae"),
        (["--clip-fps", "0"], "--clip-fps must be a number of frames per second above 0, got 0"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--preset", "basse"], "Did you mean 'base'"),
        (["--random-tokens", "6", "--token-budget", "6"], "are two ways to have fewer tokens"),
        (["--random-tokens", "540"], "random_tokens=540: a clip of TubeViT base has 539 tube tokens"),
        (["--random-tokens", "6", "--startup"], "--random-tokens 6 has no effect without the forward pass or --train"),
        (["--decoder", "torchcodec-cpu"], "--decoder torchcodec-cpu has no effect without --loader"),
        (
            ["--decoder", "torchcodec-cuda", "--loader", "--loader-workers", "2"],
            "--loader-workers 2 forks workers, which cannot use --decoder torchcodec-cuda: leave it out",
        ),
        (["--preset", "uniformerv2-b16"], "is of UniFormerV2, and --preset takes sizes of TubeViT: tiny, small"),
        (["--num-frames", "4"], "does not fit a clip of 4x224x224"),
        (["--decoding", "missing.mp4"], "The file missing.mp4 does not exist"),
        (["--frozen-layers", "4"], "--frozen-layers needs --train and is at most 12, got 4"),
        (["--frozen-layers", "13", "--train"], "at most 12, got 13"),
        (["--dtype", "float32,int8"], "--dtype int8: unknown dtype; use float32, bfloat16"),
        (["--dtype", ""], "--dtype : unknown dtype"),
        (["--dtype", "float32,float32"], "names a dtype twice"),
        (["--dtype", "float32,bfloat16", "--tokenizer"], "--tokenizer takes a single dtype"),
        (["--runtime", "--dtype", "bfloat16"], "--runtime is measured in float32, got --dtype bfloat16"),
        (["--dtype", "bfloat16", "--families"], "--families is measured in float32, got --dtype bfloat16"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="needs the extra onnx")
def test_runtimes_are_compared_with_torch(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_files, "_make_graph", make_graph_once)
    file, model = tmp_path / "bench.json", save_tubevit(tmp_path / "model")
    assert main(["bench", "--runtime", str(model), "--rounds", "1", "--batch-size", "2", "--json", str(file)]) == 0
    report = json.loads(file.read_text())["runtime"]
    assert format_runtimes(report) in capsys.readouterr().out and report["batch_size"] == 2
    rows = report["rows"]
    assert list(rows)[:4] == ["torch", "float32", "int8_dynamic", "int8_static"]
    assert rows["float32"]["difference"] < 1e-5 and rows["float32"]["same_label"] == 1
    for name in ("int8_dynamic", "int8_static"):  # another file each, with other logits and fewer bytes
        assert 1e-5 < rows[name]["difference"] < 1 and rows[name]["megabytes"] < rows["float32"]["megabytes"]
    assert ("openvino" in rows) != any("OpenVINO is not measured" in note for note in report["notes"])
    default = load_video_classifier(runtimes.random_model(tmp_path / "random", "tiny", 20, 32), {})
    assert clip_shape(default) == (20, 3, 32, 32)


def test_the_gpu_benchmark_records_every_measurement(tmp_path, monkeypatch, capsys):
    """On a CPU and a small scale; the commands that it starts run in this process."""
    argvs, own = [], torch.nn.Module.compile

    def run(*arguments):
        argvs.append(list(map(str, arguments)))
        assert main(argvs[-1]) == 0

    def refuse(setup, compiles):
        raise torch.OutOfMemoryError

    monkeypatch.setitem(PRESETS, "tiny", {**PRESETS["tiny"], "num_hidden_layers": 2})  # each layer is compiled
    monkeypatch.setattr(gpu, "run_tubevit", run)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: own(self, backend="eager"))
    monkeypatch.setattr(decoding, "CLIP_KINDS", (ClipKind("a.mp4", "a", 48, 64, 24, 12, "libx264", 12, ()),))
    monkeypatch.setattr(gpu, "NUM_COPIES", 8)
    monkeypatch.setattr(gpu, "PEAK_TFLOPS", {"": 2.0})
    small = ["--preset", "tiny", "--num-frames", "20", "--image-size", "32", "--device", "cpu", "--workers", "0"]
    argv = [*small, "--rounds", "1", "--file-steps", "1", "--output", str(tmp_path / "out.json")]
    assert gpu.main([*argv, "--batch-sizes", "2"]) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    kinds = [(row["what"], row["compiled"], row["batch_size"]) for row in record["rows"]]
    assert kinds == [
        ("training step", False, 2),
        ("training from files", False, 2),
        ("training step", True, 2),
        ("forward pass", False, 2),
        ("forward pass", True, 2),
    ]
    for row in record["rows"]:
        passes = 1 if row["what"] == "forward pass" else 3
        tflops = passes * record["settings"]["gflops"] * row["batch_size"] / row["median_ms"]
        assert row["tflops"] == pytest.approx(tflops) and row["mfu"] == pytest.approx(tflops / 2)
    assert argvs[0][:2] == ["data", "prepare"] and argvs[1][0] == "train" and record["commit"]
    assert any("flash_attention_2 is not measured" in note for note in record["notes"])

    monkeypatch.setattr(gpu, "train_step", refuse)
    monkeypatch.setattr(gpu, "forward", refuse)
    monkeypatch.setattr(gpu, "measure_files", lambda *arguments: pytest.fail("the time is over"))
    capsys.readouterr()
    assert gpu.measure(replace(SMALL, train=True), False, 1)["error"] == "out of memory"
    assert gpu.main([*argv, "--batch-sizes", "1", "--minutes", "0"]) == 0
    assert "Not measured, because the time was over: training from files." in capsys.readouterr().out


def test_names_are_separated_by_commas():
    assert parse_names("") == []
    assert parse_names("videomae, vivit") == ["videomae", "vivit"]


def test_startup_runs_fresh_processes_and_shows_medians(monkeypatch, capsys):
    seconds = startup.measure_startup(2, {"nothing": ["-c", "pass"], "a wrong command": ["-c", "exit(2)"]})
    assert [len(each) for each in seconds.values()] == [2, 2] and all(min(each) > 0 for each in seconds.values())
    with pytest.raises(RuntimeError, match="exit code 1: Traceback"):
        startup.cpu_seconds([sys.executable, "-c", "1 / 0"])
    measured = {"tubevit --help": [0.1, 0.3, 0.2]}
    monkeypatch.setitem(bench.SECTIONS, "startup", (lambda *args: measured, startup.format_startup))
    assert main(["bench", "--startup"]) == 0
    assert re.search(r"tubevit --help +0.20 +0.30", capsys.readouterr().out)


def test_start_on_many_videos_is_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "cache"))
    for data in data_scale.write_listing(tmp_path, 1200).values():
        first, later = data_scale.measure_process(data), data_scale.measure_process(data)
        assert first.keys() == later.keys() and 0 < later["cpu_seconds"] < first["cpu_seconds"]
    assert len(list(tmp_path.rglob("*.arrow"))) == 2
    case = {
        "layout": "class folders",
        "case": "later start",
        "processes": 4,
        "mib": 9.2,
        "cpu_seconds": 0.3,
        "seconds": 5.0,
    }
    report = {"videos": 1200, "cases": [case], "count_cpu_seconds": 0.01, "class_names_cpu_seconds": 0.1}
    resumed = {"seconds": 0.3, "cpu_seconds": 0.2, "clips_read": 8}
    report["stream"] = {"shards": 1000, "clips": 8000, "begin": resumed, "resume": resumed}
    monkeypatch.setitem(bench.SECTIONS, "data_scale", (lambda *args: report, data_scale.format_data_scale))
    assert main(["bench", "--data-scale"]) == 0
    shown = capsys.readouterr().out
    assert "1,200 videos" in shown and "class folders, later start" in shown and "21,841 class names" in shown
    assert re.search(r"stream of 1,000 shards, 8,000 clips.*\n.*first batch +0.200 +0.300 +8", shown)


def test_a_resumed_stream_reads_no_clip_again(monkeypatch, tmp_path):
    monkeypatch.setenv("TUBEVIT_CACHE", str(tmp_path / "cache"))
    shards = data_scale.write_shards(tmp_path, 6)
    assert len(list(shards.glob("*.tar"))) == 6
    for batches in (0, 3):
        assert data_scale.measure_resume(shards, batches)["clips_read"] == data_scale.BATCH_SIZE
