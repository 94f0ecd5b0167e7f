"""The protocol: every constant of the evaluation, and each measure with these constants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quadrate.core import draws
from quadrate.core.fields import make_plain
from quadrate.errors import QuadrateError
from quadrate.evaluation.certified import certified_w1
from quadrate.evaluation.classification_scores import Recognition, recognition, retrain_judge
from quadrate.evaluation.critic import CriticGap, fresh_critic_w1
from quadrate.evaluation.estimate import Estimate
from quadrate.evaluation.perception_scores import (
    crossed_kid,
    crossed_sliced_w2sq,
    random_directions,
)
from quadrate.evaluation.yardsticks import as_pixels
from quadrate.sources.source import Source, Split

if TYPE_CHECKING:
    from quadrate.training.judges import Judge


VERSION = 1
"""The version of the measures: a new one, where the same terms give other numbers, voids scores."""


@dataclass(frozen=True)
class Protocol:
    """The terms of a comparison; scores on different terms do not compare.

    The defaults are the protocol of docs/evaluation.md.

    Attributes:
        seed: Key of all random draws: images, directions, initial weights, batches, and the codec's
            dither and noise.
        batch: Images at a time in codec, judges and critics.
        training_images: The most training images to reconstruct, for the fresh critic and the
            retrained judge.
        directions: Directions of sliced W2².
        kid_blocks: Blocks of the kernel distance.
        critic_steps: Steps of the fresh critic; on MNIST the gap is 90 to 95 % of that after five
            times as many.
        critic_batch: Pictures in a step, and as many reconstructions.
        critic_learning_rate: Learning rate of the critic's first step; it falls linearly to 0.
        critic_penalty: Weight of the gradient penalty, as in WGAN-GP.
        critic_widths: Hidden widths of the fresh critic.
        axes_images: Reconstructions that give the axes of the certified W1.
        axes: Numbers of axes to choose among.
        judge_steps: Steps of the retrained judge.
        judge_batch: Images in a step.
        judge_learning_rate: Learning rate of the judge's first step; it falls linearly to 0.
        judge_widths: Hidden widths of the retrained judge.
        test_images: The most test images to score; None for all.
        entropy_steps: Steps of the learned model of a code's entropy (`conditional_entropy_bits`).
    """

    seed: int = 0
    batch: int = 1000
    training_images: int = 30_000
    directions: int = 512
    kid_blocks: int = 10
    critic_steps: int = 800
    critic_batch: int = 64
    critic_learning_rate: float = 2e-3
    critic_penalty: float = 10.0
    critic_widths: tuple[int, ...] = (512, 256)
    axes_images: int = 1000
    axes: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
    judge_steps: int = 1300
    judge_batch: int = 128
    judge_learning_rate: float = 3e-3
    judge_widths: tuple[int, ...] = (256, 128)
    test_images: int | None = None
    entropy_steps: int = 2000

    def __post_init__(self) -> None:
        make_plain(self, "protocol: ")

    @classmethod
    def quick(cls) -> Protocol:
        """Terms for a first look, at about a sixth of the cost: fewer images and steps."""
        return cls(
            training_images=2000,
            test_images=1000,
            directions=64,
            critic_steps=100,
            critic_widths=(256, 128),
            axes_images=500,
            judge_steps=200,
            entropy_steps=200,
        )

    def training_sample(self, source: Source, count: int) -> Split:
        """At most `count` training images in the protocol's random order."""
        return _shuffled(source.train, self.seed, "train", count)

    def test_sample(self, source: Source) -> Split:
        """Test images in the protocol's random order, as in MNIST the first half is cleaner.

        Raises:
            QuadrateError: If there are too few to fill the blocks of the kernel distance.
        """
        if len(source.test) < 4 * self.kid_blocks:
            raise QuadrateError(
                f"{source.name}: evaluation takes at least {4 * self.kid_blocks} test images; got"
                f" {len(source.test)}"
            )
        return _shuffled(source.test, self.seed, "test", self.test_images)

    def fresh_critic_w1(
        self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
    ) -> CriticGap:
        """`quadrate.evaluation.critic.fresh_critic_w1` on the protocol's terms."""
        return fresh_critic_w1(
            train,
            test,
            steps=self.critic_steps,
            batch=self.critic_batch,
            learning_rate=self.critic_learning_rate,
            penalty=self.critic_penalty,
            widths=self.critic_widths,
            seed=self.seed,
        )

    def certified_w1(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Estimate:
        """`quadrate.evaluation.certified.certified_w1` on the protocol's terms."""
        return certified_w1(train, test, axes_images=self.axes_images, ladder=self.axes)

    def sliced_w2sq(self, images: Tensor, reconstructions: Tensor) -> Estimate:
        """Crossed sliced W2² between images (N, C, H, W), in the protocol's order, and codec's."""
        real, fake = as_pixels(images).flatten(1), as_pixels(reconstructions).flatten(1)
        # On the CPU: the same directions on every device.
        generator = draws.generator("evaluation", self.seed, "directions")
        directions = random_directions(self.directions, real.shape[1], generator)
        return crossed_sliced_w2sq(real, fake, directions.to(real.device))

    def kid(self, judge: Judge, images: Tensor, reconstructions: Tensor) -> Estimate:
        """Crossed kernel distance of a judge's features of images, in the protocol's order."""

        def features(images: Tensor) -> Tensor:
            chunks = images.split(self.batch)
            return torch.cat([judge.features(as_pixels(chunk)).flatten(1) for chunk in chunks])

        return crossed_kid(features(images), features(reconstructions), self.kid_blocks)

    def retrained(
        self, train: Split, test: Split, train_images: Tensor, test_images: Tensor, classes: int
    ) -> Recognition:
        """The scores on `test_images` of a judge trained on `train_images`, with splits' labels."""
        judge = retrain_judge(
            train_images,
            train.labels,
            classes,
            steps=self.judge_steps,
            batch=self.judge_batch,
            learning_rate=self.judge_learning_rate,
            widths=self.judge_widths,
            seed=self.seed,
        )
        return recognition(judge, test_images, test.labels, self.batch)


@contextlib.contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Single precision, repeatable kernels and no gradients, whatever the caller's settings."""
    repeatable = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    autocast = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), autocast, repeatable:
        yield


def _shuffled(split: Split, seed: int, name: str, count: int | None) -> Split:
    order = draws.permutation("evaluation", seed, name, n=len(split))[:count]
    order = order.to(split.images.device)
    return Split(split.images[order], split.labels[order])
