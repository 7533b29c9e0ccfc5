"""`tubevit bench` at sizes that take a moment: that it measures and reports, not how fast anything is."""

import json

import pytest
from video_files import moving_frames, write_video

from tubevit.training.bench_model import PEERS, Setup, count
from tubevit.training.bench_timing import Timing, format_table, interleave, ratios, summarize
from tubevit.training.cli import main


TINY = ["--preset", "tiny", "--num-frames", "20", "--image-size", "32", "--rounds", "1", "--device", "cpu"]


def test_a_forward_pass_and_the_tokenizer_are_reported(tmp_path, capsys):
    assert main(["bench", *TINY, "--json", str(tmp_path / "a.json")]) == 0
    assert main(["bench", *TINY, "--tokenizer", "--json", str(tmp_path / "b.json")]) == 0
    (row,) = json.loads((tmp_path / "a.json").read_text())["models"]["models"]
    assert row["tokens"] == 1 + 1 + 2 + 4  # by the formula, for 20 frames of 32x32
    assert row["median_ms"] > 0 and row["gflops"] > 0
    variants = json.loads((tmp_path / "b.json").read_text())["tokenizer"]["variants"]
    assert all(variant["difference"] < 1e-4 for variant in variants.values())
    assert "tokenization takes" in capsys.readouterr().out


def test_decoding_of_a_file_is_reported(tmp_path, capsys):
    path = write_video(tmp_path / "clip.mp4", moving_frames(40, height=48, width=64))
    assert main(["bench", *TINY, "--decoding", str(path), "--json", str(tmp_path / "c.json")]) == 0
    (report,) = json.loads((tmp_path / "c.json").read_text())["decoding"]
    assert set(report["stages"]) == {"decode", "convert", "resize", "normalize"}
    assert "clip.mp4" in capsys.readouterr().out


def test_tokens_and_flops_of_base_are_those_of_the_formula():
    costs = count(Setup())
    assert costs["tokens"] == 539
    tokens, width, mlp = 539, 768, 3072
    linear = 12 * 2 * tokens * (4 * width * width + 2 * width * mlp)
    attention = 12 * 2 * 2 * tokens * tokens * width
    assert costs["gflops"] == pytest.approx((linear + attention) / 1e9, rel=0.03)  # tokenizer and pooling are the rest


@pytest.mark.parametrize(("name", "tokens"), [("videomae", 1568), ("timesformer", 1569), ("vivit", 3137)])
def test_peers_are_those_of_the_library(name, tokens):
    assert name in PEERS
    assert count(Setup(name=name))["tokens"] == tokens


def test_calls_take_turns_and_ratios_are_of_medians():
    order = []
    timings = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(values) for name, values in timings.items()} == {"a": 2, "b": 2}
    ours, theirs = (summarize([Timing(wall, wall)] * 3) for wall in (1.0, 4.0))
    assert ratios(ours, theirs)["ratio"] == 0.25


def test_tables_line_up():
    assert format_table(["name", "ms"], [["a", 1.5], ["long", None]]).splitlines() == [
        "name     ms",
        "a     1.500",
        "long      -",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--preset", "bas"], "'base'"), (["--num-frames", "3"], "Tube 0"), (["--rounds", "0"], "at least 1")],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert main(["bench", "--device", "cpu", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
