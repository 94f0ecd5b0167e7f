"""Codecs that learn their rate: end to end, on a frozen encoder, as a refinement, in files."""

import math
from dataclasses import replace

import pytest
import torch

from quadrate.config import OperatingPoint, Stage, TrainingConfig
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.training import train_stage
from stage_parts import COMPACT, MAPS, Interrupt, assert_same, load, rows

FACTORIZED = OperatingPoint((), lambda_r=0.0005, dims=6, bottleneck="factorized")
HYPERPRIOR = OperatingPoint((), lambda_r=0.0005, dims=4, bottleneck="hyperprior")
LONG = TrainingConfig(epochs=25, batch=32, bottleneck_learning_rate=0.03)
SHORT = TrainingConfig(epochs=2, batch=64)


def bits_on_disk(codec, images) -> float:
    """What more samples add to a file, in bits a sample, so that headers do not count."""
    few, many = (len(codec.compress(images.repeat(n, 1, 1, 1), seed=1)) for n in (10, 20))
    return 8 * (many - few) / (10 * len(images))


@pytest.mark.parametrize(
    ("point", "family"), [(FACTORIZED, COMPACT), (HYPERPRIOR, COMPACT), (HYPERPRIOR, MAPS)]
)
def test_files_are_as_long_as_the_rate_that_training_reports(make, digits, point, family):
    stage = make(point, settings=LONG, family=family)
    train_stage(stage, "single")
    codec = load(stage, point).freeze(digits)
    last = rows(stage, point)[-1]
    assert {"rate_nats", "validation_rate_nats"} < set(last)
    bits = bits_on_disk(codec, digits.validation.images)
    rate_bits = last["validation_rate_nats"] / math.log(2)
    # Where symbols are mostly zero, rounding costs less than the noise that stands for it.
    assert (0.65 if family is MAPS else 0.85) * rate_bits - 1 < bits < 1.1 * rate_bits + 1
    data = codec.compress(digits.validation.images)
    error = torch.from_numpy(codec.decompress(data)) / 255 - digits.validation.images / 255
    assert float(error.square().mean()) == pytest.approx(last["validation_mse"], rel=0.05)


@pytest.mark.parametrize("bottleneck", ["factorized", "hyperprior"])
def test_a_dearer_rate_is_a_lower_one(make, bottleneck):
    points = [replace(HYPERPRIOR, bottleneck=bottleneck, lambda_r=r) for r in (0.0005, 0.005)]
    stage = make(*points, settings=LONG)
    train_stage(stage, "single")
    (cheap, dear) = (rows(stage, point)[-1] for point in points)
    assert dear["validation_rate_nats"] < 0.8 * cheap["validation_rate_nats"]
    assert dear["validation_mse"] > cheap["validation_mse"]


@pytest.mark.parametrize(("point", "family"), [(FACTORIZED, COMPACT), (HYPERPRIOR, MAPS)])
def test_single_spread_and_interrupted_give_the_same_bits(make, checkpoints, point, family):
    points = (point, replace(point, lambda_p=0.01, seed=1))
    single, spread, interrupted = (
        make(*points, settings=SHORT, family=family, folder=folder)
        for folder in ("single", "spread", "interrupted")
    )
    train_stage(single, "single")
    train_stage(spread, "spread", workers=2)
    with pytest.raises(KeyboardInterrupt):
        train_stage(interrupted, "single", report=Interrupt(1))
    train_stage(interrupted, "single")
    assert_same(single, spread, *points)
    assert_same(single, interrupted, *points)


@pytest.mark.parametrize("bottleneck", ["factorized", "hyperprior"])
@pytest.mark.parametrize("family", [COMPACT, MAPS], ids=["vectors", "maps"])
def test_stacked_is_single_up_to_rounding(make, bottleneck, family):
    points = [replace(HYPERPRIOR, bottleneck=bottleneck, lambda_r=r) for r in (0.001, 0.01)]
    settings = TrainingConfig(epochs=1, batch=128, precision="float32")
    found = []
    for execution in ("single", "stacked"):
        stage = make(*points, settings=settings, family=family, folder=execution)
        train_stage(stage, execution)
        found.append([rows(stage, point)[0] for point in points])
    for single, stacked in zip(*found, strict=True):
        assert stacked == pytest.approx(single, rel=2e-3)


@pytest.mark.parametrize("base", [FACTORIZED, HYPERPRIOR], ids=["factorized", "hyperprior"])
@pytest.mark.parametrize("execution", ["single", "stacked"])
def test_decoders_and_refinements_build_on_a_learned_rate(make, digits, base, execution):
    seeds = (base, replace(base, seed=1))
    first = make(*seeds, settings=replace(SHORT, epochs=8), name="first")
    train_stage(first, "single")
    more = {"base": base, "base_stage": "first", "settings": replace(SHORT, epochs=8)}
    realistic = tuple(replace(point, lambda_p=0.01) for point in seeds)
    universal = make(*realistic, name="universal", mode="universal", **more)
    own = replace(FACTORIZED, dims=2, lambda_r=0.001)
    refined = make(own, replace(own, seed=1), name="refined", mode="refinement", **more)
    dithered = make(OperatingPoint((3, 3)), name="dithered", mode="refinement", **more)
    for stage in (universal, refined, dithered):
        train_stage(stage, execution)
    images = digits.validation.images
    codec = load(first, base).freeze(digits)
    data = codec.compress(images)
    codec.add_decoder(load(universal, realistic[0]))
    read = torch.from_numpy(codec.decompress(data, "realistic")) / 255 - images / 255
    told = rows(universal, realistic[0])[-1]
    assert "rate_nats" not in told
    assert float(read.square().mean()) == pytest.approx(told["validation_mse"], rel=0.05)
    for stage, point in ((refined, own), (dithered, OperatingPoint((3, 3)))):
        both = load(stage, point).freeze(digits, base=codec)
        error = torch.from_numpy(both.decompress(both.compress(images))) / 255 - images / 255
        told = rows(stage, point)[-1]["validation_mse"]
        assert float(error.square().mean()) == pytest.approx(told, rel=0.1)
        assert torch.equal(both.encode(images)[:, : codec.models[0].columns], codec.encode(images))


def test_a_learned_rate_refines_a_dithered_base(make, digits):
    base = OperatingPoint((3, 3))
    train_stage(make(base, settings=SHORT, name="first"), "single")
    refined = make(
        FACTORIZED, settings=SHORT, name="refined", mode="refinement", base=base, base_stage="first"
    )
    train_stage(refined, "single")
    codec = load(refined, FACTORIZED).freeze(digits)
    images = digits.validation.images
    assert codec.decompress(codec.compress(images)).shape == tuple(images.shape)
    assert [layer.bottleneck for layer in codec.layers] == ["dithered", "factorized"]


def test_a_rate_that_costs_too_much_is_told(make):
    with pytest.warns(QuadrateWarning, match="has collapsed: all samples get the same symbols"):
        train_stage(make(replace(FACTORIZED, lambda_r=1.0), settings=LONG), "single")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (3, 3)}, "bottleneck 'factorized' learns its rate: give dims and lambda_r"),
        ({"dims": 0}, "bottleneck 'factorized' learns its rate: give dims and lambda_r above 0"),
        ({"lambda_r": 0.0}, "learns its rate: give dims and lambda_r above 0"),
        ({"bottleneck": "dithered"}, "dims=6 and lambda_r=0.0005 are of a learned rate"),
        ({"bottleneck": "none"}, "unknown bottleneck 'none'; known: dithered, factorized"),
    ],
)
def test_points_that_mix_fixed_and_learned_rates_are_refused(changes, message):
    with pytest.raises(QuadrateError, match=message) as refused:
        replace(FACTORIZED, **changes)
    assert "\n" not in str(refused.value)


def test_a_bottleneck_without_a_code_and_other_codes_than_the_bases_are_refused(make):
    with pytest.raises(QuadrateError, match=r"takes latents of shape \(12,\); the encoder gives"):
        train_stage(make(replace(FACTORIZED, bottleneck="unit-gaussian")), "single")
    with pytest.raises(QuadrateError, match="so dims must be 6 and bottleneck 'factorized'"):
        Stage("u", (HYPERPRIOR,), "universal", base=FACTORIZED, base_stage="first")
    with pytest.raises(QuadrateError, match="surrogate 'soft' is that of the dithered quantizer"):
        Stage("s", (FACTORIZED,), training=TrainingConfig(surrogate="soft"))
