"""The manifest of a folder of shards: what they hold together, written when all are there."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrate.coding.container.layout import MAX_CHUNK_SAMPLES, MAX_CHUNKS, Header, LayerHeader
from quadrate.coding.container.reader import Reader
from quadrate.core.files import digest_of, read_json, write_text
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

MANIFEST = "manifest.json"
FORMAT = "quadrate-shards-1"
_SEEDS = 1 << 64
_MOST_BYTES = 1 << 62


@dataclass(frozen=True)
class Shard:
    """A whole shard, as the manifest lists it.

    Attributes:
        samples: How many it has.
        chunks: How many chunks.
        bytes: How many bytes.
        sha256: Of all of them, in hexadecimal digits.
    """

    samples: int
    chunks: int
    bytes: int
    sha256: str


def shard_name(number: int) -> str:
    """The file name of a shard, from its number."""
    return f"part-{number:05d}.quad"


def read_shard(path: Place, seed: int, identities: list[bytes], samples: int) -> Shard:
    """Check a whole shard, and list it.

    Args:
        path: The shard.
        seed: The seed that it must have.
        identities: Those of its layers, from the base on.
        samples: How many samples it must have.

    Raises:
        QuadrateError: If it is missing or damaged, or another shard than the one described.
    """
    with Reader(path) as reader:
        header = reader.header
        found = (header.seed, [layer.identity for layer in header.layers], reader.samples)
        if found != (seed, identities, samples) or reader.ignored_bytes:
            raise QuadrateError(f"{path} is another shard than the one that belongs there")
        reader.verify()
        return Shard(samples, reader.chunks, reader.size, digest_of(path))


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds.

    Attributes:
        header: Of the first shard. Each later shard has the next seed, and otherwise the same.
        shards: All shards, in order.
        classes: The names of the classes, where labels are numbers of class folders.
    """

    header: Header
    shards: tuple[Shard, ...]
    classes: tuple[str, ...] | None = None

    def header_of(self, number: int) -> Header:
        """The header of a shard."""
        return replace(self.header, seed=seed_of(self.header.seed, number))

    @property
    def sample_ends(self) -> NDArray[np.int64]:
        """How many samples there are up to the end of each shard, (shards,)."""
        return np.cumsum([shard.samples for shard in self.shards], dtype=np.int64)

    @property
    def chunk_ends(self) -> NDArray[np.int64]:
        """How many chunks there are up to the end of each shard, (shards,)."""
        return np.cumsum([shard.chunks for shard in self.shards], dtype=np.int64)

    def write(self, folder: Place) -> None:
        """Write it into the folder of the shards; it appears when it is whole.

        Raises:
            QuadrateError: If it cannot be written.
        """
        facts = {
            "format": FORMAT,
            "samples": sum(shard.samples for shard in self.shards),
            "shape": list(self.header.shape),
            "seed": self.header.seed,
            "labels": "labels" in self.header.fields,
            "names": "names" in self.header.fields,
            "fields": list(self.header.fields),
            "classes": None if self.classes is None else list(self.classes),
            "layers": [
                {"identity": layer.identity.hex(), "columns": layer.columns}
                for layer in self.header.layers
            ],
            "shards": [
                {"name": shard_name(number), **vars(shard)}
                for number, shard in enumerate(self.shards)
            ],
        }
        write_text(folder / MANIFEST, json.dumps(facts, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Place) -> Manifest:
        """Read the manifest of a folder of shards.

        Raises:
            QuadrateError: If the folder has none, or it is damaged.
        """
        path = folder / MANIFEST
        facts = read_json(path)
        try:
            return cls._of(facts)
        except (QuadrateError, TypeError, LookupError, AttributeError, ValueError) as error:
            raise QuadrateError(
                f"{path} is damaged: {type(error).__name__} {' '.join(str(error).split())}"
            ) from None

    @classmethod
    def _of(cls, facts: dict[str, Any]) -> Manifest:
        if facts["format"] != FORMAT:
            raise ValueError(f"its format is {facts['format']!r:.40}; this reads {FORMAT!r}")
        layers = tuple(
            LayerHeader(bytes.fromhex(layer["identity"]), _count(layer["columns"]))
            for layer in facts["layers"]
        )
        shape = tuple(_count(size) for size in facts["shape"])
        fields = tuple(str(name) for name in facts["fields"])
        header = Header(shape, _count(facts["seed"], _SEEDS), layers, fields)
        shards = tuple(_shard(number, entry) for number, entry in enumerate(facts["shards"]))
        if not shards or facts["samples"] != sum(shard.samples for shard in shards):
            raise ValueError("its shards do not add up to its samples")
        classes = facts["classes"]
        return cls(header, shards, None if classes is None else tuple(map(str, classes)))


def seed_of(first: int, number: int) -> int:
    """The seed of a shard, from that of the first: so no two samples share their dither."""
    return (first + number) % _SEEDS


def _shard(number: int, entry: dict[str, Any]) -> Shard:
    # The name is made from the number, so that no manifest leads out of its folder.
    if entry["name"] != shard_name(number):
        raise ValueError(f"shard {number} is called {entry['name']!r:.40}")
    chunks, sha256 = _count(entry["chunks"], MAX_CHUNKS + 1), entry["sha256"]
    samples = _count(entry["samples"], chunks * MAX_CHUNK_SAMPLES + 1)
    if len(bytes.fromhex(sha256)) != 32:
        raise ValueError(f"shard {number} has a SHA-256 of {len(sha256)} digits")
    return Shard(samples, chunks, _count(entry["bytes"]), sha256)


def _count(value: Any, most: int = _MOST_BYTES) -> int:
    if type(value) is not int or not 0 <= value < most:
        raise ValueError(f"{value!r:.40} is not a whole number from 0 to {most - 1}")
    return value
