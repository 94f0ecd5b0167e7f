"""Photographs of a .quad file for PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from quadrate.codecs.batches import Blend
from quadrate.codecs.file_dataset import FileDataset
from quadrate.codecs.photo_codec import PhotoCodec
from quadrate.codecs.photo_quad import PhotoFile
from quadrate.core.files import FileSource, data_or_path
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.networks.backbones import Backbone

Item = Literal["pixels", "latents", "features", "labels"]


class PhotoDataset(FileDataset):
    """The photographs of a .quad file, each decoded when it is asked for.

    They have shapes of their own, so a loader that makes batches needs a `transform` that gives
    them one, such as a crop. Worker processes open the file anew.

    Args:
        source: The path of the file or of a folder of shards, or a file's bytes.
        codec: The codec that wrote it.
        item: What samples are: "pixels", uint8 (C, H, W); "latents", float32 (c, ⌈H/16⌉, ⌈W/16⌉),
            coefficients of blocks in gray levels, which models read without a decoder; or
            "features", float32 (D,), what a backbone makes of the pixels. Each comes with its label
            where the file has labels. Or "labels" alone.
        decoder: A decoder's name, or weights by name; by default the codec's first.
        layers: 1 reads the base alone: the first channels of latents, and zeros.
        transform: Takes pixels, latents or features, and gives what the sample shall be.
        backbone: What makes the features, from `quadrate.networks.backbones.load_backbone`; of
            other items it is left out.

    Raises:
        QuadrateError: If the file is not this codec's, there is no such decoder, or there are no
            labels, or no backbone, where they are asked for.
    """

    def __init__(
        self,
        source: FileSource,
        codec: PhotoCodec,
        item: Item = "pixels",
        decoder: Blend = None,
        layers: int | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
        backbone: Backbone | None = None,
    ) -> None:
        if item not in get_args(Item):
            raise QuadrateError(f"an item is {', '.join(get_args(Item))}; got {item!r}")
        if (item == "features") != (backbone is not None):
            raise QuadrateError(
                f"features, and only they, come from a backbone; got the item {item!r}"
                f" {'without' if backbone is None else 'with'} one"
            )
        codec.check_decoder(decoder)
        self._source: bytes | Place = data_or_path(source)
        self._codec, self._item, self._decoder = codec, item, decoder
        self._layers, self._transform, self._backbone = layers, transform, backbone
        self._open()
        self._labelled = "labels" in self._file.reader.header.fields
        if item == "labels" and not self._labelled:
            raise QuadrateError("this file holds no labels")

    def _open(self) -> None:
        self._file = PhotoFile(self._source, self._codec, self._layers)

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, number: int) -> Any:
        number = self._checked(number)
        if self._item == "labels":
            return self._label(number)
        if self._item == "latents":
            coefficients, _ = self._file.coefficients(number)
            content = torch.from_numpy(coefficients).permute(2, 0, 1).contiguous()
        else:
            content = torch.from_numpy(self._file.photograph(number, self._decoder).pixels)
            if self._backbone is not None:
                content = self._backbone.features([content])[0]
        sample = content if self._transform is None else self._transform(content)
        return (sample, self._label(number)) if self._labelled else sample

    def _label(self, number: int) -> int:
        labels = self._file.side(number).labels
        assert labels is not None
        return int(labels[0])
