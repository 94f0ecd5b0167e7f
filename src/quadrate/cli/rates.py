"""How many bits photographs get, from the command line's options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs import Rate

_QUALITY = 50.0
_SIZE = re.compile(r"([0-9]+|[0-9]*\.[0-9]+) ?([a-z]*)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "kib": 1 << 10, "mib": 1 << 20}


@dataclass(frozen=True)
class RateOptions:
    """At most one of these is given.

    Attributes:
        quality: Of photographs, 0 to 100: one step for all of them; 50 unless --quality, --bpp,
            --size or --psnr is given.
        bpp: The most bits a pixel of each photograph.
        size: The most bytes of each photograph, such as 100kB or 1.5MiB.
        psnr: The least peak signal-to-noise ratio of each photograph, in dB, as the codec's first
            decoder shows it.
    """

    quality: float | None = None
    bpp: float | None = None
    size: str | None = None
    psnr: float | None = None

    @property
    def given(self) -> list[str]:
        """The options that are given."""
        return [f"--{name}" for name, value in vars(self).items() if value is not None]

    def rate(self) -> Rate:
        """Return the rate that is asked for.

        Raises:
            QuadrateError: If there are several, or one is out of range.
        """
        from quadrate.codecs import Rate

        if len(self.given) > 1:
            raise QuadrateError(
                f"give one of --quality, --bpp, --size and --psnr; got {', '.join(self.given)}"
            )
        if not self.given:
            return Rate(quality=_QUALITY)
        size = None if self.size is None else _bytes(self.size)
        return Rate(self.quality, self.bpp, size, self.psnr)

    def refuse(self, codec: str) -> None:
        """Raise a QuadrateError if an option is given, as a codec has one rate."""
        if self.given:
            raise QuadrateError(
                f"{codec} is not a codec of photographs, and has one rate; leave"
                f" {' and '.join(self.given)} out"
            )


RATE_OPTIONS = RateOptions()
Rating = Annotated[RateOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")]
"""A verb's options of the rate."""


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise QuadrateError(
            f"--size takes a number of bytes, such as 100000, 100kB or 97KiB; got {text!r}"
        )
    return int(float(found[1]) * unit)
