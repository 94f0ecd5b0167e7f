"""CIFAR-10, in binary batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from quadrate.errors import QuadrateError
from quadrate.sources.downloads import DataFile, DataSet
from quadrate.sources.readers import Arrays, checked_labels, contents

RECORD_BYTES = 1 + 3 * 32 * 32
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)


def read_cifar(path: Path) -> tuple[Arrays, Arrays]:
    """Train and test of CIFAR-10, from `cifar-10-binary.tar.gz` or the folder inside it.

    A record is one byte of label and 3072 bytes of image, plane by plane
    (https://www.cs.toronto.edu/~kriz/cifar.html).

    Raises:
        QuadrateError: If a batch is missing, is not a whole number of records, or has a label above
            9, or the archive is broken.
    """
    wanted = {*TRAIN_FILES, *TEST_FILES}
    if path.is_dir():
        present = [name for name in sorted(wanted) if (path / name).is_file()]
        batches = {name: contents(path / name) for name in present}
    else:
        members = ((name.rsplit("/", 1)[-1], data) for name, data in _tar_members(path))
        batches = {name: data for name, data in members if name in wanted}
    if missing := sorted(wanted - batches.keys()):
        raise QuadrateError(f"{path}: lacks {', '.join(missing)}")
    return _arrays(path, batches, TRAIN_FILES), _arrays(path, batches, TEST_FILES)


def _arrays(path: Path, batches: dict[str, bytes], names: Sequence[str]) -> Arrays:
    for name in names:
        size = len(batches[name])
        if size == 0 or size % RECORD_BYTES:
            raise QuadrateError(
                f"{path}: {name} is truncated or not a batch: {size} bytes are not a whole number"
                f" of {RECORD_BYTES}-byte records"
            )
    data = b"".join(batches[name] for name in names)
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
    return records[:, 1:].reshape(-1, 3, 32, 32), checked_labels(path, records[:, 0], range(10))


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the regular files in a (gzipped) tar archive, read in memory.

    The standard `tarfile` can loop forever on a crafted archive (CVE-2025-8194, not fixed in older
    Pythons). This needs little of the format: 512-byte headers with the name, the size in octal, a
    checksum and a type, each followed by its file in whole blocks.
    """
    data = contents(path)
    start = 0
    while start + 512 <= len(data) and data[start] != 0:  # a block of zeros ends the archive
        header = data[start : start + 512]
        fields = header[124:136], header[148:156]
        try:
            size, checksum = (int(field.strip(b" \0"), 8) for field in fields)
        except ValueError:
            size, checksum = -1, -1
        total = sum(header) - sum(fields[1]) + 8 * ord(" ")  # its own field counts as blanks
        if size < 0 or checksum != total:
            raise QuadrateError(
                f"{path}: not a tar archive, or a damaged one: bad header at byte {start}"
            )
        start += 512
        if start + size > len(data):
            raise QuadrateError(
                f"{path}: truncated: its last file takes {size} bytes, and {len(data) - start}"
                " follow"
            )
        if header[156:157] in (b"0", b"\0"):
            yield header[:100].split(b"\0", 1)[0].decode("latin-1"), data[start : start + size]
        start += -(-size // 512) * 512


CIFAR_10 = DataSet(
    "cifar-10",
    (
        DataFile(
            "cifar-10-binary.tar.gz",
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            unpacked="cifar-10-batches-bin",
        ),
    ),
    ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
    lambda paths: read_cifar(paths[0]),
)
