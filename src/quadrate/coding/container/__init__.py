"""The .quad container: bytes in, bytes out; docs/format.md is its norm."""

from quadrate.coding.container.layout import Header, LayerHeader
from quadrate.coding.container.reader import Reader
from quadrate.coding.container.side import ChunkData
from quadrate.coding.container.writer import Writer

__all__ = ["ChunkData", "Header", "LayerHeader", "Reader", "Writer"]
