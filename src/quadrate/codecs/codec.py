"""The base of all codecs: a `SymbolCodec` with .quad files and a file of its own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrate.codecs.batches import Batch, Blend
from quadrate.codecs.symbol_codec import SymbolCodec
from quadrate.core.files import FileSource
from quadrate.core.remote import Url, place_of


class Codec(SymbolCodec):
    """Encoders, a bottleneck a layer, and named decoders, with files.

    A kind of codec adds `latents`, its encoder; `decoders`; `to_parts` and `from_parts` for its
    file; and methods that fit it. Attributes as of `SymbolCodec`.
    """

    def compress(
        self,
        samples: Any,
        *,
        seed: int = 0,
        to: Path | Url | str | None = None,
        labels: Any = None,
        names: Sequence[str] | None = None,
        chunk: int | None = None,
        strict: bool = False,
    ) -> bytes | None:
        """Write samples as a .quad file; `quadrate.codecs.compress` takes them in batches.

        Args:
            samples: As `encode` takes them.
            seed: Seed of the dither, 0 to 2^64 - 1; it stands in the file.
            to: The file to write, a path or a URL; by default none.
            labels: Integers (n,) to store with the samples.
            names: n texts to store with the samples.
            chunk: Samples a chunk; by default up to 16384, and fewer large ones.
            strict: Whether to refuse samples that are unlike those the codec was made for, rather
                than warn of them.

        Returns:
            The file's bytes; None if they went into a file.

        Raises:
            QuadrateError: If the codec is not frozen, samples do not fit it, the file cannot be
                written, or `strict` is set and the samples are unlike the codec's own.
        """
        from quadrate.codecs import quad  # the entropy coder, which training does not need

        target = io.BytesIO() if to is None else place_of(to)
        quad.compress(self, [Batch(samples, labels, names)], target, seed, chunk, strict)
        return target.getvalue() if isinstance(target, io.BytesIO) else None

    def decompress(
        self,
        source: FileSource,
        decoder: Blend = None,
        samples: slice = slice(None),
        dtype: str | None = None,
    ) -> NDArray[Any]:
        """Read a .quad file, given by its path or its bytes in any buffer.

        Arguments and errors as of `quadrate.codecs.decompress`.
        """
        from quadrate.codecs import quad

        return quad.decompress(self, source, decoder, samples, dtype)

    def decompress_latents(self, source: FileSource, samples: slice = slice(None)) -> Tensor:
        """Read the latents of a .quad file as a receiver gets them, float (n, …).

        Raises:
            QuadrateError: If the file is damaged or was written by another codec.
        """
        from quadrate.codecs.quad_file import QuadFile

        with QuadFile(source, self) as file:
            return torch.cat([file.no_latents, *file.latent_pieces(samples)])
