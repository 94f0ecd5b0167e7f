"""The .quad container: bytes in, bytes out; docs/format.md is its norm."""

from quadrate.coding.container.layout import Header, LayerHeader
from quadrate.coding.container.manifest import Manifest, Shard, read_shard
from quadrate.coding.container.quad_reader import QuadReader
from quadrate.coding.container.reader import Reader
from quadrate.coding.container.shard_reader import ShardReader, open_quad
from quadrate.coding.container.side import ChunkData
from quadrate.coding.container.writer import Writer

__all__ = [
    "ChunkData",
    "Header",
    "LayerHeader",
    "Manifest",
    "QuadReader",
    "Reader",
    "Shard",
    "ShardReader",
    "Writer",
    "open_quad",
    "read_shard",
]
