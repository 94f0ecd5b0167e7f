"""Stages on frozen encoders: universal decoders and refinements."""

import dataclasses

import pytest
import torch

from quadrate.codecs import Layer
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.sources import pixels
from quadrate.training import FrozenLatents, train_stage
from stage_parts import Interrupt, assert_same, load, rows, tensors

PLAIN = OperatingPoint((3, 3))


BALANCED = OperatingPoint((2, 5), 1.0, 0.05, 0.05, 3)


# --- frozen encoders ---


def test_universal_decoders_share_the_frozen_encoder_of_the_base_of_their_seed(make, digits):
    bases = tuple(
        OperatingPoint((3, 3), lambda_p=0.05, lambda_c=0.05, seed=seed) for seed in (0, 1)
    )
    end_to_end = make(*bases, name="end-to-end")
    train_stage(end_to_end, "single")
    points = (
        PLAIN,
        OperatingPoint((3, 3), lambda_p=0.1),
        OperatingPoint((3, 3), lambda_c=0.1),
        OperatingPoint((3, 3), seed=1),
    )
    universal = make(
        *points, name="universal", mode="universal", base=bases[0], base_stage="end-to-end"
    )
    train_stage(universal, "single")
    for point in points:
        base, trained = load(end_to_end, bases[point.seed]), load(universal, point)
        ours, theirs = tensors(universal, point), tensors(end_to_end, bases[point.seed])
        encoder = {name for name in theirs if name.startswith("encoder.0/")}
        assert encoder == {name for name in ours if name.startswith("encoder.")}
        assert all(
            torch.equal(ours[name], theirs[name]) for name in encoder
        )  # the statistics of its batch norms included
        assert (
            trained.encoder_hash == base.encoder_hash
            and trained.point == point
            and (trained.critic is not None) == (point.lambda_p > 0)
        )
        assert not torch.equal(
            ours[f"decoder.{point.purpose}/0.weight"],
            theirs[f"decoder.{base.point.purpose}/0.weight"],
        )
        images = digits.test.images
        assert torch.equal(trained.encode(images), base.encode(images))
    first, second, third, fourth = (load(universal, point) for point in points)
    assert list(first.add_decoder(second).add_decoder(third).decoders) == [
        "faithful",
        "realistic",
        "recognizable",
    ]
    with pytest.raises(QuadrateError, match="was trained on another encoder"):
        first.add_decoder(fourth, "fourth")

    frozen = FrozenLatents.of(load(end_to_end, bases[0]), digits, 0)
    assert torch.equal(
        frozen.train, load(end_to_end, bases[0]).latents(pixels(digits.train.images))
    )
    assert torch.equal(
        frozen.validation, load(end_to_end, bases[0]).latents(pixels(digits.validation.images))
    )
    critic = load(end_to_end, bases[0]).critic.state_dict()
    assert all(torch.equal(frozen.critic[name], critic[name]) for name in critic)
    assert [layer.levels for layer in frozen.layers] == [(3, 3)]


def test_universal_training_is_spread_and_resumed_like_any_other(make, checkpoints):
    base = make(BALANCED, name="base")
    train_stage(base, "single")
    points = (
        dataclasses.replace(BALANCED, lambda_p=0.0),
        dataclasses.replace(BALANCED, lambda_p=0.02),
    )
    how = {"mode": "universal", "base": BALANCED, "base_stage": "base"}
    whole = make(*points, name="whole", **how)
    train_stage(whole, "single")
    broken = make(*points, name="broken", **how)
    with pytest.raises(KeyboardInterrupt):
        train_stage(broken, "single", report=Interrupt(3))
    train_stage(broken, "single")
    assert_same(whole, broken, *points)
    stacked = make(points[0], dataclasses.replace(points[0], lambda_c=0.0), name="stacked", **how)
    train_stage(stacked, "stacked")
    assert load(stacked, points[0]).encoder_hash == load(base, BALANCED).encoder_hash


def test_a_refinement_leaves_the_base_decodable_alone(make, digits):
    first = make(PLAIN, name="first")
    train_stage(first, "single")
    point = OperatingPoint((4, 2, 3), lambda_p=0.02)
    second = make(point, name="second", mode="refinement", base=PLAIN, base_stage="first")
    train_stage(second, "single")
    base, refined = load(first, PLAIN), load(second, point)
    assert refined.layers == (
        Layer((3, 3)),
        Layer((4, 2, 3)),
    ) and refined.rate_bound_bits == pytest.approx(base.rate_bound_bits + point.rate_bound_bits)
    ours, theirs = tensors(second, point), tensors(first, PLAIN)
    assert all(
        torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("encoder.0/")
    )
    assert ours[f"decoder.{point.purpose}/0.weight"].shape[1] == 5
    symbols = refined.encode(digits.test.images, seed=7)
    assert torch.equal(symbols[:, :2], base.encode(digits.test.images, seed=7))
    assert torch.equal(
        base.decode(symbols[:, :2], seed=7), base.round_trip(digits.test.images, seed=7)
    )


def test_a_frozen_encoder_sees_the_noise_of_the_stage(make, digits):
    base = make(PLAIN, name="base", noise_std=0.5)
    train_stage(base, "single")
    codec = load(base, PLAIN)
    without = make(PLAIN, name="without")
    train_stage(without, "single")
    assert (
        rows(base, PLAIN)[0]["mse"] > rows(without, PLAIN)[0]["mse"]
    )  # so did the encoder while it was trained
    clean = FrozenLatents.of(codec, digits, 0)
    noisy = FrozenLatents.of(codec, dataclasses.replace(digits, noise_std=0.5), 0)
    assert not torch.allclose(clean.train, noisy.train, atol=1e-3)
    assert torch.equal(
        noisy.train, FrozenLatents.of(codec, dataclasses.replace(digits, noise_std=0.5), 0).train
    )


def test_a_base_that_is_not_trained_is_named(make):
    universal = make(
        PLAIN,
        name="universal",
        mode="universal",
        base=OperatingPoint((3, 3), lambda_p=0.1),
        base_stage="end-to-end",
    )
    with pytest.raises(
        QuadrateError,
        match=(
            "stage 'universal' builds on 2x3_d1_p0.1_c0_s0 of stage 'end-to-end', which is not"
            " trained"
        ),
    ):
        train_stage(universal, "single")
