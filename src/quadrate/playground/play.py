"""What the playground does, without a page: a picture is sent once and read in many ways."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from quadrate.codecs import BaseCodec, Codec, PhotoCodec, PhotoFile, Photograph, Rate, photo_quad
from quadrate.errors import QuadrateError
from quadrate.playground.pictures import Pixels, fitted
from quadrate.training import Judge, load_judge

_JUDGES = Path(__file__).parent / "judges"
_ENDS = ("faithful", "realistic")  # of the knob
Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sent:
    """A picture that was sent, and what each decoder makes of the file.

    Attributes:
        original: uint8 (C, H, W), as the codec got it.
        file: The whole .quad file.
        decoded: float32 (C, H, W) in [0, 1], by the decoder's name.
        seconds: What compressing and all decoders took.
    """

    original: Pixels
    file: bytes
    decoded: Mapping[str, Values]
    seconds: float


@dataclass(frozen=True, eq=False)
class Reading:
    """A picture as one decoder shows it, and what there is to say of it.

    Attributes:
        name: The decoder.
        picture: uint8 (C, H, W).
        mse: Mean squared error a pixel and channel, pixels in [0, 1].
        labels: What each judge reads, and how sure it is, in [0, 1]; by the judge's architecture.
            Empty where no judge knows the codec's data.
    """

    name: str
    picture: Pixels
    mse: float
    labels: Mapping[str, tuple[int, float]]

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; infinite of equal pictures."""
        return float("inf") if self.mse == 0 else float(-10 * np.log10(self.mse))


class Player:
    """A codec at play.

    Args:
        codec: A codec in the package, or a codec's file.

    Attributes:
        name: As it was asked for.
        codec: The codec.
        shape: (C, H, W); of photographs (3, 0, 0), since any size goes.
        judges: Classifiers that learnt from the same images as the codec, and that no codec met.

    Raises:
        QuadrateError: If there is no such codec, or it is not one of images with decoders.
    """

    def __init__(self, codec: str) -> None:
        self.name = codec
        self.codec = BaseCodec.load(codec)
        self.is_photographic = isinstance(self.codec, PhotoCodec)
        shape = (3, 0, 0) if self.is_photographic else tuple(self.codec.shape)
        if len(shape) != 3 or not self.codec.decoders or not self.codec.is_frozen:
            raise QuadrateError(f"{codec}: the playground shows codecs of images with decoders")
        self.shape = shape
        source = getattr(self.codec, "details", {}).get("fingerprint")
        self.judges = [judge for judge in _judges() if judge.provenance["fingerprint"] == source]

    @property
    def has_knob(self) -> bool:
        """Whether there are a faithful and a realistic decoder to turn between."""
        return all(end in self.codec.decoders for end in _ENDS)

    def send(self, picture: Pixels, quality: float = 50) -> Sent:
        """Compress a picture and decode the file by every decoder.

        Args:
            picture: uint8 (H, W), (H, W, 3) or (H, W, 4), of any size.
            quality: Of photographs, 0 to 100; other codecs have a rate of their own.

        Raises:
            QuadrateError: If there is nothing in the picture.
        """
        started = time.monotonic()
        original = fitted(picture, self.shape)
        codec = self.codec
        if isinstance(codec, PhotoCodec):
            target = io.BytesIO()
            photo_quad.compress(codec, [Photograph(original)], target, Rate(quality=quality))
            file = target.getvalue()
            with PhotoFile(file, codec) as opened:
                decoded = {
                    name: _shares(opened.photograph(0, name).pixels) for name in codec.decoders
                }
        else:
            assert isinstance(codec, Codec)
            written = codec.compress(original[None])
            assert written is not None
            file = written
            decoded = {
                name: codec.decompress(file, name, dtype="float32")[0] for name in codec.decoders
            }
        return Sent(original, file, decoded, time.monotonic() - started)

    def readings(self, sent: Sent) -> list[Reading]:
        """Return the original, which nothing was lost of, and what each decoder shows."""
        original = _shares(sent.original)
        return [
            self._reading(name, values, sent)
            for name, values in {"original": original, **sent.decoded}.items()
        ]

    def between(self, sent: Sent, faithful: float) -> Reading:
        """Return the blend of the faithful and the realistic picture.

        It is what `decompress` gives for the weights, without asking the networks again.

        Args:
            sent: What was sent.
            faithful: The weight of the faithful decoder, in [0, 1].

        Raises:
            QuadrateError: If the codec does not have the two decoders.
        """
        if not self.has_knob:
            raise QuadrateError(f"{self.name} has no faithful and realistic decoders to blend")
        ends = [sent.decoded[name] for name in _ENDS]
        values = np.float32(faithful) * ends[0] + np.float32(1 - faithful) * ends[1]
        return self._reading(f"{faithful:.0%} faithful, {1 - faithful:.0%} realistic", values, sent)

    def _reading(self, name: str, values: Values, sent: Sent) -> Reading:
        labels = {}
        with torch.no_grad():
            for judge in self.judges:
                shares = judge.module(torch.from_numpy(values)[None]).softmax(1)[0]
                labels[judge.provenance["architecture"]] = int(shares.argmax()), float(shares.max())
        error = (values - _shares(sent.original)).astype(float)
        shown = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
        return Reading(name, shown, float(np.square(error).mean()), labels)


def _shares(pixels: Pixels) -> Values:
    """Bytes to numbers in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def _judges() -> list[Judge]:
    """The judges that come with the package: each of another architecture."""
    return [load_judge(path) for path in sorted(_JUDGES.glob("*.safetensors"))]
