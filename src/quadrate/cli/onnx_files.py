"""What `quadrate export --onnx` writes: a folder with an ONNX file a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quadrate.cli.outputs import output_folder
from quadrate.cli.printer import Printer
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs import BaseCodec


def onnx_folder(output: str | None, overwrite: bool) -> Path:
    """The folder that is to be written.

    Raises:
        QuadrateError: If it is not named, cannot be written, or holds something that is not to be
            replaced.
    """
    if output is None:
        raise QuadrateError("--onnx writes a folder of files: name it with -o")
    folder = output_folder(output, "give a folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise QuadrateError(
            f"{folder} is not empty; give another folder, or --overwrite to replace its files"
        )
    return folder


def write_onnx(codec: BaseCodec, name: str, folder: Path, printer: Printer) -> None:
    """Write the networks of a codec and say which; errors as of `export_onnx`."""
    from quadrate.codecs.onnx_export import export_onnx

    paths = export_onnx(codec, folder)
    facts = {
        "codec": name,
        "folder": folder,
        "networks": [
            {"name": network, "file": path, "bytes": path.stat().st_size}
            for network, path in paths.items()
        ],
    }
    lines = [
        f"{network}: {path} ({path.stat().st_size / 1e6:.1f} MB)" for network, path in paths.items()
    ]
    printer.done(facts, *lines)
