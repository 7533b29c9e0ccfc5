"""Checkpoints of the authors' codes: what loads, and what is refused in one line that names the tensor, or what reads the file."""

import random
import re

import msgpack
import numpy as np
import pytest
import torch
from random_weights import randomize
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

from tubevit import (
    FactorizedViViTConfig,
    FactorizedViViTForVideoClassification,
    FactorizedViViTModel,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    UniFormerV2Model,
)
from tubevit.checkpoint_files import read_state, write_flax_tree


UNIFORMERV2 = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 64}
UNIFORMERV2 |= {"image_size": 16, "patch_size": 8, "num_labels": 3, "num_local_blocks": 1, "global_layers": [1]}
VIVIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
VIVIT |= {"image_size": 32, "num_frames": 8, "num_labels": 4, "temporal_num_hidden_layers": 2}
READ = {
    "uniformerv2": UniFormerV2ForVideoClassification.from_reference,
    "vivit": FactorizedViViTForVideoClassification.from_scenic,
}


def uniformerv2_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return randomize(UniFormerV2ForVideoClassification(UniFormerV2Config(**UNIFORMERV2))).to_reference()


def vivit_state(**overrides) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return randomize(FactorizedViViTForVideoClassification(FactorizedViViTConfig(**VIVIT | overrides))).to_scenic()


def state_of(family: str) -> dict[str, torch.Tensor]:
    return uniformerv2_state() if family == "uniformerv2" else vivit_state()


def changed(name: str, value) -> dict:
    return {"uniformerv2": {f"backbone.{name}": value}, "vivit": {name: value}}[
        "vivit" if "/" in name else "uniformerv2"
    ]


QUERY = "SpatialTransformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel"


@pytest.mark.parametrize(
    ("family", "left_out", "message"),
    [
        ("uniformerv2", "temporal_cls_token", "1 tensors are missing: transformer.temporal_cls_token"),
        ("uniformerv2", "conv1.weight", "the tensor conv1.weight is missing"),
        (
            "uniformerv2",
            "transformer.dec.",
            "not a UniFormerV2 .* it holds|the tensor transformer.dec.0.mlp.c_fc.weight is missing",
        ),
        ("uniformerv2", "resblocks.1.ln_2", "2 tensors are missing: transformer.resblocks.1.ln_2.bias"),
        ("vivit", "cls_SpatialTransformer", "1 tensors are missing: cls_SpatialTransformer"),
        ("vivit", "cls_TemporalTransformer", "1 tensors are missing: cls_TemporalTransformer"),
        ("vivit", "embedding/kernel", "the array embedding/kernel is missing"),
        ("vivit", "output_projection", "the array output_projection/kernel is missing"),
        (
            "vivit",
            "SpatialTransformer/posembed",
            "the array SpatialTransformer/posembed_input/pos_embedding is missing",
        ),
        ("vivit", "/query/", "MultiHeadDotProductAttention_0/query/kernel is missing"),
        (
            "vivit",
            "TemporalTransformer/encoderblock_0",
            "16 tensors are missing|TemporalTransformer/encoderblock_0/.* is missing",
        ),
        ("vivit", "SpatialTransformer/encoder_norm", "2 tensors are missing"),
    ],
)
def test_a_missing_tensor_is_named(family, left_out, message):
    with pytest.raises(ValueError, match=message):
        READ[family]({key: value for key, value in state_of(family).items() if left_out not in key})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "resblocks.1.",
            "resblocks.100000000.",
            "transformer.resblocks have a gap: there is a 100000000, .* of 1 are missing",
        ),
        (
            "dec.0.",
            "dec.3.",
            "transformer.dec have a gap: there is a 3, and the tensors of 0 are missing",
        ),
        ("lmhra1", "lmhra7", "transformer.resblocks.0.lmhra have a gap: there is a 7, .* of 1 are missing"),
    ],
)
def test_a_gap_in_the_numbers_of_blocks_is_named(old, new, message):
    """Their largest number was the number of layers to build."""
    with pytest.raises(ValueError, match=message):
        READ["uniformerv2"]({key.replace(old, new): value for key, value in uniformerv2_state().items()})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ln_pre.weight", torch.ones(64, dtype=torch.int8), "backbone.ln_pre.weight has the dtype int8.*quantized"),
        ("ln_pre.weight", torch.ones(64, dtype=torch.complex64), "has the dtype complex64"),
        ("ln_pre.weight", torch.ones(64).to(torch.float8_e4m3fn), "dtype float8_e4m3fn, whose scales are not known"),
        ("ln_pre.weight", torch.eye(64).to_sparse(), "ln_pre.weight must be a dense tensor, got a sparse_coo one"),
        ("ln_pre.weight", 3, "ln_pre.weight must be a dense tensor, got an object of int"),
        ("embedding/bias", torch.zeros(24, dtype=torch.int32), "embedding/bias has the dtype int32"),
        ("embedding/bias", torch.zeros(24, device="meta"), r"embedding/bias of shape \(24,\) holds no values"),
        ("embedding/bias", np.array(["a"]), "embedding/bias has the dtype <U1, and weights are numbers"),
        ("embedding/bias", torch.full((24,), float("inf")), "1 tensors hold NaN or inf: embedding/bias"),
        ("embedding/bias", torch.zeros(25), r"embedding/bias has the shape \(25,\), and the model needs \(24,\)"),
        (QUERY, torch.tensor(1.0), "query/kernel must have 3 dimensions"),
        (
            "SpatialTransformer/posembed_input/pos_embedding",
            torch.ones(1, 7, 24),
            "6 positions per frame, which do not form a square",
        ),
        (
            "SpatialTransformer/extra/kernel",
            torch.ones(2),
            "1 tensors have no place in the model: SpatialTransformer/extra/kernel",
        ),
        (
            "SpatialTransformer/encoderblock_1/MlpBlock_0/Dense_0/kernel",
            torch.ones(24, 33),
            r"has the shape \(24, 33\)",
        ),
    ],
)
def test_a_tensor_of_another_kind_is_named(name, value, message):
    """A quantized or half-read file would otherwise give a model of other numbers without an error."""
    family = "vivit" if "/" in name else "uniformerv2"
    with pytest.raises(ValueError, match=message):
        READ[family](state_of(family) | changed(name, value))


def other_checkpoints() -> dict[str, tuple[dict, str]]:
    """Name to a state, and what the error says that it is."""
    clip = CLIPVisionModel(
        CLIPVisionConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
    return {
        "uniformerv2": (
            uniformerv2_state(),
            "a UniFormerV2: UniFormerV2ForVideoClassification.from_reference reads it",
        ),
        "vivit": (vivit_state(), "a ViViT of Scenic: FactorizedViViTForVideoClassification.from_scenic reads it"),
        "saved": ({"uniformerv2.layers.0.mlp.fc1.weight": torch.ones(1)}, "from_pretrained reads its folder"),
        "clip": (
            {"visual.class_embedding": torch.ones(1)},
            "UniFormerV2ForVideoClassification.from_image_checkpoint reads it",
        ),
        "library clip": (clip.state_dict(), "a CLIP of Transformers: .* reads the model or its folder"),
        "other": (
            {"fc.weight": torch.ones(1), "fc.bias": torch.ones(1)},
            r"its tensors are fc.weight, fc.bias, \.\.\.",
        ),
        "empty": ({}, "it holds no tensors"),
    }


def test_a_checkpoint_of_another_model_is_refused_with_what_reads_it():
    readers = READ | {
        "clip": UniFormerV2ForVideoClassification.from_image_checkpoint,
        "vit": FactorizedViViTForVideoClassification.from_image_checkpoint,
    }
    for reader, read in readers.items():
        for name, (state, message) in other_checkpoints().items():
            if name != reader and (reader, name) != ("vit", "vivit"):
                with pytest.raises(ValueError, match=message) as error:
                    read(state)
                assert "\n" not in str(error.value), (reader, name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_frames": 7}, "num_frames must be a multiple of 2, .* got 7: use 8"),
        ({"num_frames": 0}, "num_frames must be a multiple of 2, .* got 0: use 2"),
        ({"num_frames": 6}, "5 positions per frame, which do not form a square grid: give image_size"),
        ({"image_size": 33}, "image_size must be a multiple of 16, .* got 33: use 32"),
        ({"image_size": [32]}, r"image_size must be one integer or \(height, width\), got \[32\]"),
        ({"image_size": "32"}, "image_size must be one integer"),
        ({"image_size": [32, 64]}, "hold 16 positions; num_frames=4 and .* make 16|make"),
        ({"num_frames": 8, "image_size": 48}, r"hold 16 positions; num_frames=8 and image_size=48 .* make 36"),
        ({"num_frames": 8, "factorization": "encoder"}, "does not fit the arrays, which are those of 'spacetime'"),
        ({"num_frames": 8, "dtype": "int8"}, "dtype must be float32, float16 or bfloat16"),
        (
            {"num_frames": 8, "num_labels": 9},
            r"output_projection/kernel has the shape \(24, 4\), and the model needs \(24, 9\)",
        ),
        ({"num_frames": 8, "id2label": {0: "a"}}, "num_labels=4, but id2label names 1 classes"),
        ({"frames": 8}, "give num_frames or image_size"),
    ],
)
def test_options_of_a_scenic_file_are_checked_against_its_arrays(overrides, message):
    if overrides == {"image_size": [32, 64]}:  # 4 frames of 2 x 4 patches have as many positions as 8 frames of 2 x 2
        assert READ["vivit"](vivit_state(factorization="spacetime"), **overrides).config.num_frames == 4
        return
    with pytest.raises(ValueError, match=message):
        READ["vivit"](vivit_state(factorization="spacetime"), **overrides)


@pytest.mark.parametrize("prefix", ["", "params/", "optimizer/target/", "state/model/"])
def test_scenic_files_of_several_trainers_are_read(prefix, tmp_path):
    """Beside the parameters, a file holds the optimizer's moments with the same paths, and the step."""
    state = vivit_state()
    others = {f"{prefix}opt_state/0/mu/{key}": torch.full_like(value, 9.0) for key, value in state.items()}
    others |= {f"optimizer/state/param_states/{key}/momentum": value for key, value in state.items()}
    others = others | {"global_step": torch.tensor(3)} if prefix else {}
    content = {f"{prefix}{key}": value for key, value in state.items()} | others
    write_flax_tree(tmp_path / "checkpoint", content)
    loaded = READ["vivit"](tmp_path / "checkpoint").to_scenic()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert isinstance(FactorizedViViTModel.from_scenic(tmp_path / "checkpoint"), FactorizedViViTModel)


class OfJax:
    """An array that NumPy can convert, as those of JAX."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize(
    "convert", [np.asarray, OfJax, lambda array: array.astype(">f4"), lambda array: array[None].repeat(3, 0)]
)
def test_trees_of_arrays_are_read_in_python(convert):
    """As restored by flax, with the state of the model, and with the arrays of several devices."""
    state, tree = vivit_state(), {"params": {}, "model_state": {}, "global_step": np.int32(3)}
    for path, value in state.items():
        *folders, leaf = path.split("/")
        node = tree["params"]
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = convert(value.numpy())
    loaded = READ["vivit"](tree).to_scenic()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_devices_with_other_arrays_are_refused():
    state = {key: torch.stack([value, value]) for key, value in vivit_state().items()}
    state["embedding/bias"][1, 0] += 1
    with pytest.raises(ValueError, match="first axis of 2 devices, but those of embedding/bias differ"):
        READ["vivit"](state)


def test_states_of_training_programs_are_read_in_python():
    state = uniformerv2_state()
    for content in ({"model_state": state, "epoch": 3}, {key: value.numpy() for key, value in state.items()}):
        loaded = READ["uniformerv2"](content).to_reference()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())
    with pytest.raises(ValueError, match=r"a dictionary of tensors by name .* got a int"):
        READ["uniformerv2"](3)


def test_arrays_that_flax_writes_in_pieces_are_joined(tmp_path):
    def pack(array):
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))

    array = np.arange(12, dtype=np.float32)
    pieces = {"0": pack(array[:5]), "1": pack(array[5:])}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": pieces}
    (tmp_path / "checkpoint").write_bytes(msgpack.packb({"a": {"b": chunked}}))
    assert torch.equal(read_state(tmp_path / "checkpoint")["a/b"], torch.from_numpy(array.reshape(3, 4)))
    pieces["1"] = pack(array[:3])
    (tmp_path / "checkpoint").write_bytes(msgpack.packb({"a": {"b": chunked}}))
    with pytest.raises(ValueError, match="pieces of the array a/b do not make an array of its shape"):
        read_state(tmp_path / "checkpoint")


def test_quantized_image_models_are_refused():
    """They were converted to float32 as if they were weights."""
    trunk = re.compile(r"(class_embedding|positional_embedding|conv1|ln_pre|transformer\.resblocks\.\d+\.(?!lmhra))")
    clip = {key.removeprefix("backbone."): value for key, value in uniformerv2_state().items()}
    clip = {key: value for key, value in clip.items() if trunk.match(key)}
    vit = vivit_state(factorization="spacetime")
    vit |= {"embedding/kernel": vit["embedding/kernel"][0]}
    for model_class, state, name in (
        (UniFormerV2ForVideoClassification, clip, "conv1.weight"),
        (FactorizedViViTForVideoClassification, vit, "embedding/bias"),
    ):
        with pytest.raises(ValueError, match=f"{name} has the dtype int8"):
            model_class.from_image_checkpoint(state | {name: state[name].to(torch.int8)})


def test_dtypes_are_given_as_torch_and_transformers_name_them():
    for dtype in ("bfloat16", torch.bfloat16):
        assert READ["vivit"](vivit_state(), dtype=dtype).dtype == torch.bfloat16
        assert UniFormerV2Model.from_reference(uniformerv2_state(), dtype=dtype).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", 3),
        ("num_attention_heads", 1),
        ("hidden_size", 48),
        ("intermediate_size", 16),
        ("num_channels", 1),
    ],
)
def test_an_override_that_contradicts_the_image_model_is_refused(field, value):
    """Three layers of a source of two had a third one with random weights; other heads are another function of the same weights."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"image_size": 32, "patch_size": 16}
    for source, model_class in (
        (ViTModel(ViTConfig(**sizes), add_pooling_layer=False), FactorizedViViTForVideoClassification),
        (CLIPVisionModel(CLIPVisionConfig(**sizes)), UniFormerV2ForVideoClassification),
    ):
        own = getattr(source.config, field)
        with pytest.raises(ValueError, match=f"{field}={value} does not fit the source, which has {own}"):
            model_class.from_image_checkpoint(source, num_labels=2, **{field: value})


def test_heads_of_a_clip_file_can_be_given():
    """The file does not hold them, and its width need not be a multiple of 64."""
    names = {key.removeprefix("backbone."): value for key, value in uniformerv2_state().items()}
    trunk = re.compile(r"(class_embedding|positional_embedding|conv1|ln_pre|transformer\.resblocks\.\d+\.(?!lmhra))")
    state = {key: value for key, value in names.items() if trunk.match(key)}
    read = UniFormerV2ForVideoClassification.from_image_checkpoint
    assert read(state).config.num_attention_heads == 1
    assert read(state, num_attention_heads=4).config.num_attention_heads == 4


def saved_files(folder) -> dict[str, dict[str, torch.Tensor]]:
    """Name of a file in each container to its tensors."""
    states = {"zip.pyth": uniformerv2_state(), "old.pyth": uniformerv2_state()}
    states |= {"model.safetensors": uniformerv2_state(), "checkpoint": vivit_state()}
    torch.save(states["zip.pyth"], folder / "zip.pyth")
    torch.save(states["old.pyth"], folder / "old.pyth", _use_new_zipfile_serialization=False)
    save_file(states["model.safetensors"], folder / "model.safetensors")
    write_flax_tree(folder / "checkpoint", states["checkpoint"])
    return states


def damage(data: bytes, kind: str, generator: random.Random) -> bytes:
    start = generator.randrange(len(data))
    if kind == "cut":
        return data[:start]
    if kind == "inserted":
        return data[:start] + b"abc" + data[start:]
    return data[:start] + generator.randbytes(64) + data[start + 64 :]


@pytest.mark.parametrize("name", ["zip.pyth", "old.pyth", "model.safetensors", "checkpoint"])
def test_damaged_files_are_refused_in_one_line_or_read_whole(name, tmp_path):
    state = saved_files(tmp_path)[name]
    data, generator = (tmp_path / name).read_bytes(), random.Random(0)
    outcomes = []
    for index in range(90):
        kind = ("cut", "inserted", "block")[index % 3]
        (tmp_path / "damaged").write_bytes(damage(data, kind, generator))
        try:
            loaded = read_state(tmp_path / "damaged")
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
            outcomes.append(kind)
            continue
        assert kind == "block" or (kind, name) == (
            "inserted",
            "old.pyth",
        )  # in its last tensor: the format has no end mark
        if name == "zip.pyth":  # the container with checksums: what changed was padding
            assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert outcomes.count("cut") == 30


def test_a_changed_weight_in_a_zip_archive_is_noticed(tmp_path):
    """`torch.load` does not compare the checksums of the archive."""
    state, path = uniformerv2_state(), tmp_path / "file.pyth"
    for has_checksums in (True, False):
        torch.serialization.set_crc32_options(has_checksums)
        try:
            torch.save(state, path)
        finally:
            torch.serialization.set_crc32_options(True)
        assert set(read_state(path)) == set(state)
        data, weight = path.read_bytes(), state["backbone.conv1.weight"].numpy().tobytes()
        path.write_bytes(data.replace(weight, weight[:-1] + bytes([weight[-1] ^ 1])))
        if not has_checksums:
            assert not torch.equal(read_state(path)["backbone.conv1.weight"], state["backbone.conv1.weight"])
            continue
        with pytest.raises(ValueError, match=r"is damaged, incomplete .*Bad CRC-32 for file 'file/data/\d+'"):
            read_state(path)
