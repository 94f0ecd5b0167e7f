"""Codecs: encoder, bottleneck and decoders together, their files, and .quad files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quadrate.codecs.base_codec import BaseCodec
    from quadrate.codecs.batches import Batch, Blend
    from quadrate.codecs.codec import Codec
    from quadrate.codecs.codec_file import KINDS, Decoders
    from quadrate.codecs.feature_codec import FeatureCodec
    from quadrate.codecs.invariant_codec import InvariantCodec
    from quadrate.codecs.layer import Layer
    from quadrate.codecs.photo_codec import PhotoCodec
    from quadrate.codecs.photo_dataset import PhotoDataset
    from quadrate.codecs.photo_quad import PhotoFile, Photograph, Rate
    from quadrate.codecs.published_bottleneck import PublishedBottleneck
    from quadrate.codecs.quad import append, compress, decompress
    from quadrate.codecs.quad_dataset import ChunkSampler, QuadDataset
    from quadrate.codecs.quad_file import QuadFile
    from quadrate.codecs.shard_dataset import ShardDataset, ShardLoader
    from quadrate.codecs.tradeoff_codec import TradeoffCodec
    from quadrate.codecs.zoo_index import zoo

# Imported when they are used: training needs neither the entropy coder nor scikit-learn.
_PLACES = {
    "base_codec": ("BaseCodec",),
    "batches": ("Batch", "Blend"),
    "codec": ("Codec",),
    "codec_file": ("KINDS", "Decoders"),
    "feature_codec": ("FeatureCodec",),
    "invariant_codec": ("InvariantCodec",),
    "layer": ("Layer",),
    "photo_codec": ("PhotoCodec",),
    "photo_dataset": ("PhotoDataset",),
    "photo_quad": ("PhotoFile", "Photograph", "Rate"),
    "published_bottleneck": ("PublishedBottleneck",),
    "quad": ("append", "compress", "decompress"),
    "quad_dataset": ("ChunkSampler", "QuadDataset"),
    "quad_file": ("QuadFile",),
    "shard_dataset": ("ShardDataset", "ShardLoader"),
    "tradeoff_codec": ("TradeoffCodec",),
    "zoo_index": ("zoo",),
}
__all__ = [
    "KINDS",
    "BaseCodec",
    "Batch",
    "Blend",
    "ChunkSampler",
    "Codec",
    "Decoders",
    "FeatureCodec",
    "InvariantCodec",
    "Layer",
    "PhotoCodec",
    "PhotoDataset",
    "PhotoFile",
    "Photograph",
    "PublishedBottleneck",
    "QuadDataset",
    "QuadFile",
    "Rate",
    "ShardDataset",
    "ShardLoader",
    "TradeoffCodec",
    "append",
    "compress",
    "decompress",
    "zoo",
]


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"quadrate.codecs.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
