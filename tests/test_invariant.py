"""Invariant compressors: their objectives, and their training on sources whose bounds are exact."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from quadrate.bottlenecks.joint_tables import fit_joint
from quadrate.codecs import FeatureCodec
from quadrate.config import InvariantConfig
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.objectives.invariance import Contrast, Reconstruction, information_bound_bits
from quadrate.sources.symmetry import Banana, OrbitSet, dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant

QUICK = InvariantConfig(dims=2, steps=400, batch=256, likelihood="bernoulli", beta=0.05)
SOURCE = dihedral_patterns(2, [0.5, 0.5])  # 2×2 binary: H[X] = 4 bits, H[M] = 2.375


def disk_bits(trained, count=20_000) -> float:
    generator = torch.Generator().manual_seed(0)
    fit, test = (
        SOURCE.sample_orbit(SOURCE.sample(count, name), generator) for name in ("fit", "test")
    )
    codec = FeatureCodec.from_bottleneck(
        fit_joint(trained.bottleneck.freeze(), trained.encoder(fit).numpy())
    )
    return 8 * len(codec.compress(trained.encoder(test))) / count


@torch.no_grad()
def coded(trained, samples):
    """What a receiver reads of samples, and the rate in nats that the bottleneck asks for."""
    latents = trained.encoder(samples)
    noise = torch.zeros(len(latents), trained.bottleneck.noise_columns)
    symbols = trained.bottleneck.quantize(latents, noise)
    return trained.bottleneck.dequantize(symbols, noise), trained.bottleneck(latents, noise)[1]


def test_reconstructions_are_measured_as_they_say():
    keep = nn.Identity()
    received = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    target = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert Reconstruction(keep)(received, target).tolist() == [2.5, 8.0]
    nats = Reconstruction(keep, "bernoulli")(
        received, torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    )
    expected = [math.log1p(math.exp(-1)) + math.log1p(math.exp(2)), 2 * math.log(2)]
    assert nats.tolist() == pytest.approx(expected)
    with pytest.raises(
        QuadrateError, match="likelihood must be one of gaussian, bernoulli; got 'laplace'"
    ):
        Reconstruction(keep, "laplace")


def test_a_critic_that_knows_nothing_bounds_by_nothing_and_one_that_knows_all_by_log_n():
    contrast = Contrast(4)
    with torch.no_grad():
        contrast.project = nn.Identity()
        contrast.log_scale.fill_(math.log(100.0))
    codes = torch.eye(4).repeat(2, 1)
    bound, error = information_bound_bits(contrast, codes, codes, 4)
    assert bound == pytest.approx(2.0, abs=1e-6) and error == pytest.approx(0.0, abs=1e-6)
    same = torch.ones(8, 4)
    assert information_bound_bits(contrast, same, same, 4)[0] == pytest.approx(0.0, abs=1e-6)
    # Two candidates of the same orbit are told apart by nobody: the bound is a bit lower, never too
    # high.
    assert information_bound_bits(contrast, codes, codes, 8 // 2)[0] <= 2.0
    for count, batch in ((8, 3), (4, 4), (0, 4)):
        with pytest.raises(QuadrateError, match="two or more batches"):
            information_bound_bits(contrast, codes[:count], codes[:count], batch)


def test_invariance_saves_what_the_theorem_says():
    exact = SOURCE.entropies()
    assert (exact.source, exact.invariant) == pytest.approx((4.0, 2.375))
    invariant = train_invariant(SOURCE, replace(QUICK, objective="vic", steps=800))
    plain = train_invariant(SOURCE, replace(QUICK, objective="vc", steps=800))
    generator = torch.Generator().manual_seed(1)
    x = SOURCE.sample(2000, "check")
    members = SOURCE.sample_orbit(x, generator)
    for trained, target in ((invariant, SOURCE.representative(x)), (plain, members)):
        received, _ = coded(trained, members)
        wrong = (
            ((trained.head.decoder(received) > 0) != (target > 0))
            .flatten(1)
            .any(dim=1)
            .float()
            .mean()
        )
        assert wrong < 0.01
    assert exact.invariant - 0.05 < disk_bits(invariant) < 3.2 < 3.9 < disk_bits(plain)


def test_training_is_deterministic_and_leaves_the_global_generator_alone():
    config = replace(QUICK, objective="bince", steps=20)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    reports: list = []  # the last tenth of the steps, on the head alone, reports nothing
    first = train_invariant(SOURCE, config, reports.append)
    assert torch.equal(torch.get_rng_state(), before)
    second = train_invariant(SOURCE, config)
    other = train_invariant(SOURCE, replace(config, seed=1))
    weights = [
        torch.cat([p.flatten() for p in trained.encoder.parameters()])
        for trained in (first, second, other)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert len(reports) == 18 and {"step", "steps", "distortion", "rate_bits"} == set(reports[0])


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    config = replace(QUICK, objective="vic", steps=60)
    whole = train_invariant(SOURCE, config)

    def interrupt(row):
        if row["step"] == 30:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quadrate.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train_invariant(SOURCE, config, interrupt, checkpoint)
    reports: list = []
    resumed = train_invariant(SOURCE, config, reports.append, checkpoint)
    assert reports[0]["step"] == 30  # the step that was not saved is done again, nothing before
    for name in ("encoder", "head", "bottleneck"):
        ours, theirs = (getattr(trained, name).state_dict() for trained in (resumed, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with pytest.raises(QuadrateError, match="of another configuration; delete it"):
        train_invariant(SOURCE, replace(config, beta=0.1), checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(QuadrateError, match="is damaged"):
        train_invariant(SOURCE, config, checkpoint=checkpoint)


def test_staggered_training_fits_its_bottleneck_to_frozen_latents():
    trained = train_invariant(
        SOURCE, replace(QUICK, objective="vic", schedule="staggered", beta=0.02, steps=600)
    )
    x = SOURCE.sample(2000, "check")
    received, nats = coded(trained, SOURCE.sample_orbit(x, torch.Generator().manual_seed(1)))
    wrong = (
        ((trained.head.decoder(received) > 0) != (SOURCE.representative(x) > 0))
        .flatten(1)
        .any(dim=1)
        .float()
        .mean()
    )
    assert wrong < 0.05 and nats.mean() > 0


def test_contrast_learns_the_orbit():
    trained = train_invariant(SOURCE, replace(QUICK, objective="bince", steps=600))
    generator = torch.Generator().manual_seed(2)
    x = SOURCE.sample(4096, "held out")
    received = [coded(trained, SOURCE.sample_orbit(x, generator))[0] for _ in range(2)]
    bound, error = information_bound_bits(trained.head, *received, 1024)
    assert 1.8 < bound <= 2.375 + 3 * error


def test_sets_of_orbits_are_trained_on_too():
    source = Banana("rotation")
    data = OrbitSet(source.sample(500, "set"), source)
    config = InvariantConfig(dims=1, steps=30, batch=64)
    trained = train_invariant(data, config)
    assert np.isfinite(
        float(
            trained.head(
                coded(trained, data.points)[0],
                data.representatives(torch.arange(500)),
            ).mean()
        )
    )


def test_settings_that_make_no_sense_are_refused():
    for settings in (
        {"beta": 0.0},
        {"beta": math.nan},
        {"dims": 0},
        {"steps": 0},
        {"learning_rate": -1.0},
    ):
        with pytest.raises(QuadrateError, match=f"{next(iter(settings))} must be"):
            InvariantConfig(**settings)
    for settings in ({"objective": "vae"}, {"network": "resnet"}, {"schedule": "both"}):
        with pytest.raises(QuadrateError, match=f"{next(iter(settings))} must be one of"):
            InvariantConfig(**settings)
    with pytest.raises(QuadrateError, match="takes images"):
        train_invariant(Banana(), replace(QUICK, network="convolutional"))
    with pytest.raises(QuadrateError, match="diverged in step"):
        train_invariant(
            SOURCE, replace(QUICK, objective="vic", steps=5, learning_rate=1e30, anneal=0.0)
        )


def test_a_joint_codec_survives_its_file(tmp_path):
    trained = train_invariant(SOURCE, replace(QUICK, objective="bince", steps=20))
    latents = trained.encoder(SOURCE.sample(2000, "file"))
    codec = FeatureCodec.from_bottleneck(fit_joint(trained.bottleneck.freeze(), latents.numpy()))
    codec.save(tmp_path / "joint")
    again = FeatureCodec.load(tmp_path / "joint")
    assert (
        again.identities
        == codec.identities
        != FeatureCodec.from_bottleneck(trained.bottleneck.freeze()).identities
    )
    data = codec.compress(latents)
    assert again.compress(latents) == data and np.array_equal(
        again.decompress(data), codec.decompress(data)
    )


def test_a_recipe_names_a_point_once():
    with pytest.raises(QuadrateError, match="recipe 'twice' names the same point twice"):
        InvariantRecipe("twice", "a test", "banana", (QUICK, replace(QUICK, seed=1), QUICK))
