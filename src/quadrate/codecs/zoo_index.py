"""The codecs that come with the package, and their index, which is read without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quadrate.core.files import read_json, write_text

if TYPE_CHECKING:
    from quadrate.codecs.base_codec import BaseCodec

FOLDER = Path(__file__).parent / "zoo"


@dataclass(frozen=True)
class CodecSummary:
    """What tells which files a codec reads, and what it makes of them.

    Attributes:
        identities: The identity of each layer that it reads, in hexadecimal digits.
        shape: Of a sample.
        decoders: Their names.
        rate_bound_bits: Bits a sample at most, None where there is no bound.
        familiar_samples: How many samples it has seen to recognize unfamiliar ones, None if it
            cannot.
        reads_fewer_layers: Whether it reads the first of its layers alone, too.
    """

    identities: Sequence[str]
    shape: Sequence[int]
    decoders: Sequence[str]
    rate_bound_bits: float | None
    familiar_samples: int | None
    reads_fewer_layers: bool = False

    @classmethod
    def of(cls, codec: BaseCodec) -> CodecSummary:
        """Summarize a codec of any kind."""
        return cls(
            identities=[each.hex() for each in codec.identities] if codec.is_frozen else [],
            shape=list(codec.shape),
            decoders=list(codec.decoders),
            rate_bound_bits=codec.rate_bound_bits,
            familiar_samples=codec.familiarity.samples if codec.familiarity else None,
            reads_fewer_layers=codec.reads_fewer_layers,
        )


def zoo() -> dict[str, Path]:
    """Return the codecs that come with the package: file by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def read_index() -> dict[str, CodecSummary]:
    """Return the summaries of the codecs that come with the package, by name."""
    return {name: CodecSummary(**entry) for name, entry in read_json(FOLDER / "index.json").items()}


def write_index(load: Callable[[Path], BaseCodec]) -> None:
    """Write the index of the codecs in the folder, each of which is loaded."""
    index = {name: asdict(CodecSummary.of(load(path))) for name, path in zoo().items()}
    write_text(FOLDER / "index.json", json.dumps(index, indent=1) + "\n")
