"""Small files in the formats of image data sets, written from the formats' descriptions."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def idx_bytes(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_mnist(
    folder: Path,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    zipped: bool = True,
) -> None:
    """The four files of MNIST and Fashion-MNIST; images are (N, H, W)."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, (images, labels) in (("train", train), ("t10k", test)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            name = f"{prefix}-{kind}-ubyte"
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)


def write_svhn(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """SVHN's cropped digits: images are (N, 3, 32, 32).

    Labels from 0 are written as SVHN does, with 10 for the digit 0.
    """
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, np.newaxis]
    savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": y}, do_compression=True)


def cifar_batches(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> dict[str, bytes]:
    """The six batches of CIFAR-10's binary version; images are (N, 3, 32, 32)."""

    def records(images: np.ndarray, labels: np.ndarray) -> bytes:
        return b"".join(
            bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)
        )

    parts = zip(np.array_split(train[0], 5), np.array_split(train[1], 5), strict=True)
    batches = {
        f"data_batch_{number}.bin": records(*part) for number, part in enumerate(parts, start=1)
    }
    return {**batches, "test_batch.bin": records(*test)}


def write_tar(path: Path, members: dict[str, bytes], tar_format: int = tarfile.GNU_FORMAT) -> None:
    """A gzipped tar archive with the members in a folder, as CIFAR-10 is published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", format=tar_format) as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_folder(
    root: Path, classes: tuple[str, ...] = ("circle", "square"), count: int = 10, mode: str = "L"
) -> None:
    """`count` PNG images of 6x5 a class.

    The first channel of every pixel is the image's number, counted through all classes.
    """
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            value = index * count + number
            Image.new(mode, (6, 5), value if mode == "L" else (value, 1, 2, 255)[: len(mode)]).save(
                root / name / f"{number:03}.png"
            )
