"""`tubevit info` and `tubevit experiments ablations`: the numbers of the paper's models and rows."""

import json

import pytest
import torch
from reference_uniformerv2 import logits
from tiny_models import make_model, tiny_config
from torch.utils.flop_counter import FlopCounterMode

from tubevit import (
    FactorizedViViTConfig,
    FactorizedViViTForVideoClassification,
    TubeViTForVideoClassification,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)
from tubevit.presets import PRESETS, preset_config
from tubevit.training.cli import main
from tubevit.training.experiments.ablation_tables import load_ablation, load_table, table_names
from tubevit.training.models.model_size import describe


def plain_gflops(config, num_tokens: int) -> float:
    """FLOPs of a ViT's matrix products (a multiplication and an addition are two), with the tubes and the attention pooling."""
    d, m, n = config.hidden_size, config.intermediate_size, num_tokens
    layer = 2 * n * (4 * d * d + 2 * d * m) + 4 * n * n * d
    size = (config.num_frames, *config.image_height_width)
    kernels = sum(
        2 * d * tube.num_tokens(size) * 3 * tube.kernel_size[0] * tube.kernel_size[1] * tube.kernel_size[2]
        for tube in config.get_tubes()
    )
    head = 2 * d * d * 2 * n + 4 * n * d + 2 * (2 * d * d + 2 * d * m)
    return (config.num_hidden_layers * layer + kernels + head) / 1e9


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_flops_are_those_of_a_vit(name):
    report = describe(preset_config(name), [32, 64])
    assert [clip["tokens"] for clip in report["clips"]] == [539, 1176]
    for clip in report["clips"]:
        config = preset_config(name, num_frames=clip["num_frames"])
        assert clip["gflops"] == pytest.approx(plain_gflops(config, clip["tokens"]), rel=1e-6)
        assert sum(clip["tokens_per_tube"]) == clip["tokens"]


# Spec tables of the published models: preset, classes, and by number of frames (tokens, GMAC); parameters to the digit.
PUBLISHED = [
    ("uniformerv2-b16", 400, 114_552_208, {8: (1576, "148.1")}),
    ("uniformerv2-b16-full", 174, 162_992_814, {16: (1576, "187.2"), 32: (3152, "374.4")}),
    ("uniformerv2-l14", 400, 354_099_600, {8: (2056, "665.6")}),
    ("uniformerv2-l14-full", 174, 573_949_966, {16: (2056, "858.2")}),
    ("vivit-b16x2", 400, 88_954_000, {32: (3137, "451.5")}),
    ("vivit-b16x2-fe", 400, 115_062_928, {32: (3152, "283.3")}),
    ("vivit-b16x2-fsa", 400, 117_319_312, {32: (3136, "371.1")}),
    ("vivit-b16x2-fdp", 400, 88_952_464, {32: (3136, "276.2")}),
]


@pytest.mark.parametrize(("name", "num_labels", "parameters", "clips"), PUBLISHED)
def test_published_models_have_their_parameters_tokens_and_flops(name, num_labels, parameters, clips, capsys):
    frames = ["--num-frames", ",".join(map(str, clips))]
    assert main(["info", name, "--num-labels", str(num_labels), "--json", *frames]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["parameters"] == parameters
    found = {clip["num_frames"]: (clip["tokens"], f"{clip['gflops'] / 2:.1f}") for clip in report["clips"]}
    assert found == clips


@pytest.mark.parametrize("full", [False, True])
def test_flops_of_uniformerv2_are_those_of_the_published_formulation(full):
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    design = {"temporal_downsampling": True, "num_local_blocks": 2, "global_layers": [0, 2]} if full else {}
    config = UniFormerV2Config(**sizes, **design, image_size=16, patch_size=8, num_frames=4, num_labels=3)
    model = UniFormerV2ForVideoClassification(config)
    state = {name.removeprefix("backbone."): value for name, value in model.to_reference().items()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits(state, torch.randn(1, 4, 3, 16, 16), 4, 4, config.global_layers)
    (clip,) = describe(config, [4])["clips"]
    assert 1e9 * clip["gflops"] == pytest.approx(counter.get_total_flops(), rel=1e-9)
    assert clip["computed_gflops"] != clip["gflops"]


def test_frames_that_a_checkpoint_takes(tmp_path, capsys, monkeypatch):
    """Its own number of frames, and multiples where its weights allow them; a folder with the name of a preset is the folder."""
    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "image_size": 16,
    }
    full = UniFormerV2Config(**sizes, patch_size=8, temporal_downsampling=True, num_frames=6)
    UniFormerV2ForVideoClassification(full).save_pretrained(tmp_path / "tiny")
    vivit = FactorizedViViTConfig(**sizes, tubelet_size=[2, 8, 8], num_frames=10)
    FactorizedViViTForVideoClassification(vivit).save_pretrained(tmp_path / "vivit")
    monkeypatch.chdir(tmp_path)
    assert main(["info", "tiny", "vivit", "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    frames = [[clip["num_frames"] for clip in report["clips"]] for report in reports]
    assert frames == [[6, 12, 24], [10]]
    assert [report["accepted_num_frames"] for report in reports] == ["multiples of 2", "10"]
    assert [report.get("interpolate_positions") for report in reports] == [None, False]
    assert main(["info", "tiny", "vivit"]) == 0
    printed = capsys.readouterr().out
    assert "multiples of 2" in printed and "fixed" in printed and "interpolated" not in printed
    for arguments, message in (
        (
            ["tiny", "--num-frames", "7"],
            "each token of the checkpoint, a UniFormerV2 model, spans 2 frames: set num_frames=8",
        ),
        (["vivit", "--num-frames", "8"], "are for clips of 10 frames: set num_frames=10"),
        (["vivit", "--num-labels", "8"], "--num-labels is for presets"),
        (["base", "--num-labels", "8"], "exclude the classifier"),
    ):
        assert main(["info", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_tubes_of_every_preset_add_at_most_5_million_parameters():
    for name in PRESETS:
        assert describe(preset_config(name), [32])["tube_parameters"] < 5e6


def test_info_prints_a_table_and_json(capsys, tmp_path):
    assert main(["info", "tiny", "base", "--num-frames", "32,64"]) == 0
    table = capsys.readouterr().out
    assert "98+147+98+196" in table and "1,176" in table
    assert main(["info", "base", "--json", "--num-frames", "32"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["clips"][0]["gflops"] == pytest.approx(104.45, abs=0.01)
    make_model(TubeViTForVideoClassification).save_pretrained(tmp_path)
    assert main(["info", str(tmp_path), "--num-frames", "8"]) == 0
    assert f"{tiny_config().num_tokens():,}" in capsys.readouterr().out


def test_info_lists_clips_with_and_without_a_budget(capsys, tmp_path):
    argv = ["info", "tiny", "--num-frames", "32,64", "--token-budget", "270"]
    assert main([*argv, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert [(clip["tokens"], clip.get("token_budget")) for clip in report["clips"]] == [
        (539, None),
        (270, 270),
        (1176, None),
        (270, 270),
    ]
    config = preset_config("tiny", num_frames=32).with_token_budget(270)
    assert report["clips"][1]["gflops"] == pytest.approx(plain_gflops(config, 270), rel=1e-6)
    assert main(argv) == 0
    assert "token budget" in capsys.readouterr().out
    assert main(["info", "tiny", "--token-budget", "3"]) == 2
    assert "smallest possible budget of its 4 tubes is 4" in capsys.readouterr().err
    assert main(["info", "vivit-b16x2", "--token-budget", "9"]) == 2
    assert "token_budget=9 is for TubeViT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["info", "tiny", "--num-frames", "0"], ["info", "huuge"], ["experiments", "ablations", "99"]]
)
def test_wrong_arguments_print_one_line(argv, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "error:" in error


def test_every_row_builds_a_model_and_has_the_papers_number():
    rows = {table: load_table(table) for table in table_names()}
    assert {table: len(each) for table, each in rows.items()} == {
        "7a": 5, "7b": 4, "7c": 6, "7d": 4, "7e": 2, "8": 5, "14": 7,
    }  # fmt: skip
    for table, each in rows.items():
        assert [row.paper["position"] for row in each] == list(range(1, len(each) + 1))
        for row in each:
            assert row.paper["table"] == table and 70 < row.paper["value"] < 90
            assert row.config(preset="tiny", num_hidden_layers=1).num_tokens() > 0


def test_rows_differ_as_the_paper_says():
    values = {row.name: row.config() for table in table_names() if table != "7c" for row in load_table(table)}
    assert [len(values[f"tubes_{n}"].tubes) for n in (1, 2, 4, 8)] == [1, 2, 4, 8]
    assert [values[f"extra_{n}"].num_extra_layers for n in (0, 1, 2, 4, 8)] == [0, 1, 2, 4, 8]
    assert {name: values[name].position_embedding for name in ("learned", "fixed_without_stride", "fixed")} == {
        name: name for name in ("learned", "fixed_without_stride", "fixed")
    }
    assert load_table("7a")[0].config().position_embedding == "none"
    merged = {row.name: row.config().get_tubes()[0].space_to_depth for row in load_table("7c")}
    assert merged == {
        "none": (1, 1, 1), "2xT": (2, 1, 1), "2xS": (1, 1, 2), "4xT": (4, 1, 1), "4xS": (1, 2, 2), "4xST": (2, 1, 2),
    }  # fmt: skip
    kernels = {"a": (1, 16, 16), "b": (4, 32, 32), "c": (4, 4, 4), "d": (4, 12, 12), "e": (8, 8, 8), "f": (16, 4, 4)}
    kernels |= {"g": (16, 16, 16), "h": (32, 8, 8)}
    strides = {"iv": (16, 16, 16), "v": (32, 32, 32)}
    for row in load_table("14"):
        parts = [part.split("+") for part in row.paper["row"].strip("()").split(")(")]
        expected = [(kernels[kernel], strides[stride]) for kernel, stride in parts]
        assert [(tube.kernel_size, tube.stride) for tube in row.config().get_tubes()] == expected
    for row in load_table("7d"):
        expected = int(row.name.removeprefix("tokens_"))
        assert row.config(for_evaluation=True).num_tokens() == pytest.approx(expected, rel=0.04)
        assert row.config().num_tokens() == 539


@pytest.mark.parametrize("text", ["- 1", "paper: {}", "paper: {}\nmodel: {}\ntraining: {}", "a: [", ""])
def test_file_without_rows_raises(text, tmp_path):
    (tmp_path / "row.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"row\.yaml") as error:
        load_ablation(tmp_path / "row.yaml")
    assert "\n" not in str(error.value)
