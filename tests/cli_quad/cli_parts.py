"""Images and folders that the tests compress, and commands in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def save(image: np.ndarray, path: Path, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    (picture.convert(mode) if mode else picture).save(path)


def folder_of(images, root: Path) -> list[str]:
    """Ten images in a folder with sub-folders; their names in the order they are read."""
    names = [
        "z.png",
        "a/0.png",
        "a/1.bmp",
        "a/b/2.png",
        "a/b/3.PNG",
        "c/4.tif",
        "c/5.png",
        "c/6.pgm",
        "c/10.png",
        "c/9.png",
    ]
    order = [
        "z.png",
        "a/0.png",
        "a/1.bmp",
        "a/b/2.png",
        "a/b/3.PNG",
        "c/10.png",
        "c/4.tif",
        "c/5.png",
        "c/6.pgm",
        "c/9.png",
    ]
    for name in names:
        save(images[order.index(name)], root / name)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_text("none either")
    (root / ".cache").mkdir()
    save(images[0], root / ".cache" / "x.png")
    return order


def tree(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def process(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", "from quadrate.cli import main; main()", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )
