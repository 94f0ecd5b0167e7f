"""The published way to train one operating point, re-created from its description.

Its cost is compared with Quadrate's.

It is the loop of RDPC (Wang et al. 2025), which comes from uRDP (Zhang et al. 2021), on images of
MNIST's shape: one model at a time; images decoded one by one; the published networks in float32;
the soft-to-hard quantizer; a critic that is trained on every second batch, and asked in every codec
step, even where its weight is 0; a pass over the whole test set after every epoch. Left out is what
costs little: grids, checkpoints, the entropy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.networks import paper
from quadrate.sources import Source, Split
from stopwatch import timed

EPOCHS = 30
BATCH, TEST_BATCH = 128, 1000
CODEC_LEARNING_RATE, CRITIC_LEARNING_RATE, BETAS = 1e-2, 2e-4, (0.5, 0.9)
GRADIENT_PENALTY = 10.0
WARM_UP_STEPS = 2  # one of each kind: the first of a kind allocates memory and picks kernels

Batches = DataLoader[tuple[Tensor, Tensor]]


class PerImage(Dataset[tuple[Tensor, int]]):
    """Images that PIL decodes one by one, to floats (C, H, W) in [0, 1], and their labels."""

    def __init__(self, *splits: Split) -> None:
        self.images = torch.cat([split.images.cpu() for split in splits])
        self.labels = torch.cat([split.labels.cpu() for split in splits])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index, 0].numpy())
        return torch.from_numpy(np.array(picture)).unsqueeze(0).float().div(255), int(
            self.labels[index]
        )


class PublishedLoop:
    """One operating point, its networks and its three optimizers.

    Args:
        source: The images; the networks live on its device.
        classifier: The frozen classifier of the loss: images (N, C, H, W) in [0, 1] to logits or
            log-probabilities (N, K).
        point: Rate and weights; its `lambda_c` is in nats, as everywhere in Quadrate, and is turned
            into the published weight, which multiplies bits.
    """

    def __init__(self, source: Source, classifier: nn.Module, point: OperatingPoint) -> None:
        self.point, self.device = point, source.train.images.device
        self.classifier = classifier.to(self.device).eval().requires_grad_(False)
        self.quantizer = DitheredQuantizer(point.levels, self.device)
        self.encoder = paper.encoder(source.shape, len(point.levels)).to(self.device)
        self.decoder = paper.decoder(source.shape, len(point.levels)).to(self.device)
        self.critic = paper.critic(source.shape).to(self.device)
        self.codec_optimizers = [
            torch.optim.Adam(net.parameters(), CODEC_LEARNING_RATE, BETAS)
            for net in (self.encoder, self.decoder)
        ]
        self.critic_optimizer = torch.optim.Adam(
            self.critic.parameters(), CRITIC_LEARNING_RATE, BETAS
        )
        self.mixing = np.random.default_rng(point.seed)

    def batches(self, loader: Batches) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The batches of all epochs, with their number in the epoch.

        Sets the learning rates of each epoch.
        """
        for epoch in itertools.count():
            factor = 1.0 if epoch < 20 else 1 / 5 if epoch < 40 else 1 / 50
            for optimizer in self.codec_optimizers:
                optimizer.param_groups[0]["lr"] = CODEC_LEARNING_RATE * factor
            self.critic_optimizer.param_groups[0]["lr"] = CRITIC_LEARNING_RATE * factor
            for index, (x, labels) in enumerate(loader):
                yield index, x.to(self.device), labels.to(self.device)

    def step(self, index: int, x: Tensor, labels: Tensor) -> None:
        """One batch: an even one is for the critic alone, an odd one for the codec alone."""
        codec_turn = index % 2 == 1
        self.encoder.requires_grad_(codec_turn)
        self.decoder.requires_grad_(codec_turn)
        self.critic.requires_grad_(not codec_turn)
        if codec_turn:
            self.codec_step(x, labels)
        else:
            self.critic_step(x)

    def critic_step(self, x: Tensor) -> None:
        """WGAN-GP with three forward passes of the critic.

        Pictures, reconstructions, and what lies between.
        """
        reconstruction = self.reconstruct(x).detach()
        share = torch.from_numpy(self.mixing.random((len(x), 1, 1, 1), dtype=np.float32)).to(
            self.device
        )
        between = (share * x + (1 - share) * reconstruction).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        loss = (
            self.critic(reconstruction).mean() - self.critic(x).mean() + GRADIENT_PENALTY * penalty
        )
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()

    def codec_step(self, x: Tensor, labels: Tensor) -> None:
        """λd·MSE - λp·E D(x̂) + λc·CE, each term computed whatever its weight."""
        reconstruction = self.reconstruct(x)
        cross_entropy_bits = F.cross_entropy(self.classifier(reconstruction), labels) / math.log(2)
        loss = (
            self.point.lambda_d * F.mse_loss(reconstruction, x)
            - self.point.lambda_p * self.critic(reconstruction).mean()
        )
        loss = loss + self.point.lambda_c * math.log(2) * cross_entropy_bits
        for optimizer in self.codec_optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.codec_optimizers:
            optimizer.step()

    def reconstruct(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to the same through the quantizer and its surrogate gradient."""
        latent = self.encoder(x)
        noise = torch.rand(latent.shape).to(self.device) - 0.5
        return self.decoder(self.quantizer.soft(latent, noise))

    @torch.no_grad()
    def test(self, loader: Batches) -> dict[str, float]:
        """The pass over the test set: MSE, the critic's gap, cross-entropy in bits and accuracy."""
        codec = nn.ModuleList([self.encoder, self.decoder]).eval()
        totals = {"mse": 0.0, "critic_gap": 0.0, "cross_entropy_bits": 0.0, "accuracy": 0.0}
        count = 0
        for x, labels in loader:
            x, labels = x.to(self.device), labels.to(self.device)
            reconstruction = self.reconstruct(x)
            logits = self.classifier(reconstruction)
            totals["mse"] += len(x) * F.mse_loss(reconstruction, x).item()
            totals["critic_gap"] += (self.critic(x) - self.critic(reconstruction)).sum().item()
            totals["cross_entropy_bits"] += F.cross_entropy(
                logits, labels, reduction="sum"
            ).item() / math.log(2)
            totals["accuracy"] += (logits.argmax(1) == labels).sum().item()
            count += len(x)
        codec.train()
        return {name: total / count for name, total in totals.items()}


def run(
    source: Source, classifier: nn.Module, point: OperatingPoint, steps: int, threads: int = 1
) -> dict[str, float]:
    """Times training steps and one pass over the test set, and projects 30 epochs from them.

    Nothing but these steps and this pass is run: the names of all numbers that are not measured
    begin with `projected`. The published loop has no validation split, so it trains on the source's
    training and validation images together, which on MNIST are the published 60,000.

    Args:
        source: The images, of one channel; a GPU is used if they lie on one.
        classifier: The frozen classifier of the loss.
        point: What to train.
        steps: How many steps to time, an even number, so that critic and codec have equal shares,
            as they have in an epoch.
        threads: Threads for torch's operators.

    Raises:
        QuadrateError: If the number of steps is odd or below 2, or there are no published networks
            for the source's shape.
    """
    if steps < 2 or steps % 2:
        raise QuadrateError(
            "the published loop alternates critic and codec, so steps must be an even number from"
            f" 2 on; got {steps}"
        )
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(point.seed)
            loop = PublishedLoop(source, classifier, point)
            train: Batches = DataLoader(
                PerImage(source.train, source.validation), BATCH, shuffle=True
            )  # type: ignore[arg-type]
            test: Batches = DataLoader(PerImage(source.test), TEST_BATCH)  # type: ignore[arg-type]
            batches = loop.batches(train)

            def train_for(count: int) -> None:
                for index, x, labels in itertools.islice(batches, count):
                    loop.step(index, x, labels)

            train_for(WARM_UP_STEPS)
            training = timed(lambda: train_for(steps))
            testing = timed(lambda: loop.test(test))
    finally:
        torch.set_num_threads(threads_before)
    steps_per_epoch = len(train)
    return {
        "threads": threads,
        "measured_steps": steps,
        "cpu_seconds_per_step": training.cpu / steps,
        "wall_seconds_per_step": training.wall / steps,
        "cpu_seconds_test_pass": testing.cpu,
        "wall_seconds_test_pass": testing.wall,
        "steps_per_epoch": steps_per_epoch,
        "epochs": EPOCHS,
        "projected_cpu_seconds_training": EPOCHS * steps_per_epoch * training.cpu / steps,
        "projected_cpu_seconds_test_passes": EPOCHS * testing.cpu,
        "projected_cpu_seconds_a_point": (
            EPOCHS * (steps_per_epoch * training.cpu / steps + testing.cpu)
        ),
        "projected_wall_seconds_a_point": (
            EPOCHS * (steps_per_epoch * training.wall / steps + testing.wall)
        ),
    }
