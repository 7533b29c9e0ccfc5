# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""
Reading the tensors of checkpoint files of other codes: PyTorch (`.pyth`, `.pth`), safetensors and Flax's msgpack.

The content decides what a file is, not its name. No pickle can run code: PyTorch files are read with `weights_only=True`.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file


CONTAINERS = ("model_state", "state_dict", "model", "module")  # keys under which training programs store the weights
# Packages whose objects some files hold beside the weights. They are replaced by objects that do nothing.
IGNORED_PACKAGES = ("mmengine", "numpy")
MAX_HEADER = 100 * 2**20  # bytes, as in safetensors
BLOCK = 2**24  # bytes that are read at a time
# Bytes of compressed records or of expanded tensors, per byte of the file. Weights compress to about 0.9 of their size, and PyTorch
# stores them without compression.
MAX_EXPANSION = 16


# A part of the name of a tensor, what a file with this tensor is, and what reads it.
KINDS = (
    (
        r"transformer\.(temporal_cls_token$|dec\.0\.)",
        "a UniFormerV2: UniFormerV2ForVideoClassification.from_reference reads it",
    ),
    (r"^(uniformerv2|factorized_vivit|tubevit|vivit)\.", "a model of Transformers: from_pretrained reads its folder"),
    (
        r"(Spatial|Temporal)Transformer/encoderblock_0/",
        "a ViViT of Scenic: FactorizedViViTForVideoClassification.from_scenic reads it",
    ),
    (
        r"Transformer/encoderblock_0/",
        "a ViT or ViViT of Scenic: FactorizedViViTForVideoClassification.from_image_checkpoint or from_scenic reads it",
    ),
    (
        r"(^|\.)embeddings\.class_embedding$",
        "a CLIP of Transformers: UniFormerV2ForVideoClassification.from_image_checkpoint reads the model or its folder",
    ),
    (
        r"^(visual\.)?class_embedding$",
        "a CLIP image encoder: UniFormerV2ForVideoClassification.from_image_checkpoint reads it",
    ),
)


class Ignored:
    """Stands for any object beside the weights: accepts every argument and state, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Ignored":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def load_state(source: Any) -> dict[str, Any]:
    """
    The tensors of a checkpoint by name.

    source: a file, a folder with one, or the content of a file: tensors or arrays (of NumPy or JAX) by name, in nested dictionaries or
    under a key such as `model_state`. Names of nested dictionaries are joined with slashes, as in Flax's trees.

    Raises as `read_state`, and `ValueError` for another source. Values that are not arrays are returned as they are.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_state(source)
    if not isinstance(source, Mapping):
        raise ValueError(
            f"A checkpoint is a file, or a dictionary of tensors by name such as state_dict() returns, got a {type(source).__name__}."
        )
    return flatten_tree(_unwrap(source))


def read_state(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The tensors of a checkpoint file, or of the one checkpoint file in a folder, by name.

    Flax's trees have names with slashes. Raises `FileNotFoundError` for no file and `ValueError` for a file that is empty, damaged,
    not a checkpoint, or holds code, and for expanded tensors (`Tensor.expand`) that are far larger than the file. Changed bytes of
    weights are noticed in PyTorch's zip archives, which have checksums; safetensors, Flax's files and the format before PyTorch 1.6
    have none.
    """
    path = find_checkpoint(path)
    with open(path, "rb") as file:
        start = file.read(16)
    if not start:
        raise ValueError(f"{path} is empty.")
    if start.startswith(b"PK"):
        return _named_tensors(_read_torch(path), path)
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return _named_tensors(_read_torch(path), path)
    if start[8:9] == b"{":
        return _read_safetensors(path, int.from_bytes(start[:8], "little"))
    return {key: value for key, value in flatten_tree(read_flax_tree(path)).items() if isinstance(value, torch.Tensor)}


def describe_state(state: Mapping[str, Any]) -> str:
    """What the checkpoint of another model is and what reads it, or the names of its first tensors: the end of an error message."""
    for pattern, kind in KINDS:
        if any(re.search(pattern, key) for key in state):
            return f"it is {kind}"
    return f"its tensors are {', '.join([*list(state)[:3], '...'])}" if state else "it holds no tensors"


def find_checkpoint(path: str | os.PathLike) -> Path:
    """The file itself, or the only checkpoint file in a folder."""
    path = Path(path)
    if path.is_dir():
        names = ("model.safetensors", "pytorch_model.bin", "checkpoint")
        found = [path / name for name in names if (path / name).is_file()]
        suffixes = (".pyth", ".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".msgpack")
        found = found or sorted(each for each in path.iterdir() if each.suffix in suffixes and each.is_file())
        if len(found) != 1:
            problem = f"{len(found)} checkpoint files" if found else "no checkpoint file"
            raise ValueError(f"The folder {path} holds {problem}: name the file.")
        return found[0]
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    return path


def _read_safetensors(path: Path, header_size: int) -> dict[str, torch.Tensor]:
    if header_size > min(MAX_HEADER, path.stat().st_size):
        raise ValueError(
            f"{path} is damaged: its header claims {header_size} bytes, and the file has {path.stat().st_size}."
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}): download it again.") from None


def _read_torch(path: Path) -> Any:
    """The object in a PyTorch file. Raises `ValueError` for a damaged file and for one that needs code to be loaded."""
    try:
        allowed: list[Any] = []
        if zipfile.is_zipfile(path):
            _check_archive(path)
            allowed = _inert_globals(path)
            with torch.serialization.safe_globals(allowed):
                return torch.load(path, map_location="cpu", weights_only=True)
        return _read_old_torch(path)
    except _TorchScript:
        raise ValueError(
            f"{path} is a TorchScript archive, which holds code: load it with torch.jit.load if you trust it, and save its state_dict() "
            "with torch.save."
        ) from None
    except _UnsafeFile as error:
        raise _unsafe(path, str(error)) from None
    except Exception as error:  # the unpickler raises almost any type for a damaged file
        if refused := re.search(r"GLOBAL ([\w.]*\w)", str(error)):  # of the format before PyTorch 1.6
            raise _unsafe(path, refused[1]) from None
        reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged, incomplete or not a PyTorch checkpoint ({reason}).") from None


def _read_old_torch(path: Path) -> Any:
    """The object in a file of the format before PyTorch 1.6, whose globals cannot be listed: each refused one is replaced in turn."""
    allowed: list[Any] = []
    while True:
        try:
            with torch.serialization.safe_globals(allowed):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = re.search(r"Unsupported global: GLOBAL ([\w.]*\w)", str(error))
            name = refused[1] if refused else ""
            if name.split(".")[0] not in IGNORED_PACKAGES or name in [known for _, known in allowed]:
                raise
            allowed.append((Ignored, name))


def _unsafe(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} is a pickle that refers to {name}: only tensors are loaded, because a pickle can run any code. Nothing of it was run."
    )


class _UnsafeFile(Exception):
    """Names the first global of a pickle that is refused."""


class _TorchScript(Exception):
    """The file is a TorchScript archive."""


def _check_archive(path: Path) -> None:
    """
    Raise `_TorchScript` for an archive with code, and `zipfile.BadZipFile` for two records of one name, for compressed records that are
    far larger than the file, and for a record that does not have its CRC-32: `torch.load` loads changed weights without an error.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(Path(name).name == "constants.pkl" for name in names):
            raise _TorchScript
        if len(set(names)) < len(names):
            raise zipfile.BadZipFile("two records of the archive have the same name")
        size = sum(record.file_size for record in archive.infolist())
        if size > MAX_EXPANSION * path.stat().st_size:
            raise zipfile.BadZipFile(f"its records claim {size:,} bytes, and the file has {path.stat().st_size:,}")
        for record in archive.infolist():
            if not record.CRC:
                continue  # PyTorch writes 0 for every record after torch.serialization.set_crc32_options(False)
            with archive.open(record) as content:
                while content.read(BLOCK):  # compares the CRC at the end
                    pass


def _inert_globals(path: Path) -> list[Any]:
    """
    Stand-ins for the objects of `IGNORED_PACKAGES` in an archive. Raises `_UnsafeFile` if it refers to anything else.

    mmengine's HistoryBuffer holds its own methods, which pickle writes as `getattr(HistoryBuffer, "mean")`: beside objects of mmengine,
    `getattr` is replaced too.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    is_mmengine = any(name.startswith("mmengine.") for name in names)
    refused = [
        name
        for name in names
        if name.split(".")[0] not in IGNORED_PACKAGES and not (is_mmengine and name == "builtins.getattr")
    ]
    if refused:
        raise _UnsafeFile(refused[0])
    return [(Ignored, name) for name in names]


def _unwrap(content: Any) -> Any:
    """The weights of a training program's checkpoint, which are under one of `CONTAINERS`; other content as it is."""
    for key in CONTAINERS:
        inner = content.get(key) if isinstance(content, Mapping) else None
        # Scenic's `model_state` holds no weights, and is empty or has further levels.
        if isinstance(inner, Mapping) and any(hasattr(value, "__array__") for value in inner.values()):
            return inner
    return content


def _named_tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    content = _unwrap(content)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no tensors by name, but a {type(content).__name__}.")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        keys = f"; its keys are {', '.join(map(str, list(content)[:5]))}" if content else ""
        raise ValueError(f"{path} holds no tensors{keys}.")
    # The elements of an expanded tensor share memory, so a small file can claim any number of them.
    expanded = [
        key
        for key, value in tensors.items()
        if value.layout == torch.strided and not value.is_meta and value.nbytes > value.untyped_storage().nbytes()
    ]
    size, limit = sum(tensors[key].nbytes for key in expanded), MAX_EXPANSION * path.stat().st_size
    if size > limit:
        largest = max(expanded, key=lambda key: tensors[key].nbytes)
        raise ValueError(
            f"{path}: the expanded tensors, whose elements share memory, need {size:,} bytes, more than {MAX_EXPANSION} times the size of the "
            f"file; {largest} has the shape {tuple(tensors[largest].shape)}. Save them with .contiguous() if the shapes are right."
        )
    return tensors


def read_flax_tree(path: str | os.PathLike) -> dict[str, Any]:
    """
    The tree of dictionaries and arrays in a file of `flax.serialization`. Raises `ValueError` for a damaged or other file, and
    `ImportError` without the `msgpack` package.
    """
    try:
        import msgpack  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            f"Reading a Flax checkpoint needs the msgpack package: pip install msgpack ({error})."
        ) from None

    def unpack_extension(code: int, data: bytes) -> np.ndarray:
        if code not in (1, 3):
            raise ValueError(f"unknown msgpack extension {code}")
        shape, dtype, buffer = msgpack.unpackb(data, raw=True)  # of an array (1) and a scalar (3)
        if dtype == b"bfloat16":  # unknown to NumPy: the upper half of a float32
            return (np.frombuffer(buffer, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return np.frombuffer(buffer, np.dtype(dtype.decode())).reshape(shape)

    data = Path(path).read_bytes()
    try:
        tree = msgpack.unpackb(data, ext_hook=unpack_extension, raw=False, strict_map_key=False)
    except Exception as error:  # of msgpack, and of arrays whose bytes do not fit their shape
        raise ValueError(
            f"{path} is not a checkpoint of PyTorch, safetensors or Flax, or is damaged ({str(error) or type(error).__name__}); it begins "
            f"with {data[:24]!r}."
        ) from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no tree of arrays, but a {type(tree).__name__}.")
    return tree


def write_flax_tree(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors, by their paths with slashes, as a file that `flax.serialization` and `read_flax_tree` read."""
    try:
        import msgpack
    except ImportError as error:
        raise ImportError(
            f"Writing a Flax checkpoint needs the msgpack package: pip install msgpack ({error})."
        ) from None

    def pack(tensor: torch.Tensor) -> Any:
        is_bfloat16 = tensor.dtype == torch.bfloat16  # unknown to NumPy
        value = (tensor.view(torch.int16) if is_bfloat16 else tensor).numpy()
        name = "bfloat16" if is_bfloat16 else value.dtype.name
        return msgpack.ExtType(1, msgpack.packb((value.shape, name, value.tobytes()), use_bin_type=True))

    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *folders, leaf = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = tensor
    packer = msgpack.Packer(use_bin_type=True)

    def write(node: Any) -> None:
        """One array at a time: packed as a whole, a tree needs several times its size in memory."""
        if isinstance(node, torch.Tensor):
            file.write(packer.pack(pack(node.detach().cpu().contiguous())))
            return
        file.write(packer.pack_map_header(len(node)))
        for key, value in node.items():
            file.write(packer.pack(key))
            write(value)

    with open(path, "wb") as file:
        write(tree)


def flatten_tree(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """
    The leaves of a tree by their path with slashes, arrays as tensors. Raises `ValueError` for an array of another kind than numbers.

    Flax writes an array of more than 1 GiB in pieces: `{"__msgpack_chunked_array__": True, "shape": ..., "chunks": ...}`.
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and "__msgpack_chunked_array__" in value:
            value = _join_chunks(path, value)
        if isinstance(value, Mapping):
            leaves |= flatten_tree(value, f"{path}/")
        else:
            leaves[path] = as_tensor(path, value)
    return leaves


def as_tensor(name: str, value: Any) -> Any:
    """A tensor with the values of an array of NumPy or JAX; another value as it is. Raises `ValueError` for an array without numbers."""
    if isinstance(value, torch.Tensor) or not hasattr(value, "__array__"):
        return value
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # of JAX; unknown to torch.from_numpy
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"The array {name} has the dtype {array.dtype}, and weights are numbers.")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _join_chunks(name: str, value: Mapping[str, Any]) -> np.ndarray:
    """One array from the pieces in which Flax writes it. Its shape and its pieces are mappings from "0", "1", ... to values."""
    try:
        shape, chunks = (
            [value[part][str(index)] for index in range(len(value[part]))] for part in ("shape", "chunks")
        )
        return np.concatenate(chunks).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"The pieces of the array {name} do not make an array of its shape ({error}).") from None
