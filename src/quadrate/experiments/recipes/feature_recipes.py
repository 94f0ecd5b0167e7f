"""Features that receivers read (Dubois et al. 2021).

CIFAR-10 through a pretrained backbone, and the published bottlenecks of CLIP's features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from quadrate.core.fields import check_at_least, check_not_negative, check_recipe, make_plain
from quadrate.core.names import check_file_name
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.experiment import LOSSLESS, experiment


@dataclass(frozen=True)
class Storage:
    """A way to store images, and the receiver that reads them.

    Attributes:
        codec: "fp16" (features, two bytes each, in an npz file: the reference of the others),
            "features" (`quadrate.codecs.feature_codec.FeatureCodec`), or one of the image codecs
            `quadrate.evaluation.classical.CLASSICAL`.
        receiver: One of `quadrate.evaluation.receivers`.
        quality: The feature codec's rate in bits an image; an image codec's own scale.
        grid: An image codec's files hold grid × grid images.
    """

    codec: str
    receiver: Literal["linear", "svm", "mlp"]
    quality: float = 0.0
    grid: int = 1

    def __post_init__(self) -> None:
        check_file_name("the codec of a way to store images", self.codec)
        make_plain(self, f"{self.codec}: ")
        check_not_negative(self, "quality", where=f"{self.codec}: ")
        check_at_least(self, 1, "grid")

    @property
    def key(self) -> str:
        """The name of its files."""
        return f"{self.codec}-{self.quality:g}-{self.grid}-{self.receiver}"


@dataclass(frozen=True)
class FeatureRecipe:
    """Features for a classifier: bits on disk and accuracy, next to coded images.

    Attributes:
        name: The recipe's name.
        title: What the experiment shows, in a line.
        source: Name of a data set, or path of a folder of labelled images.
        backbone: The network that gives the features, a name in
            `quadrate.networks.backbones.BACKBONES`.
        train: The number of training images for codecs and receivers.
        validation: The number of validation images, which choose the receivers' penalties.
        test: The number of test images, which are coded and scored.
        points: The ways to store images, in the order of the table.
        bfloat16: Whether the backbone computes in bfloat16.

    Raises:
        QuadrateError: If a point is there twice, or its receiver never reads fp16 features.
    """

    kind: ClassVar = "features"
    name: str
    title: str
    source: str
    backbone: str
    train: int
    validation: int
    test: int
    points: tuple[Storage, ...]
    bfloat16: bool = True

    def __post_init__(self) -> None:
        check_recipe(self)
        check_at_least(self, 1, "train", "validation", "test")
        compared = {point.receiver for point in self.points if point.codec == "fp16"}
        if alone := [point.key for point in self.points if point.receiver not in compared]:
            raise QuadrateError(
                f"recipe {self.name!r}: {alone[0]} has nothing to be compared with; add a point of"
                " fp16 features for its receiver"
            )


@dataclass(frozen=True)
class ClipBottleneck:
    """A published bottleneck, and what is coded with it: symbols drawn from its own model.

    Attributes:
        beta: Its name; the less, the more bits.
        samples: The number of samples to draw.
        seed: Keys the draw.
    """

    beta: str
    samples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self, "a bottleneck: ")
        check_file_name("the beta of a bottleneck", self.beta)
        check_at_least(self, 1, "samples")
        check_at_least(self, 0, "seed")

    @property
    def key(self) -> str:
        """The name of its files."""
        return f"beta{self.beta}"

    @property
    def file(self) -> str:
        """The published file's name."""
        return f"beta{self.beta}-factorized_rate.pt"


@dataclass(frozen=True)
class ClipRecipe:
    """Published bottlenecks of CLIP's features, in real files.

    Attributes:
        name: The recipe's name.
        title: What the experiment shows, in a line.
        points: The bottlenecks.
    """

    kind: ClassVar = "clip"
    name: str
    title: str
    points: tuple[ClipBottleneck, ...]

    def __post_init__(self) -> None:
        check_recipe(self)


_RATES_BITS = (32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_GRID = 32
# The most telling ones first, since a run may be stopped.
_IMAGE_CODECS = (
    ("png", 0.0, 1),
    *(
        ("jpeg", 90.0, _GRID),
        ("webp", 95.0, _GRID),
        ("jpegxl", 1.0, _GRID),
        ("jpeg", 75.0, _GRID),
        ("webp", 75.0, _GRID),
        ("jpegxl", 2.0, _GRID),
    ),
    *(
        ("jpeg", 50.0, _GRID),
        ("webp", 20.0, _GRID),
        ("jpegxl", 4.0, _GRID),
        ("jpeg", 90.0, 1),
        ("webp", 95.0, 1),
        ("jpegxl", 1.0, 1),
    ),
)


@experiment(LOSSLESS, "its table, another backbone", "cifar-10", 0.0)
def cifar_features() -> FeatureRecipe:
    """CIFAR-10 through EfficientNet-Lite0, next to classical image codecs.

    The paper's comparison, with a backbone of 17 MB in place of CLIP's 350.
    """
    features = (
        Storage("fp16", "linear"),
        *(Storage("features", "linear", rate) for rate in _RATES_BITS),
    )
    images = tuple(
        Storage(codec, "linear", quality, grid) for codec, quality, grid in _IMAGE_CODECS
    )
    others = tuple(
        replace(point, receiver=receiver)
        for receiver in ("svm", "mlp")
        for point in (features[0], features[-1])
    )
    title = "CIFAR-10 for a classifier: its features, coded, beside classical image codecs"
    return FeatureRecipe(
        "cifar-features",
        title,
        "cifar-10",
        "efficientnet-lite0",
        10_000,
        2_000,
        10_000,
        (*features, *images, *others),
    )


@experiment(LOSSLESS, "its published bottlenecks", "lossyless", 0.0)
def lossyless_clip() -> ClipRecipe:
    """The three bottlenecks of CLIP ViT-B/32 that the authors publish (release v1.0).

    One file of all samples replaces their stream a sample.
    """
    points = tuple(ClipBottleneck(beta) for beta in ("1e-01", "5e-02", "1e-02"))
    return ClipRecipe(
        "lossyless-clip",
        "the published CLIP bottlenecks: bits on disk against their model's entropy",
        points,
    )
