"""`tubevit convert` on published checkpoints of UniFormerV2 and ViViT: layouts, class names, damage, and the way back."""

import json
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from random_weights import randomize
from safetensors.torch import save_file
from transformers import (
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    VivitConfig,
    VivitForVideoClassification,
    VivitVideoProcessor,
    pipeline,
)
from video_files import moving_frames, write_video

from tubevit import (
    FactorizedViViTConfig,
    FactorizedViViTForVideoClassification,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    UniFormerV2VideoProcessor,
)
from tubevit.checkpoint_files import read_state, write_flax_tree
from tubevit.training.cli import main
from tubevit.training.models.published_classes import FOLDER, LISTS, NO_ROW, class_names, head_rows, read_class_list
from tubevit.uniformerv2_conversion import infer_config, normalize_reference


def uniformerv2(num_labels: int = 710, **overrides) -> UniFormerV2ForVideoClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 5, "num_attention_heads": 1, "intermediate_size": 96}
    config = UniFormerV2Config(**{**sizes, "image_size": 32, "patch_size": 16, "num_labels": num_labels, **overrides})
    return randomize(UniFormerV2ForVideoClassification(config))


def vivit(**overrides) -> FactorizedViViTForVideoClassification:
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_labels": 4,
    }
    sizes |= {"image_size": 32, "num_frames": 8, "temporal_num_hidden_layers": 3}
    return randomize(FactorizedViViTForVideoClassification(FactorizedViViTConfig(**sizes | overrides)))


def to_mmaction(state: dict) -> dict:
    names = {"transformer.proj.0.": "transformer.norm.", "transformer.proj.2.": "cls_head.fc_cls."}
    renamed = {}
    for key, value in state.items():
        for old, new in names.items():
            key = key.replace(f"backbone.{old}", new if new.startswith("cls_head") else f"backbone.{new}")
        renamed[key] = value
    return renamed | {"data_preprocessor.mean": torch.zeros(3, 1, 1), "data_preprocessor.std": torch.ones(3, 1, 1)}


LAYOUTS = {
    "flat": lambda state: state,
    "without prefix": lambda state: {key.removeprefix("backbone."): value for key, value in state.items()},
    "module": lambda state: {f"module.{key}": value for key, value in state.items()},
    "model_state": lambda state: {"model_state": state, "epoch": 5, "cfg": "text"},
    "mmaction2": lambda state: {"state_dict": to_mmaction(state), "meta": {"epoch": 5}},
}


def convert(source, output, *arguments) -> int:
    return main(["convert", str(source), str(output), *map(str, arguments)])


@pytest.mark.parametrize("suffix", [".pyth", ".bin"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_model(layout, suffix, tmp_path, capsys):
    model = uniformerv2(6, num_local_blocks=2, temporal_downsampling=True)
    path = tmp_path / f"file{suffix}"
    torch.save(LAYOUTS[layout](model.to_reference()), path)
    assert convert(path, tmp_path / "out", "--num-frames", 4, "--report", tmp_path / "report.json") == 0
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    told = json.loads((tmp_path / "report.json").read_text())
    assert {entry["state"] for entry in told["target"].values()} == {"copied", "transformed"}
    assert len(told["target"]) == len(model.state_dict())
    assert (layout == "mmaction2") == ("unused" in {entry["state"] for entry in told["source"].values()})
    printed = capsys.readouterr().out
    assert "layers.*.layernorm_before.weight (x5) <- " in printed  # one line for all layers
    assert "no names: give --labels" in printed and "global_layers=[1, 2, 3, 4]" in printed
    card = (tmp_path / "out" / "README.md").read_text()
    assert "SHA-256" in card and "pip install -e ." in card  # as in the cards of trained models


def test_safetensors_and_half_precision(tmp_path):
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in uniformerv2(6).to_reference().items()
    }
    save_file(state, tmp_path / "model.safetensors")
    assert convert(tmp_path, tmp_path / "out") == 0
    assert AutoModelForVideoClassification.from_pretrained(tmp_path / "out").dtype == torch.float32
    assert convert(tmp_path / "model.safetensors", tmp_path / "half", "--dtype", "bfloat16") == 0
    assert AutoModelForVideoClassification.from_pretrained(tmp_path / "half").dtype == torch.bfloat16


def test_both_ways_are_bit_for_bit(tmp_path):
    for model, layout in ((uniformerv2(6), "reference"), (vivit(), "scenic")):
        model.save_pretrained(tmp_path / layout)
        file = tmp_path / f"{layout}.pyth"
        assert convert(tmp_path / layout, file, "--to", layout) == 0
        assert convert(file, tmp_path / f"{layout}2") == 0
        assert convert(tmp_path / f"{layout}2", tmp_path / f"{layout}2.pyth", "--to", layout) == 0
        first, second = read_state(file), read_state(tmp_path / f"{layout}2.pyth")
        assert set(first) == set(second)
        assert all(torch.equal(first[key], second[key]) and first[key].shape == second[key].shape for key in first)


def test_published_file_to_a_label_in_the_stock_pipeline(tmp_path):
    torch.save(uniformerv2(710).to_reference(), tmp_path / "k710.pyth")
    assert convert(tmp_path / "k710.pyth", tmp_path / "out", "--labels", "kinetics710", "--head", "kinetics400") == 0
    write_video(tmp_path / "video.mp4", moving_frames(20, height=40, width=60))
    (answer,) = pipeline("video-classification", model=str(tmp_path / "out"))(str(tmp_path / "video.mp4"), top_k=1)
    assert answer["label"] in read_class_list(FOLDER / "kinetics400_uniformerv2.txt")
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    pixels = processor(str(tmp_path / "video.mp4"), return_tensors="pt").pixel_values_videos
    whole = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        kept = uniformerv2(710)(pixels).logits[:, :400]  # Kinetics-400 has the first rows
        torch.testing.assert_close(whole(pixels).logits, kept)


@pytest.mark.parametrize("family", ["uniformerv2", "vivit"])
def test_eval_predict_and_the_pipeline_give_the_same_scores(family, tmp_path, capsys):
    """convert -> eval -> predict -> pipeline on files that must be resized by an odd factor."""
    model = vivit() if family == "vivit" else uniformerv2(4, num_local_blocks=2, temporal_downsampling=True)
    source, labels = tmp_path / "source.pyth", tmp_path / "labels.txt"
    model.save_pretrained(tmp_path / "model")
    assert convert(tmp_path / "model", source, "--to", "scenic" if family == "vivit" else "reference") == 0
    labels.write_text("a\nb\nc\nd\n")
    assert convert(source, tmp_path / "out", "--labels", labels, "--num-frames", 8) == 0
    clips = [tmp_path / "clips" / name for name in ("a/wide.mp4", "b/tall.webm")]
    for clip, (height, width), codec in zip(clips, [(46, 74), (78, 50)], ["libx264", "libvpx-vp9"], strict=True):
        clip.parent.mkdir(parents=True)
        write_video(clip, moving_frames(21, height, width), codec=codec)
    settings = {"num_temporal_views": 2, "num_spatial_views": 3}
    options = [f"{name}={value}" for name, value in settings.items()]
    run = [
        str(tmp_path / "out"),
        f"test_data={clips[0].parents[1]}",
        f"output_dir={tmp_path / 'eval'}",
        "use_cpu=true",
    ]
    assert main(["eval", *run, "batch_size=5", *options]) == 0
    table = pq.read_table(tmp_path / "eval" / "predictions.parquet").to_pandas()
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out", **settings)
    classify = pipeline("video-classification", model=str(tmp_path / "out"), video_processor=processor)
    capsys.readouterr()
    given = ["--temporal-views", "2", "--spatial-views", "3", "--json"]
    assert main(["predict", str(tmp_path / "out"), *map(str, clips), *given]) == 0
    for clip, predicted in zip(clips, json.loads(capsys.readouterr().out), strict=True):
        logits = torch.from_numpy(np.stack(table[table.video_id.str.contains(clip.stem)].logits))
        assert logits.shape == (6, 4)
        expected = dict(zip("abcd", logits.softmax(1).mean(0).tolist(), strict=True))
        for answers in (predicted["predictions"], classify(str(clip))):
            assert {each["label"]: each["score"] for each in answers} == pytest.approx(expected, abs=1e-5)


def test_rows_of_kinetics_600_and_700_have_their_classes_in_both_orders():
    for order, file in (("reference", "kinetics710_uniformerv2"), ("mmaction2", "kinetics710")):
        all_names = read_class_list(FOLDER / f"{file}.txt")
        for target in ("kinetics400", "kinetics600", "kinetics700"):
            rows, names = head_rows(target, order)
            same = sum(all_names[row] == name for row, name in zip(rows, names, strict=True))
            assert len(set(rows)) == len(names) == int(target[-3:]) and len(names) - same <= 14
            # A class has the row of its own name, if there is one, and one class of one order has none.
            own = {name: all_names.index(name) for name in names if name in all_names}
            assert own.items() <= dict(zip(names, rows, strict=True)).items()
            assert (NO_ROW in rows) == ((order, target) == ("reference", "kinetics600"))


def test_class_lists_are_of_the_right_length_and_orders_differ():
    counts = {
        "kinetics400": 400,
        "kinetics600": 600,
        "kinetics700": 700,
        "kinetics710": 710,
        "ssv1": 174,
        "ssv2": 174,
        "mit": 339,
    }
    for labels, orders in LISTS.items():
        for order, name in orders.items():
            if name is not None:
                assert len(class_names(labels, order, counts[labels])) == counts[labels]
    assert class_names("kinetics400", "reference", 400).index("abseiling") == 341
    assert class_names("kinetics400", "mmaction2", 400).index("abseiling") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "kinetics600"], "order of the kinetics600 classes in classifiers of reference is not known"),
        (["--labels", "kinetics400"], "has 600 rows, and kinetics400 in the order of reference has 400 classes"),
        (["--labels", "kinetics"], "no class list 'kinetics'"),
        (["--labels", "kinetics600", "--label-order", "alphabet"], "no label order 'alphabet'"),
        (["--head", "kinetics400"], "needs a classifier of Kinetics-710, and this one has 600"),
        (["--factorization", "spacetime"], "--factorization has no effect on a UniFormerV2"),
        (["--label-order", "mmaction2"], "--label-order has no effect without --labels or --head"),
        (["--pooling", "mean"], "--pooling is for image models"),
        (["--num-heads", "x"], "must be whole numbers separated by commas"),
        (["--global-layers", "4,2"], "ascending order"),
        (["--global-layers", "1"], "have no place in the model"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(arguments, message, tmp_path, capsys):
    torch.save(uniformerv2(600).to_reference(), tmp_path / "k600.pyth")
    assert convert(tmp_path / "k600.pyth", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "kinetics400"], "has 4 rows, and kinetics400 in the order of scenic has 400 classes"),
        (["--labels", "kinetics700"], "order of the kinetics700 classes in classifiers of scenic is not known"),
        (["--labels", "labels.txt"], "has 4 rows, and labels.txt has 3 classes"),
        (["--head", "kinetics400"], "--head has no effect on a ViViT of Scenic"),
        (["--num-heads", "2"], "--num-heads has no effect on a ViViT of Scenic"),
        (["--global-layers", "1"], "--global-layers has no effect on a ViViT of Scenic"),
        (["--label-order", "scenic"], "--label-order has no effect without --labels or --head"),
        (["--num-frames", "7"], "num_frames must be a multiple of 2, the size of the file's tubelets, got 7: use 8"),
        (["--image-size", "48"], "hold 4 positions; num_frames=8 and image_size=48"),
        (["--attention-order", "space_time"], "attention_order='space_time' has no effect"),
        (["--factorization", "dot_product"], "factorization='dot_product' does not fit the arrays"),
        (["--tube-init", "average"], "--tube-init is for image models"),
    ],
)
def test_what_does_not_fit_a_scenic_file_is_refused_in_a_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    write_flax_tree(tmp_path / "checkpoint", {f"params/{name}": value for name, value in vivit().to_scenic().items()})
    assert convert("checkpoint", "out", *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "overrides", "arguments", "message"),
    [
        ("2", {"factorization": "encoder"}, [], None),
        ("3", {"factorization": "self_attention"}, ["--num-frames", 8], "give attention_order"),
        ("3 order", {"factorization": "self_attention"}, ["--num-frames", 8, "--attention-order", "space_time"], None),
        ("4", {"factorization": "dot_product"}, ["--num-frames", 8], "give factorization"),
        ("4 told", {"factorization": "dot_product"}, ["--num-frames", 8, "--factorization", "dot_product"], None),
        ("1", {"factorization": "spacetime"}, [], "give num_frames or image_size"),
        ("1 frames", {"factorization": "spacetime"}, ["--num-frames", 8], None),
        ("1 size", {"factorization": "spacetime"}, ["--image-size", "32x32"], None),
        ("1 wrong", {"factorization": "spacetime"}, ["--num-frames", 6], "do not form a square grid"),
    ],
)
def test_scenic_files_need_what_their_arrays_do_not_hold(name, overrides, arguments, message, tmp_path, capsys):
    model = vivit(**overrides)
    model.save_pretrained(tmp_path / "model")
    assert convert(tmp_path / "model", tmp_path / "checkpoint", "--to", "scenic") == 0
    code = convert(tmp_path / "checkpoint", tmp_path / "out", *arguments)
    if message is not None:
        assert code == 2 and message in capsys.readouterr().err
        return
    assert code == 0
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    assert (loaded.config.factorization, loaded.config.num_frames) == (model.config.factorization, 8)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_vivit_of_transformers_becomes_model_1(tmp_path, capsys):
    sizes = {"image_size": 32, "num_frames": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = randomize(VivitForVideoClassification(VivitConfig(**sizes, intermediate_size=32, num_labels=3)))
    theirs.save_pretrained(tmp_path / "vivit")
    assert convert(tmp_path / "vivit", tmp_path / "out") == 0
    ours = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    pixels = torch.rand(1, 4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels).logits, theirs(pixels).logits, rtol=1e-4, atol=1e-4)
    assert "Pixels are from -1 to 1" not in capsys.readouterr().out
    # The defaults of Transformers give other pixels than Scenic's: a model that was trained with them needs them.
    processor = VivitVideoProcessor(size={"shortest_edge": 32}, crop_size=32)
    processor.save_pretrained(tmp_path / "vivit")
    assert convert(tmp_path / "vivit", tmp_path / "other") == 0
    said = capsys.readouterr().out
    assert "gives -3 to 1. If the model was trained with that processor, set image_mean=[0.75, 0.75, 0.75]" in said
    statistics = {"image_mean": [0.75] * 3, "image_std": [0.25] * 3, "size": {"shortest_edge": 32}}
    ours = AutoVideoProcessor.from_pretrained(tmp_path / "other", **statistics)
    frames = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    given = [each(frames, return_tensors="pt", do_sample_frames=False) for each in (ours, processor)]
    torch.testing.assert_close(given[0]["pixel_values_videos"], given[1]["pixel_values"], rtol=0, atol=1e-5)


class Evil:
    def __reduce__(self):
        return (print, ("this code ran",))


class Getattr:
    def __reduce__(self):
        return (getattr, ("a", "upper"))


class System:
    def __reduce__(self):
        return (os.system, ("echo this code ran",))


def damaged_files(folder):
    """Name to path of damaged files, and a part of the error."""
    state = uniformerv2(3).to_reference()
    files = {
        "empty": (b"", "is empty"),
        "text": (b"not a checkpoint at all", "is not a checkpoint"),
        "huge header": (struct.pack("<Q", 2**60) + b"{" + b" " * 100, "header claims"),
        "msgpack": (b"\x81\xa1a\x01", "is not a UniFormerV2"),
    }
    for name, (content, message) in files.items():
        path = folder / name
        path.write_bytes(content)
        yield name, path, message
    for name, changed, message in (
        ("nan", state | {"backbone.transformer.balance": torch.full((64,), float("nan"))}, "transformer.balance"),
        ("shape", state | {"backbone.ln_pre.weight": torch.ones(63)}, "ln_pre.weight has the shape (63,)"),
        ("missing", {key: value for key, value in state.items() if "dec.1.ln_2" not in key}, "2 tensors are missing"),
        ("extra", state | {"backbone.extra": torch.ones(1)}, "extra"),
        ("twice", state | {"class_embedding": torch.ones(64)}, "class_embedding twice"),
        ("positions", state | {"backbone.positional_embedding": torch.ones(7, 64)}, "square grid"),
        ("other model", {"fc.weight": torch.ones(3)}, "is not a UniFormerV2"),
        ("no tensors", {"a": 1}, "no tensors"),
    ):
        torch.save(changed, folder / name)
        yield name, folder / name, message
    torch.save(state, folder / "whole")
    whole = (folder / "whole").read_bytes()
    (folder / "truncated").write_bytes(whole[: len(whole) // 2])
    yield "truncated", folder / "truncated", "damaged"
    torch.save({"state_dict": state, "meta": Evil()}, folder / "evil")
    yield "evil", folder / "evil", "refers to builtins.print"
    (folder / "old evil").write_bytes(pickle.dumps(Evil(), protocol=2))
    yield "old evil", folder / "old evil", "refers to print:"
    torch.save({"state_dict": state, "a": System()}, folder / "old zip", _use_new_zipfile_serialization=False)
    yield "old system", folder / "old zip", "refers to posix.system:"
    torch.save({"state_dict": state, "a": Getattr()}, folder / "getattr")
    yield "getattr", folder / "getattr", "refers to builtins.getattr:"
    torch.save(state | {"backbone.class_embedding": torch.zeros(1).expand(10**13)}, folder / "expanded")
    yield (
        "expanded",
        folder / "expanded",
        "times the size of the file; backbone.class_embedding has the shape (10000000000000,)",
    )
    torch.save(state | {"backbone.ln_pre.bias": torch.ones(64, device="meta")}, folder / "meta")
    yield "meta", folder / "meta", "backbone.ln_pre.bias of shape (64,) holds no values"
    torch.save(state | {"backbone.positional_embedding": torch.zeros(0, 0)}, folder / "no values")
    yield "no values", folder / "no values", "backbone.positional_embedding of shape (0, 0) holds no values"
    with (
        zipfile.ZipFile(folder / "whole") as archive,
        zipfile.ZipFile(folder / "bomb", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for record in archive.infolist():
            bomb.writestr(record.filename, archive.read(record))
        bomb.writestr("archive/data/99", bytes(2**26))
    yield "bomb", folder / "bomb", "its records claim"
    with zipfile.ZipFile(folder / "whole") as archive, zipfile.ZipFile(folder / "doubled", "w") as doubled:
        for record in [*archive.infolist(), archive.getinfo("whole/data.pkl")]:
            doubled.writestr(record.filename, archive.read(record))
    yield "doubled", folder / "doubled", "two records of the archive have the same name"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), folder / "script")
    yield "script", folder / "script", "is a TorchScript archive"


def test_damaged_and_dangerous_files_are_one_line(tmp_path, capsys):
    for name, path, message in damaged_files(tmp_path):
        assert convert(path, tmp_path / "out") == 2, name
        captured = capsys.readouterr()
        assert message in captured.err and "Traceback" not in captured.err, (name, captured.err)
        assert "this code ran" not in captured.out + captured.err
        assert not (tmp_path / "out").exists(), name


def test_expanded_tensors_that_are_not_far_larger_than_the_file_are_loaded(tmp_path):
    """`torch.save` keeps `Tensor.expand`: one value stands for all."""
    model = uniformerv2(3)
    state = model.to_reference()
    expanded = {key: torch.zeros(1).expand(value.shape) for key, value in state.items() if key.endswith(".bias")}
    torch.save(state | expanded, tmp_path / "weights.pth")
    assert convert(tmp_path / "weights.pth", tmp_path / "out") == 0
    loaded = UniFormerV2ForVideoClassification.from_pretrained(tmp_path / "out").to_reference()
    expected = state | expanded
    assert set(loaded) == set(expected) and all(torch.equal(loaded[key], expected[key]) for key in loaded)


HISTORY_BUFFER = """
import numpy as np

class HistoryBuffer:
    methods = {}

    def __init__(self):
        self.methods["mean"] = HistoryBuffer.mean
        self.log_history = np.arange(3.0)

    def mean(self):
        pass

    def __getstate__(self):
        return self.__dict__ | {"statistics_methods": self.methods}
"""


def test_objects_of_mmengine_are_ignored(tmp_path, monkeypatch):
    """Beside the weights, MMAction2's files have objects of packages that need not be installed."""
    import sys
    import types

    module = types.ModuleType("mmengine.logging.history_buffer")
    exec(HISTORY_BUFFER, vars(module))
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    state = to_mmaction(uniformerv2(3).to_reference())
    hub = {"log_scalars": {"loss": module.HistoryBuffer()}, "runtime_info": {"iter": np.int64(3)}}
    torch.save({"state_dict": state, "message_hub": hub}, tmp_path / "file.pth")
    for name in (module.__name__, "mmengine.logging", "mmengine"):
        monkeypatch.delitem(sys.modules, name)
    # Its state has one of its functions, which pickle writes as getattr(HistoryBuffer, "mean").
    assert "builtins.getattr" in torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "file.pth")
    loaded = read_state(tmp_path / "file.pth")
    assert set(loaded) == set(state) and all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("new_format", [True, False])
def test_numpy_objects_beside_the_weights_are_ignored(new_format, tmp_path):
    state = uniformerv2(3).to_reference()
    others = {"epoch": np.int64(3), "history": np.arange(3), "best": np.float32(0.5)}
    torch.save({"model_state": state, **others}, tmp_path / "file", _use_new_zipfile_serialization=new_format)
    loaded = read_state(tmp_path / "file")
    assert set(loaded) == set(state) and all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("reduction", [1, 1.25, 1.5, 2, 3, 7, 64 / 9, 49, 64])
def test_width_of_the_local_blocks_comes_back(reduction):
    model = uniformerv2(6, num_local_blocks=2, local_reduction=reduction)
    loaded = UniFormerV2ForVideoClassification.from_reference(model.to_reference())
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


def test_published_width_768_takes_any_local_width():
    state = uniformerv2(3, num_local_blocks=2).to_reference()
    key = "transformer.resblocks.0.lmhra1.pos_embed.1.weight"
    tensors, _ = normalize_reference(state)
    tensors["positional_embedding"] = torch.zeros(5, 768)
    for local in range(1, 769):
        tensors[key] = torch.empty(local, 768, 1, 1, 1, device="meta")
        config = infer_config(tensors)
        assert int(768 // config.local_reduction) == local


def test_batch_norms_stay_float32_in_half_precision():
    model = uniformerv2(3, num_local_blocks=2)
    loaded = UniFormerV2ForVideoClassification.from_reference(model.to_reference(), dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    names = [name for name in model.state_dict() if ".batch_norm." in name]
    assert names and all(torch.equal(loaded.state_dict()[name], model.state_dict()[name]) for name in names)


def save_reference(model, path, changes=()) -> None:
    torch.save(dict(model.to_reference(), **dict(changes)), path)


def test_labels_beside_a_head_and_orders(tmp_path, capsys):
    save_reference(uniformerv2(710), tmp_path / "k710.pyth")
    assert convert(tmp_path / "k710.pyth", tmp_path / "no", "--labels", "kinetics600", "--head", "kinetics400") == 2
    assert "--labels kinetics600 has no effect beside it" in capsys.readouterr().err
    for name, labels in (("a", "kinetics710"), ("b", "kinetics600")):
        arguments = ("--labels", labels, "--head", "kinetics600")
        assert convert(tmp_path / "k710.pyth", tmp_path / name, *arguments) == 0
        printed = capsys.readouterr().out
        assert (
            "in the order of reference do not include 'chopping vegetables'" in printed
            and "usually has that of" not in printed
        )
    shuffled = read_class_list(FOLDER / "kinetics710_uniformerv2.txt")[::-1]
    (tmp_path / "order.txt").write_text("\n".join(shuffled))
    head = ("--head", "kinetics700", "--label-order")
    assert convert(tmp_path / "k710.pyth", tmp_path / "file", *head, tmp_path / "order.txt") == 0
    assert "usually has that of reference" in capsys.readouterr().out
    rows, names = head_rows("kinetics700", str(tmp_path / "order.txt"))
    expected, same = head_rows("kinetics700", "reference")
    assert names == same and [709 - row for row in rows] == expected
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path / "file")
    assert torch.equal(loaded.classifier.weight, uniformerv2(710).classifier.weight[rows])


def test_way_back_says_which_order_to_give(tmp_path, capsys):
    torch.save({"state_dict": to_mmaction(uniformerv2(400).to_reference())}, tmp_path / "mm.pth")
    save_reference(uniformerv2(400), tmp_path / "own.pyth")
    for name, order in (("mm.pth", "mmaction2"), ("own.pyth", None)):
        assert convert(tmp_path / name, tmp_path / f"{name}-out", "--labels", "kinetics400") == 0
        capsys.readouterr()
        assert convert(tmp_path / f"{name}-out", tmp_path / f"{name}-back", "--to", "reference") == 0
        printed = capsys.readouterr().out
        assert (f"--labels kinetics400 --label-order {order}" in printed) == (order is not None)
        assert ("--label-order" in printed) == (order is not None)


@pytest.mark.parametrize(("full", "classes", "flips"), [(True, 174, True), (True, 6, False), (False, 174, False)])
def test_channel_order_does_not_depend_on_the_labels_option(full, classes, flips, tmp_path, capsys):
    save_reference(uniformerv2(classes, temporal_downsampling=full), tmp_path / "file.pyth")
    assert convert(tmp_path / "file.pyth", tmp_path / "out") == 0
    assert AutoVideoProcessor.from_pretrained(tmp_path / "out").do_flip_channel_order == flips
    printed = capsys.readouterr().out
    assert ("do_flip_channel_order=True: the authors' code" in printed) == flips
    assert "num_attention_heads=1, num_global_attention_heads=1: heads of width 64" in printed


def test_folders_of_the_hub_mixin_and_wrapped_names(tmp_path):
    model = uniformerv2(3)
    wrapped = {
        f"_orig_mod.{key.replace('resblocks.1.', 'resblocks.1._fsdp_wrapped_module._checkpoint_wrapped_module.')}": value
        for key, value in model.to_reference().items()
    }
    wrapped = {
        key.replace("transformer.", "transformer._fsdp_wrapped_module.", 1): value for key, value in wrapped.items()
    }
    save_file(wrapped, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"num_classes": 3}')
    assert convert(tmp_path, tmp_path / "out") == 0
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_sharded_vivit_of_transformers_is_converted(tmp_path):
    sizes = {"image_size": 32, "num_frames": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = VivitForVideoClassification(VivitConfig(**sizes, intermediate_size=32, num_labels=3))
    theirs.save_pretrained(tmp_path / "vivit", max_shard_size="20KB")
    assert not (tmp_path / "vivit" / "model.safetensors").exists()
    assert convert(tmp_path / "vivit", tmp_path / "out") == 0
    assert "the folder `vivit` by" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("positional_embedding", torch.ones(5), "positional_embedding must have 2 dimensions"),
        ("transformer.proj.2.weight", torch.ones(3), "proj.2.weight must have 2 dimensions"),
        ("transformer.resblocks.0.mlp.c_fc.weight", torch.tensor(1.0), "c_fc.weight must have 2 dimensions"),
    ],
)
def test_tensors_of_a_wrong_rank_are_named(name, tensor, message):
    state = uniformerv2(3).to_reference()
    with pytest.raises(ValueError, match=message):
        UniFormerV2ForVideoClassification.from_reference(state | {f"backbone.{name}": tensor})


def test_scenic_arrays_of_another_kind_are_refused():
    model = vivit(factorization="encoder")
    arrays = model.to_scenic()
    read = FactorizedViViTForVideoClassification.from_scenic
    with pytest.raises(
        ValueError, match=r"image ViT: FactorizedViViTForVideoClassification.from_image_checkpoint reads"
    ):
        read(arrays | {"embedding/kernel": arrays["embedding/kernel"][0]})
    with pytest.raises(ValueError, match="output_projection/kernel must have 2 dimensions"):
        read(arrays | {"output_projection/kernel": torch.ones(3)})
    with pytest.raises(ValueError, match="attention_order='time_space' has no effect"):
        read(arrays, attention_order="time_space")


def test_bfloat16_in_flax_files(tmp_path):
    tensors = {"a/b": torch.randn(3, 4, dtype=torch.bfloat16).T, "c": torch.tensor(2.5, dtype=torch.bfloat16)}
    write_flax_tree(tmp_path / "checkpoint", tensors)
    loaded = read_state(tmp_path / "checkpoint")
    assert all(torch.equal(loaded[name], value.float()) for name, value in tensors.items())


@pytest.mark.parametrize("name", ["file.pyth", "file.pth", "file.safetensors", "checkpoint"])
def test_from_pretrained_of_a_file_names_what_reads_it(name, tmp_path):
    (tmp_path / name).write_bytes(b"content")
    for model_class, reader in (
        (UniFormerV2ForVideoClassification, "UniFormerV2ForVideoClassification.from_reference"),
        (FactorizedViViTForVideoClassification, "FactorizedViViTForVideoClassification.from_scenic"),
    ):
        for given in [tmp_path / name, tmp_path] if name.endswith("th") else [tmp_path / name]:
            with pytest.raises(ValueError, match=f"or use {reader}"):
                model_class.from_pretrained(given)


def test_saved_model_takes_the_frames_of_the_processor(tmp_path):
    UniFormerV2VideoProcessor(num_frames=12, size=32, crop_size=32).save_pretrained(tmp_path)
    uniformerv2(3, temporal_downsampling=True).save_pretrained(tmp_path)
    assert AutoModelForVideoClassification.from_pretrained(tmp_path).config.num_frames == 12
    UniFormerV2VideoProcessor(num_frames=7, size=32, crop_size=32).save_pretrained(tmp_path / "odd")
    with pytest.raises(ValueError, match="needs an even number of frames, got 7"):
        uniformerv2(3, temporal_downsampling=True).save_pretrained(tmp_path / "odd")


def test_nouns_and_verbs_of_epic_kitchens_are_groups_of_labels(tmp_path, capsys):
    for name, keys in (("noun_classes_v2", ("tap", "board:chopping", "cup")), ("verb_classes", ("take", "wash"))):
        rows = "".join(f"{index},{key},\"['{key}', 'x']\",some\n" for index, key in enumerate(keys))
        (tmp_path / f"EPIC_100_{name}.csv").write_text(f"id,key,instances,category\n{rows}")
    for number in (4, 5):
        vivit(num_labels=number).save_pretrained(tmp_path / f"model{number}")
        assert convert(tmp_path / f"model{number}", tmp_path / f"checkpoint{number}", "--to", "scenic") == 0
    assert convert(tmp_path / "checkpoint5", tmp_path / "out", "--labels", tmp_path) == 0
    assert "noun 3: tap, board:chopping, cup; verb 2: take, wash" in capsys.readouterr().out
    loaded = FactorizedViViTForVideoClassification.from_pretrained(tmp_path / "out")
    assert loaded.config.label_groups == [["noun", 3], ["verb", 2]] and loaded.config.id2label[3] == "verb: take"
    assert json.loads((tmp_path / "out" / "video_preprocessor_config.json").read_text())["frame_stride"] == 1
    assert convert(tmp_path / "checkpoint4", tmp_path / "new", "--labels", tmp_path) == 2
    assert "The classifier has 4 rows" in capsys.readouterr().err


def test_options_and_folders_that_cannot_take_effect_are_refused_first(tmp_path, capsys):
    uniformerv2(3).save_pretrained(tmp_path / "model")
    save_reference(uniformerv2(3), tmp_path / "file.pyth")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{no")
    back = (tmp_path / "model", tmp_path / "new", "--to", "reference")
    for arguments, message in (
        ((*back, "--labels", "kinetics400"), "--labels has no effect with --to reference"),
        ((*back, "--head", "kinetics400"), "--head has no effect with --to reference"),
        ((*back, "--dtype", "float16"), "--dtype has no effect with --to reference"),
        ((*back, "--report", tmp_path / "a.json"), "--report has no effect with --to reference"),
        ((tmp_path / "model", tmp_path / "no" / "file", "--to", "reference"), f"there is no folder {tmp_path / 'no'}"),
        (
            (tmp_path / "file.pyth", tmp_path / "new", "--report", tmp_path / "no" / "a.json"),
            "a.json cannot be written",
        ),
        ((tmp_path / "file.pyth", tmp_path / "new", "--num-heads", "1,1,1"), "--num-heads is one number, or that of"),
        ((tmp_path / "damaged", tmp_path / "new"), "config.json is not valid JSON"),
    ):
        assert convert(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
        assert not (tmp_path / "new").exists()


def test_report_says_that_the_classifier_is_cut(tmp_path):
    save_reference(uniformerv2(710), tmp_path / "k710.pyth")
    arguments = ("--head", "kinetics600", "--report", tmp_path / "report.json")
    assert convert(tmp_path / "k710.pyth", tmp_path / "out", *arguments) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    for entry in (report["target"]["classifier.weight"], report["source"]["backbone.transformer.proj.2.weight"]):
        assert (entry["state"], entry["how"]) == ("transformed", "rows of kinetics600")
    classifier = UniFormerV2ForVideoClassification.from_pretrained(tmp_path / "out").classifier
    new = head_rows("kinetics600", "reference")[0].index(NO_ROW)
    assert not classifier.weight[new].any() and classifier.bias[new] == 0 and classifier.weight[new - 1].any()
