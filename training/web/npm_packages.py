# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""The JavaScript packages of the page: pinned versions of the npm registry, fetched once by `npm pack`, and copied beside each page."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..environment import cache_folder


class NpmPackage(NamedTuple):
    """
    A package of the npm registry.

    integrity: checksum of its archive, as the registry lists it. files: paths in the archive below `package/`, all copied to one folder.
    """

    name: str
    version: str
    integrity: str
    files: tuple[str, ...]

    @property
    def archive(self) -> str:
        """File name of the archive that `npm pack` writes."""
        return f"{self.name}-{self.version}.tgz"


# onnxruntime-web (MIT) runs the model; Mediabunny (MPL-2.0) finds the frames in MP4, MOV, WebM, MKV and MPEG-TS files.
PACKAGES = (
    NpmPackage(
        "onnxruntime-web",
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        (
            "dist/ort.wasm.min.mjs",
            "dist/ort-wasm-simd-threaded.mjs",
            "dist/ort-wasm-simd-threaded.wasm",
            "package.json",
        ),
    ),
    NpmPackage(
        "mediabunny",
        "1.61.0",
        "sha512-WciPOYwKZwgYkoBKcEK6JzzIf+w5whypPzFdOihOylZ/5Qv19FmNfRnTcaprH+jD136YpEASU30Eb6VNCJiz3A==",
        ("dist/bundles/mediabunny.min.mjs", "LICENSE", "package.json"),
    ),
)


def copy_packages(target: Path, given: Path | None = None) -> list[str]:
    """
    Copy the files of all `PACKAGES` to `target/NAME/`.

    given: a folder with the archives of `npm pack`; by default the cache folder, into which missing archives are fetched.

    Returns a sentence per package. Raises `OSError` if an archive is missing and cannot be fetched, `ValueError` for a wrong checksum.
    """
    return [_copy(package, _find_archive(package, given), target / package.name) for package in PACKAGES]


def _copy(package: NpmPackage, archive: Path, target: Path) -> str:
    content = archive.read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != package.integrity:
        raise ValueError(
            f"{archive} is not {package.name} {package.version}: its checksum is {digest[:20]}..., not {package.integrity[:20]}...; "
            "delete it and run the command again."
        )
    target.mkdir(parents=True)
    with tarfile.open(archive) as packed:
        for name in package.files:
            file = packed.extractfile(f"package/{name}")
            assert file is not None  # the checksum fixes the content
            with file, open(target / Path(name).name, "wb") as copy:
                shutil.copyfileobj(file, copy)
    about = json.loads((target / "package.json").read_text(encoding="utf-8"))
    return f"{package.name} {package.version} (license {about['license']}) from {archive}."


def _find_archive(package: NpmPackage, given: Path | None) -> Path:
    folder = given or cache_folder() / "npm"
    path = folder / package.archive
    if path.is_file():
        return path
    wanted = " ".join(f"{each.name}@{each.version}" for each in PACKAGES)
    if given is not None:
        raise FileNotFoundError(f"There is no {path}: run `npm pack {wanted}` in {given}.")
    by_hand = f"run `npm pack {wanted}` where there is a network, and name its folder: --npm-packages FOLDER."
    if shutil.which("npm") is None:
        raise FileNotFoundError(
            f"{package.archive} is not in {folder}, and npm is not installed to fetch it: {by_hand}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # an archive that is half written is never found
        command = ["npm", "pack", f"{package.name}@{package.version}", "--pack-destination", temporary]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise OSError(
                f"{package.archive} is not in {folder}, and `npm pack` cannot fetch it ({reason}): {by_hand}"
            )
        (Path(temporary) / package.archive).replace(path)
    return path
