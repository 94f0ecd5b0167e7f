"""What `compress` does with pictures that only models will read: a backbone's features are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from quadrate.core.files import exists
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quadrate.cli.inputs import Input
    from quadrate.codecs import Batch, FeatureCodec
    from quadrate.networks.backbones import Backbone
    from quadrate.sources.image_files import Images

_TOGETHER = 64  # pictures whose pixels are in memory at a time
_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class FeatureOptions:
    """How pictures become features.

    Attributes:
        purpose: features: keep what a backbone makes of pictures of any sizes, in place of the
            pictures. A codec that is not there yet is fitted and written to the file that --codec
            names; later commands need its name alone.
        backbone: The network that gives the features, such as efficientnet-lite0; a codec that is
            there knows its own.
        weights: The file of the backbone's weights; by default it is downloaded once.
        fit: The folder whose pictures a new codec is fitted to; by default those to compress.
        bits: Of a new codec, a picture; by default as many as keep the squared error to a hundredth
            of the features' variance.
    """

    purpose: Literal["features"] | None = None
    backbone: str | None = None
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    fit: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    bits: float | None = None

    @property
    def given(self) -> list[str]:
        """The options that are given."""
        return [f"--{name}" for name, value in vars(self).items() if value is not None]


FEATURE_OPTIONS = FeatureOptions()
FeatureWish = Annotated[FeatureOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")]
"""A verb's options of features."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a codec was fitted to.

    Attributes:
        features: (N, D).
        codec: The codec's file.
        own: Whether they are those of the pictures to compress, in their order.
    """

    features: NDArray[np.float32]
    codec: Path
    own: bool


def fit_if_missing(
    codec: str, inputs: Sequence[str], wish: FeatureOptions, quiet: bool
) -> Fitted | None:
    """Fit a codec to features of pictures and write its file, unless there is one.

    Raises:
        QuadrateError: If options are missing or of no use, pictures cannot be read, or there are
            too few.
    """
    if wish.purpose is None:
        if asked := [name for name in wish.given if name != "--weights"]:
            raise QuadrateError(f"{asked[0]} needs --purpose features")
        return None
    from quadrate.cli.outputs import output_file
    from quadrate.codecs import hub
    from quadrate.codecs.zoo_index import zoo

    if codec.startswith(hub.SCHEME) or codec in zoo() or exists(codec):
        if asked := [f"--{name}" for name in ("fit", "bits") if f"--{name}" in wish.given]:
            raise QuadrateError(
                f"{codec} is there, and fitted; leave {' and '.join(asked)} out, or give --codec"
                " another name"
            )
        return None
    path = output_file(codec, (".safetensors",))
    if wish.backbone is None:
        raise QuadrateError(
            f"{codec} is not there, and a new codec of features needs a network that gives them:"
            " --backbone efficientnet-lite0"
        )
    import numpy as np

    from quadrate.cli.quads import shown
    from quadrate.codecs import FeatureCodec

    found = _open([wish.fit] if wish.fit is not None else inputs, False)
    backbone = _load(wish.backbone, wish)
    pieces = (batch.images for each in found for batch in _batches(each, 0, each.count, backbone))
    total = sum(each.count for each in found)
    features = np.concatenate(list(shown(pieces, "reading", total, quiet)))
    if len(features) < 2:
        raise QuadrateError(
            f"a codec is fitted to two pictures at least, better to thousands; got {len(features)}"
        )
    FeatureCodec(rate_bits=wish.bits, backbone=wish.backbone).fit(features).save(path)
    return Fitted(features, path, wish.fit is None)


def reads_pictures(codec: object, inputs: Sequence[str], wish: FeatureOptions) -> bool:
    """Whether a backbone turns the inputs into what the codec takes.

    Raises:
        QuadrateError: If options of features are given for another codec.
    """
    from quadrate.codecs import FeatureCodec

    known = codec.backbone if isinstance(codec, FeatureCodec) else None
    if known is None:
        if wish.given:
            raise QuadrateError(
                f"{wish.given[0]} is of no use here: the codec is not one of a backbone's features"
            )
        return False
    if wish.backbone not in (None, known):
        raise QuadrateError(
            f"the codec is one of the features of {known}, not of {wish.backbone}; leave --backbone"
            " out"
        )
    return wish.purpose is not None or not any(
        text.lower().endswith(_ARRAYS) for text in inputs
    )  # features that are at hand


def open_features(
    inputs: Sequence[str],
    codec: FeatureCodec,
    wish: FeatureOptions,
    labels: bool,
    fitted: Fitted | None,
) -> list[Input]:
    """The features of folders of pictures and of pictures, with names.

    Raises:
        QuadrateError: If something is missing, or there are no labels where they are wanted; what
            cannot be read shows when the batches are.
    """
    from quadrate.cli.inputs import Input

    images = _open(inputs, labels)
    assert codec.backbone is not None
    own = fitted is not None and fitted.own
    backbone = None if own else _load(codec.backbone, wish)
    start, found = 0, []
    for each in images:
        known = None
        if own and fitted is not None:
            known, start = fitted.features[start : start + each.count], start + each.count
        part = partial(_batches, each, backbone=backbone, known=known)
        found.append(Input(each.name, each.count, True, each.classes, part))
    return found


def _open(inputs: Sequence[str], labels: bool) -> list[Images]:
    from quadrate.cli.photo_files import open_photographs

    return open_photographs(inputs, labels, "a codec of a backbone's features")


def _load(name: str, wish: FeatureOptions) -> Backbone:
    from quadrate.networks.backbones import load_backbone

    return load_backbone(name, wish.weights)


def _batches(
    images: Images,
    start: int,
    stop: int,
    backbone: Backbone | None,
    known: NDArray[np.float32] | None = None,
) -> Iterator[Batch]:
    """Features with names and labels: known ones, or what the backbone makes of the pictures.

    Of the pictures from one number to another, the last not included.
    """
    import numpy as np
    import torch

    from quadrate.codecs import Batch
    from quadrate.sources.images import read_image

    files, done = images.part(start, stop), start
    while some := tuple(islice(files, _TOGETHER)):
        if known is not None:
            features = known[done : done + len(some)]
        else:
            assert backbone is not None
            pictures = [torch.from_numpy(np.array(read_image(each.file))) for each in some]
            features = backbone.features(pictures).numpy()
        done += len(some)
        labels = None if some[0].label is None else np.array([each.label for each in some])
        yield Batch(features, labels, [each.name for each in some])
