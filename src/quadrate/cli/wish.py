"""What `quadrate decompress` is asked for."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from quadrate.cli.outputs import is_array
from quadrate.cli.quads import codec_mark
from quadrate.coding.container.manifest import MANIFEST
from quadrate.core.files import is_folder, open_regular
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs.batches import Blend

Dtype = Literal["uint8", "float32", "float64"]
Format = Literal["png", "jpeg", "webp"]
_END_BYTES = 1 << 12
_SLICE = re.compile(r"{0}|({0})?(:({0})?){{1,2}}".format(r"-?[0-9]{1,18}"))


@dataclass(frozen=True)
class Wish:
    """What shall be decoded, and where to.

    Attributes:
        file: The .quad file.
        codec: Its codec, as the command line names it.
        layers: How many layers to read; by default all.
        decoder: A decoder, or the weights of several.
        samples: Which samples, as the command line writes it.
        part: The same as a slice.
        latents: Whether latents are wanted in place of samples.
        output: An .npy file, or a folder.
        dtype: Of an array's numbers.
        format: Of pictures.
        quiet: Whether to show no progress.
    """

    file: Place
    codec: str | None
    layers: int | None
    decoder: Blend
    samples: str
    part: slice
    latents: bool
    output: Place
    dtype: Dtype | None
    format: Format
    quiet: bool

    @property
    def array(self) -> bool:
        """Whether the output is an array, rather than a folder."""
        return is_array(str(self.output))

    @property
    def folder(self) -> Path:
        """The output, if it is a folder, which is one of this machine."""
        assert isinstance(self.output, Path)
        return self.output

    def numbers(self, count: int) -> range:
        """Return the numbers of the samples that are asked for, of so many.

        Raises:
            QuadrateError: If there are samples, but none of these.
        """
        wanted = range(*self.part.indices(count))
        if not wanted and count:
            raise QuadrateError(
                f"{self.file} has samples 0 to {count}, the last not included; {self.samples} is"
                " none of them"
            )
        return wanted

    def asked(self, samples: range) -> dict[str, Any]:
        """Return what decides every picture but for its format.

        The .quad file, by its end, which has checksums of all before it, or the manifest of
        shards; the codec; how many of its layers; the decoder; which samples.
        """
        folder = is_folder(self.file)
        with open_regular(self.file / MANIFEST if folder else self.file) as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(0 if folder else max(0, size - _END_BYTES))
            end = hashlib.sha256(opened.read()).hexdigest()
        reader = None if self.codec is None else codec_mark(self.codec)
        weights = (
            self.decoder
            if self.decoder is None or isinstance(self.decoder, str)
            else dict(self.decoder)
        )
        return {
            "file": [size, end],
            "codec": reader,
            "layers": self.layers,
            "decoder": weights,
            "samples": [samples.start, samples.stop, samples.step],
        }


def read_slice(text: str) -> slice:
    """A slice or a single number, as Python writes them.

    Raises:
        QuadrateError: If it is neither.
    """
    numbers = (
        [int(part) if part else None for part in text.split(":")] if _SLICE.fullmatch(text) else []
    )
    if len(numbers) == 1 and numbers[0] is not None:
        return slice(numbers[0], numbers[0] + 1 or None)
    if not numbers or len(numbers) == 3 and numbers[2] == 0:
        raise QuadrateError(
            f"--samples takes start:stop, start:stop:step or a number, as in 10:20; got {text!r}"
        )
    return slice(*numbers)
