"""Photographs of any size: one codec for all rates, beside classical codecs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from quadrate.core.fields import (
    check_at_least,
    check_not_negative,
    check_positive,
    check_recipe,
    make_plain,
)
from quadrate.core.names import check_file_name
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.experiment import OURS, experiment
from quadrate.photo_config import CheckerboardConfig, RestorationConfig


@dataclass(frozen=True)
class PhotoStorage:
    """A way to store photographs, one a file.

    Attributes:
        codec: "photo", Quadrate's, or one of `quadrate.evaluation.classical.CLASSICAL`.
        quality: Quadrate's, 0 to 100; or the classical codec's own scale.
        decoder: Which of Quadrate's decoders; "" for classical codecs.
    """

    codec: str
    quality: float
    decoder: str = ""

    def __post_init__(self) -> None:
        check_file_name("the codec of a way to store photographs", self.codec)
        make_plain(self, f"{self.codec}: ")
        check_not_negative(self, "quality", where=f"{self.codec}: ")

    @property
    def key(self) -> str:
        """The name of its files."""
        return "-".join([self.codec, *([self.decoder] * bool(self.decoder)), f"{self.quality:g}"])


@dataclass(frozen=True)
class PhotoRecipe:
    """A codec of photographs, and how well it and others store photographs that it never saw.

    Attributes:
        name: The recipe's name.
        title: What the experiment shows, in a line.
        source: What trains it: "photographs", or the path of a folder of photographs.
        points: The ways to store photographs, in the order of the table.
        test: What they are scored on: "kodak", or a folder; "" takes every tenth photograph of the
            source, which then trains nothing.
        skip: Photographs of the source whose file names match this pattern train nothing.
        crops: Crops for each round of the fit of contexts.
        side: Pixels a side of the crops.
        contexts: The settings of the bottleneck's fit.
        coarsest: Steps of that fit are drawn up to this one, in gray levels.
        finest: And down to this one, as are those of the decoders' training.
        decoders: The settings of each decoder's training; the first one is the default.
        decoder_crops: Crops for all of them.
        decoder_coarsest: Their steps are drawn up to this one.
        seed: Of crops, steps and weights.
    """

    kind: ClassVar = "photographs"
    name: str
    title: str
    source: str
    points: tuple[PhotoStorage, ...]
    test: str = ""
    skip: str = ""
    crops: int = 200
    side: int = 384
    contexts: CheckerboardConfig = field(default_factory=CheckerboardConfig)
    coarsest: float = 100.0
    finest: float = 4.0
    decoders: tuple[RestorationConfig, ...] = (RestorationConfig(),)
    decoder_crops: int = 400
    decoder_coarsest: float = 160.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_recipe(self)
        check_at_least(self, 1, "crops", "decoder_crops")
        check_at_least(self, 64, "side")
        check_positive(self, "finest", "coarsest", "decoder_coarsest")
        for coarsest in (self.coarsest, self.decoder_coarsest):
            if not self.finest < coarsest <= 255:
                raise QuadrateError(
                    f"recipe {self.name!r}: steps go from {self.finest:g} to {coarsest:g}; the"
                    " coarsest is larger, and at most 255"
                )
        names = [each.name for each in self.decoders]
        if not names or len(set(names)) < len(names):
            raise QuadrateError(
                f"recipe {self.name!r}: decoders are one at least, each with a name of its own; got"
                f" {', '.join(names) or 'none'}"
            )
        for each in self.decoders:
            if each.crop > self.side - self.side % 16:
                raise QuadrateError(
                    f"recipe {self.name!r}: crops of {self.side} pixels hold none of {each.crop}"
                )


_QUALITIES = (8.0, 14.0, 20.0, 26.0, 32.0, 38.0, 44.0, 50.0)
_MIDDLE_QUALITIES = _QUALITIES[1:6]
_CLASSICAL = {
    "jpeg": (8.0, 20.0, 35.0, 50.0, 70.0, 85.0, 92.0),
    "webp": (2.0, 10.0, 25.0, 50.0, 75.0, 88.0),
    "avif": (15.0, 25.0, 35.0, 45.0, 55.0, 65.0, 75.0),
    "jpeg2000": (26.0, 28.0, 30.0, 32.0, 34.0, 36.0, 38.0),
    "jpegxl": (12.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0),
}


# What each decoder is for. AlexNet, by LPIPS and the critic, and EfficientNet-Lite0 guide them; so
# VGG16 and Inception-v3 may judge.
_LARGE = RestorationConfig(width=64, depth=5, batch=8, crop=128, learning_rate=1e-3)
_REALISTIC = replace(
    _LARGE, name="realistic", distortion=0.15, lpips=0.6, realism=0.4, noise=8, steps=4000
)
_RECOGNIZABLE = replace(
    _LARGE, name="recognizable", distortion=0.3, lpips=0.3, features=1.0, steps=2000
)
_DECODERS = (RestorationConfig(), _REALISTIC, _RECOGNIZABLE)


def _storages(decoders: tuple[RestorationConfig, ...]) -> tuple[PhotoStorage, ...]:
    first, *others = decoders
    return (
        *(PhotoStorage("photo", quality, first.name) for quality in _QUALITIES),
        *(
            PhotoStorage("photo", quality, each.name)
            for each in others
            for quality in _MIDDLE_QUALITIES
        ),
    )


@experiment(OURS, "photographs of any size", "photographs", 0.0)
def photo_kodak() -> PhotoRecipe:
    """One codec for all rates, fitted to free photographs and tested on Kodak's 24.

    Beside JPEG, WebP, AVIF, JPEG 2000 and JPEG XL, whole files all of them.
    """
    others = tuple(
        PhotoStorage(codec, quality)
        for codec, qualities in _CLASSICAL.items()
        for quality in qualities
    )
    return PhotoRecipe(
        "photo-kodak",
        "photographs of any size, by one codec for all rates, beside classical codecs",
        "photographs",
        (*_storages(_DECODERS), *others),
        test="kodak",
        skip="cid22*",  # share-alike, so that the weights can be free
        decoders=_DECODERS,
    )


def _own(name: str, title: str, decoders: tuple[RestorationConfig, ...]) -> PhotoRecipe:
    others = tuple(PhotoStorage("webp", quality) for quality in _CLASSICAL["webp"])
    return PhotoRecipe(
        name, title, "photographs", (*_storages(decoders), *others), decoders=decoders
    )


@experiment(OURS, "photographs of your own", "a folder")
def photo() -> PhotoRecipe:
    """A codec of photographs from a folder, with three decoders.

    `quadrate train photo --data FOLDER`. Every tenth photograph is kept to test it. The networks
    that guide the decoders are downloaded once, 80 MB.
    """
    title = "a codec of photographs with three decoders, from a folder of your own"
    return _own("photo", title, _DECODERS)


@experiment(OURS, "photographs of your own, with the faithful decoder alone", "a folder")
def photo_faithful() -> PhotoRecipe:
    """The same with the faithful decoder alone, which needs no downloads."""
    title = "a codec of photographs with the faithful decoder, from a folder of your own"
    return _own("photo-faithful", title, _DECODERS[:1])
