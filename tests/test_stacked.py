"""Points that are trained stacked equal points that are trained one by one."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.config import OperatingPoint
from quadrate.networks.family import Family, find_family
from quadrate.sources import Source, Split, pixels
from quadrate.training import FrozenLatents, Task, Trainer, trainer
from trainer_parts import BALANCED, same, task

RECOGNIZABLE = tuple(
    OperatingPoint((2, 3, 5), 1.0, 0.0, c, seed) for c, seed in ((0.0, 0), (0.02, 0), (0.1, 1))
)


def large_digits(digits: Source) -> Source:
    """Digits as large as MNIST's."""
    splits = {}
    for name in ("train", "validation", "test"):
        split: Split = getattr(digits, name)
        images = nn.functional.pad(
            split.images.repeat_interleave(3, 2).repeat_interleave(3, 3), (2, 2, 2, 2)
        )
        splits[name] = Split(images, split.labels)
    return dataclasses.replace(digits, **splits)


# --- stacked equals single ---


def difference(a: Tensor, b: Tensor, floor: float = 0.0) -> float:
    """How far a is from b, in units of b's norm.

    A tensor below the floor is nothing but rounding.
    """
    return float((a - b).norm()) / max(float(b.norm()), floor, 1e-30)


def gradients(trained: Trainer, index: int) -> dict[str, Tensor]:
    stacks = {"encoder": trained.encoder, "decoder": trained.decoder, "critic": trained.critic}
    stacked = len(trained.points) > 1
    return {
        f"{role}.{name}": p.grad[index] if stacked else p.grad
        for role, stack in stacks.items()
        if stack
        for name, p in zip(
            stack.state(), stack.parameters(), strict=False
        )  # parameters come first, buffers after
    }


def assert_stacked_equals_single(
    task: Task, points: tuple[OperatingPoint, ...], steps: int, tolerance: float = 1e-4
) -> None:
    """Losses, batch statistics and gradients of each step agree to 1e-4 of their norms.

    Before each step the single models take over the state of the stacked ones. Left to themselves
    they drift apart, and not by a fault: Adam divides by the gradient's size, so where a gradient
    is near zero a difference in its last bits becomes a whole step. Each step by itself is fair.

    One gradient in a hundred may be off by more, up to 1e-2: a unit of LeakyReLU that is zero but
    for rounding takes the other slope. (Single models in float32 and in float64 differ by the same
    at such places.)"""
    stacked, singles = (
        Trainer(task, points).prepare(),
        [Trainer(task, [point]).prepare() for point in points],
    )
    for k, single in enumerate(singles):
        assert same(stacked.state(k), single.state(0)), "the initial weights differ"
    off: list[float] = []
    for done in range(steps):
        if done % stacked.steps_per_epoch == 0:
            for one in (stacked, *singles):
                one.epoch = done // stacked.steps_per_epoch
            runs = [one.steps() for one in (stacked, *singles)]
        for k, single in enumerate(singles):
            single.load([stacked.state(k)])
        losses, *alone = (next(run) for run in runs)
        for k, single in enumerate(singles):
            where = f"step {done}, {points[k].key}"
            assert losses.keys() >= alone[k].keys()  # a stack measures what any of its points needs
            for name, loss in alone[k].items():
                assert difference(losses[name][k], loss[0], 1e-3) < tolerance, f"{where}, {name}"
            for name, tensor in single.state(0).items():
                if "running_" in name:
                    assert difference(stacked.state(k)[name], tensor, 1e-3) < tolerance, (
                        f"{where}, {name}"
                    )
            ours, theirs = gradients(stacked, k), gradients(single, 0)
            largest = max(float(gradient.norm()) for gradient in theirs.values())
            off += [difference(ours[name], theirs[name], 1e-3 * largest) for name in theirs]
    assert max(off) < 100 * tolerance and sum(x > tolerance for x in off) <= len(off) / 100, sorted(
        off
    )[-20:]
    for k, point in enumerate(points):  # it was training that was compared
        assert not same(
            stacked.networks(k)["decoder"], Trainer(task, [point]).prepare().networks(0)["decoder"]
        )


def test_stacked_equals_single_with_a_classifier(digits, judge):
    assert_stacked_equals_single(task(digits, judge, epochs=7), RECOGNIZABLE, steps=50)


def test_stacked_equals_single_with_critics(digits, judge):
    assert_stacked_equals_single(task(digits, judge, epochs=7, anneal=0.3), BALANCED[1:], steps=50)


def test_stacked_equals_single_with_a_noisy_source_and_the_papers_surrogate(digits):
    noisy = dataclasses.replace(digits, noise_std=0.5)
    assert_stacked_equals_single(
        task(noisy, surrogate="soft"), (OperatingPoint(), OperatingPoint(seed=1)), steps=10
    )


def test_stacked_equals_single_on_frozen_encoders(digits):
    draw = torch.Generator().manual_seed(0)
    frozen = [
        FrozenLatents(
            (DitheredQuantizer((3, 3)),),
            torch.rand(256, 2, generator=draw) * 2 - 1,
            torch.rand(64, 2, generator=draw) * 2 - 1,
        )
        for _ in range(2)
    ]
    points = (OperatingPoint((3, 3), lambda_d=0.5), OperatingPoint((3, 3), seed=1))
    for train_encoder in (False, True):
        settings = task(digits, train_encoder=train_encoder)
        stacked = Trainer(settings, points, frozen).prepare()
        singles = [
            Trainer(settings, [p], [f]).prepare() for p, f in zip(points, frozen, strict=True)
        ]
        losses, *alone = (next(one.steps()) for one in (stacked, *singles))
        for k in (0, 1):
            assert difference(losses["mse"][k], alone[k]["mse"][0]) < 1e-5
            for name, gradient in gradients(singles[k], 0).items():
                assert difference(gradients(stacked, k)[name], gradient) < 1e-4, name


@pytest.fixture
def double_precision(monkeypatch):
    """Makes the trainer compute in double precision; gives the family of that name in it."""
    monkeypatch.setattr(trainer, "pixels", lambda images: pixels(images).double())
    monkeypatch.setattr(Tensor, "float", Tensor.double)

    def doubled(build):
        return lambda *arguments: build(*arguments).double()

    def family(name: str) -> Family:
        plain = find_family(name)
        return Family(name, doubled(plain.encoder), doubled(plain.decoder), doubled(plain.critic))

    return family


def test_stacked_equals_single_with_the_published_networks(digits, double_precision):
    """In double precision, since gradients of biases before batch norm are zero up to rounding."""
    points = tuple(OperatingPoint((3, 3), lambda_p=0.01, seed=seed) for seed in (0, 1))
    assert_stacked_equals_single(
        task(large_digits(digits), family=double_precision("paper"), batch=4),
        points,
        steps=1,
        tolerance=1e-6,
    )


def test_stacked_equals_single_left_alone_in_double_precision(digits, double_precision):
    """With 16 digits there is room for 50 steps of drift."""
    points = tuple(
        OperatingPoint((3, 3), lambda_p=p, seed=seed) for p, seed in ((0.05, 0), (0.01, 1))
    )
    settings = task(digits, family=double_precision("compact"), epochs=7)
    stacked, singles = (
        Trainer(settings, points).prepare(),
        [Trainer(settings, [point]).prepare() for point in points],
    )
    for _ in range(7):
        for losses, *alone in zip(*(one.steps() for one in (stacked, *singles)), strict=True):
            for k in (0, 1):
                for name in losses:
                    assert losses[name].dtype == torch.float64
                    assert float(losses[name][k]) == pytest.approx(
                        float(alone[k][name][0]), rel=1e-6, abs=1e-9
                    )
        for one in (stacked, *singles):
            one.epoch += 1
