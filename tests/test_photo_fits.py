"""Fits of the photographs' bottleneck and restoration: by seed alone, and worth their bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from quadrate.bottlenecks.checkerboard import CheckerboardModel
from quadrate.bottlenecks.integer_network import FRACTION_BITS, IntegerNetwork
from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.networks.backbones import LPIPS, Backbone, Preprocessing
from quadrate.networks.block_transform import BlockTransform
from quadrate.photo_config import RestorationConfig
from quadrate.training import loop, restoration_fit
from quadrate.training.checkerboard_fit import CheckerboardConfig, CheckerboardFit
from quadrate.training.checkpoints import write_checkpoint
from quadrate.training.loop import Diverged
from quadrate.training.restoration_fit import Pool, RestorationFit

ENDS = (3, 6, 16)
CONFIG = CheckerboardConfig(
    ends=ENDS,
    hidden=(8, 8, 8),
    predicted=3,
    rounds=1,
    steps=300,
    batch=128,
    learning_rate=1e-2,
)
EXPONENT = 230  # of what is held out, about 12 gray levels a step


@cache
def photographs() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two photographs of scikit-learn's: most of each to learn from, the rest to be coded."""
    both = [image.transpose(2, 0, 1) for image in load_sample_images().images]
    return [one[:, :416, :416].copy() for one in both], [one[:, :416, 416:].copy() for one in both]


@cache
def transform() -> BlockTransform:
    return BlockTransform.fit(photographs()[0], ENDS[-1])


def fitted(seed: int = 0, config=CONFIG, size: int = 416) -> tuple[CheckerboardModel, list[dict]]:
    def maps(number: int):
        for i, whole in enumerate(photographs()[0]):
            part = whole[:, :size, :size]
            for exponent in (200 + 10 * i + 5 * number, 240 + 10 * i + 5 * number):
                yield transform().forward(part) / np.float32(2 ** (exponent / 64)), exponent

    reports: list[dict] = []
    return CheckerboardFit(config, maps, seed, reports.append).run(), reports


@pytest.fixture(scope="module")
def model_and_reports():
    return fitted()


def test_a_fit_depends_on_its_seed_alone():
    def identity(seed: int) -> bytes:
        return fitted(seed, replace(CONFIG, rounds=2, steps=20), 128)[0].identity

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = identity(0)
        torch.manual_seed(2)
        np.random.seed(2)  # noqa: NPY002
        assert identity(0) == first
    assert identity(1) != first


def test_the_bits_go_down(model_and_reports):
    _, reports = model_and_reports
    bits = [report["bits_per_block"] for report in reports]
    assert [report["step"] for report in reports] == list(range(50, 301, 50))
    assert bits[-1] < 0.9 * bits[0] and all(np.isfinite(bits))


def without_contexts(model: CheckerboardModel) -> CheckerboardModel:
    """Nothing is predicted, and each channel has one table, the best one for what was learnt."""
    step = np.float32(2 ** (EXPONENT / 64))
    rows = [transform().forward(part).reshape(-1, ENDS[-1]) / step for part in photographs()[0]]
    best = np.zeros(ENDS[-1], np.int64)
    for channel, numbers in enumerate(np.concatenate(rows).T):
        costs = []
        for table in range(len(model.tables.lows)):
            indices = np.full(len(numbers), table)
            symbols = model.choose(numbers, indices, CONFIG.rate_weight)
            costs.append(model.tables.lengths(symbols, indices).sum())
        best[channel] = np.argmin(costs)
    spreads = {}
    for (group, number), network in model.spreads.items():
        own = best[slice((0, *ENDS)[group], ENDS[group])]
        weights = np.zeros((len(own), network.inputs), np.int32)
        spreads[group, number] = IntegerNetwork(
            (weights,), (own << FRACTION_BITS,), (np.zeros(len(own), np.int32),)
        )
    return CheckerboardModel(model.ends, {}, spreads, model.tables, model.offsets)


def size_and_error(model: CheckerboardModel, photograph: np.ndarray, exponent: int):
    """Bytes, and the squared error of coefficients in gray levels."""
    step = np.float32(2 ** (exponent / 64))
    maps = transform().forward(photograph) / step
    streams = model.encode(maps, exponent, CONFIG.rate_weight)
    received = model.decode(streams, *maps.shape[:2], exponent) / 16
    return sum(map(len, streams)), float(np.square((received - maps) * step).mean())


@pytest.mark.parametrize("number", [0, 1])
def test_contexts_are_worth_their_bytes_on_what_was_not_seen(model_and_reports, number):
    model, photograph = model_and_reports[0], photographs()[1][number]
    plain = without_contexts(model)
    size, error = size_and_error(model, photograph, EXPONENT)
    steps = (size_and_error(plain, photograph, exponent) for exponent in range(200, 300, 2))
    others = next(plain_size for plain_size, plain_error in steps if plain_error >= error)
    assert size < 0.85 * others


def test_real_streams_are_as_long_as_the_training_says(model_and_reports):
    """Bits a block of the last steps, against the bytes of the same photographs."""
    model, reports = model_and_reports
    total, blocks = 0, 0
    for i, part in enumerate(photographs()[0]):
        for exponent in (205 + 10 * i, 245 + 10 * i):
            maps = transform().forward(part) / np.float32(2 ** (exponent / 64))
            streams = model.encode(maps, exponent, CONFIG.rate_weight)
            total += 8 * sum(map(len, streams))
            blocks += maps.shape[0] * maps.shape[1]
    assert total / blocks == pytest.approx(reports[-1]["bits_per_block"], rel=0.15)


# --- restoration ---


@cache
def decoded() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    parts, steps = photographs()[0], torch.tensor([16.0, 40.0])
    rough = []
    for part, step in zip(parts, steps.tolist(), strict=True):
        coefficients = np.rint(transform().forward(part) / step) * np.float32(step)
        rough.append(torch.from_numpy(transform().inverse(coefficients.astype(np.float32))))
    return torch.stack(rough), torch.from_numpy(np.stack(parts)), steps


def restored(seed: int = 0, **settings):
    reports: list[dict] = []
    config = RestorationConfig(
        **{"width": 8, "steps": 200, "batch": 8, "crop": 48, "learning_rate": 1e-2} | settings
    )
    return RestorationFit(config, Pool(*decoded()), seed, reports.append).run(), reports


def test_restoration_learns_and_depends_on_its_seed_alone():
    network, reports = restored()
    shares = [report["distortion"] for report in reports]
    assert [report["step"] for report in reports] == [50, 100, 150, 200]
    assert shares[-1] < shares[0] and shares[-1] < 0.97
    pixels, originals, steps = decoded()
    errors = [torch.mean((x - originals) ** 2) for x in (network(pixels, steps), pixels)]
    assert errors[0] < 0.98 * errors[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        again, _ = restored()
    weights = network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())
    other, _ = restored(seed=1)
    assert not torch.equal(other.state_dict()["first.weight"], weights["first.weight"])


class Sizes(torch.nn.Module):
    """Features of the right form: how much there is of some patterns."""

    def __init__(self):
        super().__init__()
        self.patterns = torch.nn.Conv2d(3, 16, 4, stride=2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.patterns(x).square().mean((2, 3))


@pytest.fixture
def guides(monkeypatch):
    """Networks of the right form with random weights, in place of those to be downloaded."""
    looks = draws.build_with_seed(lambda: LPIPS("alex"), 3).requires_grad_(False)
    for weight in looks.weights:
        weight.fill_(1.0)
    network = draws.build_with_seed(Sizes, 4)
    seen = Backbone("seen", 16, Preprocessing(32, (127.0,) * 3, (128.0,) * 3), network)
    monkeypatch.setattr(restoration_fit, "load_lpips", lambda network: looks)
    monkeypatch.setattr(restoration_fit, "load_backbone", lambda name: seen)
    return looks, seen


PURPOSES = {
    "lpips": {"name": "alike", "distortion": 0.2, "lpips": 1.0, "crop": 64},
    "features": {"name": "recognizable", "distortion": 0.2, "features": 1.0},
}


@pytest.mark.parametrize("term", PURPOSES)
def test_each_term_brings_down_what_it_is_of(guides, term):
    _, reports = restored(steps=100, **PURPOSES[term])
    assert reports[-1].keys() >= {"distortion", term} and reports[-1][term] < 0.95


def test_a_critic_learns_beside_and_is_listened_to(guides):
    network, reports = restored(
        name="realistic",
        lpips=0.5,
        realism=0.5,
        noise=2,
        depth=2,
        crop=64,
        steps=60,
        learning_rate=3e-3,
    )
    assert reports[-1]["critic"] < 1.9  # 2 before it sees a difference
    pixels, _, steps = decoded()
    draw = torch.Generator().manual_seed(1)
    noise = [
        torch.randn(2, 2, *(side // 4 for side in pixels.shape[2:]), generator=draw) for _ in "ab"
    ]
    one, other, same = (network(pixels, steps, each) for each in (*noise, noise[0]))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_training_goes_on_from_its_checkpoint(guides, tmp_path, monkeypatch):
    terms = {"lpips": 0.5, "realism": 0.5, "noise": 1, "width": 4, "depth": 2}
    config = RestorationConfig(name="realistic", **terms, steps=12, batch=2, crop=64)

    def fit() -> RestorationFit:
        return RestorationFit(config, Pool(*decoded()), 0, lambda message: None)

    whole = fit().run().state_dict()
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    broken = fit()
    advance, path = broken._advance, tmp_path / "a.checkpoint"

    def until(step):
        if step == 7:
            raise KeyboardInterrupt
        advance(step)

    monkeypatch.setattr(broken, "_advance", until)
    with pytest.raises(KeyboardInterrupt):
        broken.run(path, "this")
    with pytest.raises(QuadrateError, match="another configuration"):
        fit().run(path, "that")
    resumed = fit()
    again = resumed.run(path, "this").state_dict()
    assert resumed.step == 12 and all(torch.equal(again[name], whole[name]) for name in whole)
    write_checkpoint(path, {"step": torch.tensor(3)}, "this")
    with pytest.raises(QuadrateError, match="damaged"):
        fit().run(path, "this")


def test_losses_that_are_not_finite_end_the_training():
    with pytest.raises(Diverged, match="faithful"):
        restored(learning_rate=1e30)
