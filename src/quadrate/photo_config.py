"""Settings of the training of codecs of photographs; made without PyTorch, as `config` is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from quadrate.core.fields import check_at_least, check_not_negative, check_positive, make_plain
from quadrate.core.names import check_file_name
from quadrate.errors import QuadrateError


@dataclass(frozen=True)
class CheckerboardConfig:
    """How a checkerboard model is fitted.

    Attributes:
        ends: Where the groups of channels end, rising.
        hidden: Of each group, the hidden units of its networks of spreads.
        predicted: How many groups have a linear prediction.
        rounds: How often symbols are chosen, networks trained and tables counted. In the first,
            symbols are rounded; later ones choose them by their bits under the tables so far.
        steps: Of Adam, in each round.
        batch: Sites a step.
        learning_rate: At most.
        rate_weight: The worth of a bit in squared steps, for the choice of symbols.

    Raises:
        QuadrateError: If a setting is out of range, or not one for each group.
    """

    ends: tuple[int, ...] = (3, 12, 28, 60, 124, 252, 512)
    hidden: tuple[int, ...] = (16, 32, 48, 48, 64, 64, 48)
    predicted: int = 4
    rounds: int = 2
    steps: int = 2000
    batch: int = 1024
    learning_rate: float = 3e-3
    rate_weight: float = 0.12

    def __post_init__(self) -> None:
        make_plain(self, "contexts: ")
        if not self.ends or any(b <= a for a, b in pairwise((0, *self.ends))):
            raise QuadrateError(f"contexts: ends rise from 1 on; got {self.ends}")
        if len(self.hidden) != len(self.ends) or min(self.hidden) < 1:
            raise QuadrateError(
                f"contexts: {len(self.ends)} groups need as many numbers of hidden units, 1 at"
                f" least; got {self.hidden}"
            )
        check_at_least(self, 1, "predicted", "rounds", "steps", "batch")
        check_positive(self, "learning_rate")
        check_not_negative(self, "rate_weight", where="contexts: ")


@dataclass(frozen=True)
class RestorationConfig:
    """What a decoder of photographs is for, and how its network is trained.

    The loss is a sum of four terms: of distortion, of how different pictures look, of realism, and
    of what classifiers see. The weights tell what each is worth. All but the third are shares of
    what they are for the picture before restoration, so that all rates and all photographs count.

    Attributes:
        name: The decoder's name.
        distortion: Weight of the squared error.
        lpips: Weight of LPIPS in the features of AlexNet (Zhang et al. 2018).
        realism: Weight of what a critic says, which sees AlexNet's features and is trained beside
            (Sauer et al. 2021), by hinge losses (Lim and Ye 2017).
        features: Weight of the squared error of features of `backbone`.
        backbone: A network of `quadrate.networks.backbones`, for `features`.
        width: Hidden maps of the network.
        depth: Its hidden layers.
        noise: Maps of noise that it takes.
        steps: Of Adam.
        batch: Crops a step.
        crop: Pixels a side, a multiple of 16.
        learning_rate: At most.

    Raises:
        QuadrateError: If a setting is out of range.
    """

    name: str = "faithful"
    distortion: float = 1.0
    lpips: float = 0.0
    realism: float = 0.0
    features: float = 0.0
    backbone: str = "efficientnet-lite0"
    width: int = 32
    depth: int = 3
    noise: int = 0
    steps: int = 3000
    batch: int = 16
    crop: int = 96
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        where = f"restoration {self.name!r}: "
        make_plain(self, where)
        check_file_name("the name of a restoration", self.name)
        check_not_negative(self, "distortion", "lpips", "realism", "features", where=where)
        if not self.distortion + self.lpips + self.features:
            raise QuadrateError(f"{where}distortion, lpips and features are all 0; one is positive")
        check_at_least(self, 1, "width", "steps", "batch", "crop")
        check_at_least(self, 0, "depth", "noise")
        check_positive(self, "learning_rate")
        if self.crop % 16:
            raise QuadrateError(f"{where}a crop is a multiple of 16; got {self.crop}")
        if (self.lpips or self.realism) and self.crop < 64:
            raise QuadrateError(
                f"{where}lpips and realism need crops of at least 64; got {self.crop}"
            )
        if self.noise and self.depth < 2:
            raise QuadrateError(f"{where}noise needs a depth of at least 2; got {self.depth}")


@dataclass(frozen=True)
class ReaderConfig:
    """How a network that reads the base of a photograph is trained.

    Attributes:
        width: Maps of its first layers.
        epochs: Passes over the training photographs.
        batch: Photographs a step.
        learning_rate: At most.
        weight_decay: Of AdamW.

    Raises:
        QuadrateError: If a setting is out of range.
    """

    width: int = 24
    epochs: int = 25
    batch: int = 50
    learning_rate: float = 3e-3
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        make_plain(self, "reader: ")
        check_at_least(self, 1, "width", "epochs", "batch")
        check_positive(self, "learning_rate")
        check_not_negative(self, "weight_decay", where="reader: ")
