"""Labels of photographs, read from their files: from latents, or from decoded pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from quadrate.core.fields import check_at_least, check_not_negative, check_recipe, make_plain
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.experiment import OURS, experiment
from quadrate.photo_config import ReaderConfig

Reads = Literal["originals", "pixels", "latents", "network", "distilled"]


@dataclass(frozen=True)
class Reading:
    """A way to read the label of a photograph.

    Attributes:
        reads: "originals" (the backbone's features of the photograph itself, the reference of the
            others), "pixels" (the backbone's features of what is decoded), "latents" (pooled
            coefficients), "network" (a network on the base's coefficients, trained for labels), or
            "distilled" (one that is trained to give the backbone's features of the originals). All
            but "network" are read by a linear probe.
        quality: The photo codec's, 0 to 100; of originals 0.
        layers: How many layers are read: 1, the base alone, or 2.
        seed: Of a network's weights and batches.
    """

    reads: Reads
    quality: float = 0.0
    layers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self, "a reading: ")
        check_not_negative(self, "quality", where="a reading: ")
        check_at_least(self, 0, "seed")
        if self.layers not in (1, 2):
            raise QuadrateError(f"a reading is of 1 layer or 2; got {self.layers}")
        if self.is_network and self.layers != 1:
            raise QuadrateError("networks read the base alone, 1 layer")

    @property
    def is_network(self) -> bool:
        """Whether a network reads, which is trained."""
        return self.reads in ("network", "distilled")

    @property
    def way(self) -> str:
        """What is read, in words."""
        if self.reads == "originals":
            return self.reads
        what = "latents" if self.is_network else self.reads
        return f"{what} of {'the base' if self.layers == 1 else 'both layers'}"

    @property
    def receiver(self) -> str:
        """What reads it, in words."""
        return self.reads if self.is_network else "linear"

    @property
    def key(self) -> str:
        """The name of its files."""
        if self.reads == "originals":
            return self.reads
        seed = f"-s{self.seed}" * self.is_network
        return f"{self.reads}-{self.quality:g}-{self.layers}{seed}"


@dataclass(frozen=True)
class ProbeRecipe:
    """How well labels of photographs are read from their files, against bits a pixel.

    Attributes:
        name: The recipe's name.
        title: What the experiment shows, in a line.
        source: "clothing", or a folder with train, validation and test, of class folders each.
        codec: A codec of photographs: one in the package, or a file.
        backbone: The network that gives features, a name in
            `quadrate.networks.backbones.BACKBONES`.
        points: The ways to read, in the order of the table.
        train: How many training photographs are drawn; of splits with fewer, all are taken.
        validation: How many validation photographs, which choose penalties.
        test: How many test photographs.
        reader: The settings of the networks that read the base.
    """

    kind: ClassVar = "probes"
    name: str
    title: str
    source: str
    codec: str
    backbone: str
    points: tuple[Reading, ...]
    train: int = 600
    validation: int = 120
    test: int = 372
    reader: ReaderConfig = field(default_factory=ReaderConfig)

    def __post_init__(self) -> None:
        check_recipe(self)
        check_at_least(self, 1, "train", "validation", "test")
        if not any(point.reads == "originals" for point in self.points):
            raise QuadrateError(
                f"recipe {self.name!r}: nothing to compare with; add a point of originals"
            )

    @property
    def qualities(self) -> tuple[float, ...]:
        """The qualities that photographs are stored with."""
        found = (point.quality for point in self.points if point.reads != "originals")
        return tuple(dict.fromkeys(found))


_QUALITIES = (0.0, 20.0)
_SEEDS = (0, 1, 2)


@experiment(OURS, "labels from latents", "clothing", 1.3)
def clothing_probes() -> ProbeRecipe:
    """Clothes in ten classes: labels from latents and from decoded pixels, by layers read."""
    probes = tuple(
        Reading(reads, quality, layers)
        for quality in _QUALITIES
        for layers in (1, 2)
        for reads in ("latents", "pixels")
    )
    networks = tuple(
        Reading(reads, quality, 1, seed)
        for quality in _QUALITIES[:1]
        for reads in ("network", "distilled")
        for seed in _SEEDS
    )
    return ProbeRecipe(
        "clothing-probes",
        "labels of photographs from latents and from pixels, the base alone and all layers",
        "clothing",
        "photo",
        "efficientnet-lite0",
        (Reading("originals"), *probes, *networks),
    )
