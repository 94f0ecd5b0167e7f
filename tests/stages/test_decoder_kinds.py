"""Kinds of decoders, on frozen codes and end to end: promises, and what files keep."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from quadrate import Codec
from quadrate.codecs import Decoders, QuadDataset
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.networks import DECODERS, DecoderKind, register_decoder
from quadrate.networks.flow import FlowDecoder, VelocityNetwork
from quadrate.networks.labelled import LabelledDecoder
from quadrate.objectives import Batch, Reading, estimate_cross_entropy
from quadrate.objectives.reading import disturbed
from quadrate.sources import pixels
from quadrate.training import train_judge, train_stage
from stage_parts import COMPACT, MAPS, Interrupt, assert_same, load, rows
from tensor_files import rewrite

LEVELS = (3, 3)
ENCODER = OperatingPoint(LEVELS, lambda_c=0.02)
FAITHFUL = OperatingPoint(LEVELS)
LABELLED = OperatingPoint(LEVELS, lambda_c=0.02, decoder="labelled")
FLOW = OperatingPoint(LEVELS, decoder="flow")
SHORT = TrainingConfig(epochs=2, batch=64)
LONG = TrainingConfig(epochs=40, batch=64)
FLOWING = TrainingConfig(epochs=2, batch=64, learning_rate=2e-3, betas=(0.9, 0.99))


@pytest.fixture
def trained(make):
    """Assignments of an encoder and of its faithful decoder, trained."""

    def run(settings=SHORT, family=COMPACT, folder="run"):
        shared = {"family": family, "folder": folder, "settings": settings}
        encoder = make(ENCODER, name="encoder", **shared)
        decoders = make(
            FAITHFUL,
            name="decoders",
            mode="universal",
            base=ENCODER,
            base_stage="encoder",
            **shared,
        )
        train_stage(encoder, "single")
        train_stage(decoders, "single")
        return decoders

    return run


def flow_stage(make, folder="run", settings=FLOWING, **more):
    return make(
        *(FLOW,),
        **{"name": "flow", "mode": "universal", "base": FAITHFUL, "base_stage": "decoders"},
        **{"folder": folder, "settings": settings, **more},
    )


# --- labelled ---


def test_a_labelled_decoder_draws_the_class_that_its_code_makes_most_probable():
    latents = torch.rand(6, 3)
    decoder = LabelledDecoder(COMPACT.decoder((1, 8, 8), 3 + 4), 3, 4).eval()
    likely = torch.nn.functional.one_hot(decoder.logits(latents).argmax(1), 4)
    drawn, logits = decoder(latents, likely)
    assert torch.equal(decoder(latents), drawn) and torch.equal(logits, decoder.logits(latents))
    assert LabelledDecoder.classes_of(decoder.state_dict()) == 4
    other, _ = decoder(latents, likely.roll(1, 1))
    assert (other - drawn).abs().amax((1, 2, 3)).min() > 0


def test_its_estimate_is_scored_in_nats_a_model():
    logits = torch.randn(2, 5, 3)
    labels = torch.randint(3, (2, 5))
    batch = Batch(torch.empty(0), torch.empty(0), labels, torch.empty(0), logits=logits)
    by_hand = [-logits[k].log_softmax(1)[range(5), labels[k]].mean() for k in range(2)]
    assert torch.allclose(estimate_cross_entropy(batch), torch.stack(by_hand))


def test_a_labelled_decoder_is_read_better_than_a_faithful_one_by_a_judge_it_never_met(
    make, trained, digits, judge
):
    decoders = trained(LONG)
    labelled = make(
        LABELLED,
        name="labelled",
        mode="universal",
        base=ENCODER,
        base_stage="encoder",
        settings=LONG,
        classifier=None,
    )
    train_stage(labelled, "single")
    codec = load(decoders, FAITHFUL).add_decoder(load(labelled, LABELLED))
    assert list(codec.decoders) == ["faithful", "recognizable"]
    images, labels = digits.validation.images, digits.validation.labels
    right = {
        name: float(
            (judge.module(codec.round_trip(images, 0, name)).argmax(1) == labels).float().mean()
        )
        for name in codec.decoders
    }
    assert right["recognizable"] > right["faithful"] + 0.02
    last = rows(labelled, LABELLED)[-1]
    assert last["cross_entropy_nats"] < 1.0 and "validation_accuracy" not in last


def test_an_encoder_is_trained_with_a_labelled_decoder_and_stacked_as_single(make):
    points = (LABELLED, replace(LABELLED, lambda_c=0.1, seed=1))
    settings = TrainingConfig(epochs=1, batch=128, precision="float32")
    found = []
    for execution in ("single", "stacked"):
        stage = make(*points, settings=settings, folder=execution)
        train_stage(stage, execution)
        found.append([rows(stage, point)[0] for point in points])
    for single, stacked in zip(*found, strict=True):
        assert single == pytest.approx(stacked, rel=1e-3)


# --- flow ---


def test_a_flow_starts_at_the_faithful_picture_and_is_nothing_but_noise_before_training():
    decoder = FlowDecoder(COMPACT.decoder((1, 6, 9), 3), VelocityNetwork((1, 6, 9)), 0.2, 4).eval()
    latents, noise = torch.rand(5, 3), torch.randn(5, 1, 6, 9)
    start = decoder.mean(latents) + 0.2 * noise
    assert torch.equal(decoder(latents, noise), start.clamp(0, 1))
    decoder.velocity.forward = lambda x, time: torch.full_like(x, 0.5) * (1 + time[0])
    # Along .5·(1 + t): Euler's first step takes t = 0, each of the others the t of its middle.
    moved = (start + 0.5 * (1 + (0 + 3 / 8 + 5 / 8 + 7 / 8) / 4)).clamp(0, 1)
    assert torch.allclose(decoder(latents, noise), moved, atol=1e-6)


@pytest.mark.parametrize("family", [COMPACT, MAPS], ids=["vectors", "maps"])
def test_a_flow_learns_and_goes_on_where_it_was_interrupted(make, trained, checkpoints, family):
    for folder in ("single", "interrupted"):
        trained(family=family, folder=folder)
    single = flow_stage(make, "single", family=family)
    interrupted = flow_stage(make, "interrupted", family=family)
    train_stage(single, "single")
    with pytest.raises(KeyboardInterrupt):
        train_stage(interrupted, "single", report=Interrupt(1))
    train_stage(interrupted, "single")
    assert_same(single, interrupted, FLOW)
    first, last = rows(single, FLOW)
    assert last["validation_velocity_loss"] < first["validation_velocity_loss"]


def test_pictures_of_a_flow_are_nearer_to_real_ones_in_distribution(make, trained, digits):
    trained(LONG)
    stage = flow_stage(make, settings=replace(FLOWING, epochs=40, batch=16))
    train_stage(stage, "single")
    codec = load(stage, FLOW).add_decoder(load(stage, FLOW), "again")
    faithful = load(stage, FLOW).decoders["realistic"].mean
    images = digits.test.images
    latents = codec.dequantize(codec.encode(images))
    clean = images.flatten(1) / 255
    pictures = {
        "faithful": faithful(latents).flatten(1),
        "realistic": codec.reconstruct(latents, "realistic").flatten(1),
    }
    spread = {name: float(x.var(0).sum()) for name, x in pictures.items()}
    error = {name: float((x - clean).square().mean()) for name, x in pictures.items()}
    # What faithful pictures lack, the variance of X given Z, the flow brings back, for less than
    # twice their error: more than half of it after so short a training.
    real = float(clean.var(0).sum())
    assert abs(real - spread["realistic"]) < 0.7 * (real - spread["faithful"])
    assert error["faithful"] < error["realistic"] < 2 * error["faithful"]


def test_noise_depends_on_seed_and_sample_alone(make, trained, digits, tmp_path):
    trained()
    stage = flow_stage(make)
    train_stage(stage, "single")
    codec = load(stage, FLOW).freeze(digits)
    path = tmp_path / "digits.quad"
    codec.compress(
        digits.test.images[:50], seed=7, to=path, chunk=16, labels=digits.test.labels[:50]
    )
    whole = codec.decompress(path)
    assert np.array_equal(whole[20:37:3], codec.decompress(path, samples=slice(20, 37, 3)))
    assert np.array_equal(whole[::-1], codec.decompress(path, samples=slice(None, None, -1)))
    for cache in (0, 1 << 20):
        dataset = QuadDataset(path, codec, cache_bytes=cache)
        assert all(torch.equal(dataset[i][0], torch.from_numpy(whole[i])) for i in (33, 2, 49))
    symbols = codec.encode(digits.test.images[:50], seed=7)
    decoded = codec.decode(symbols[20:], seed=7, first=20)
    assert np.array_equal((decoded * 255).round().byte().numpy(), whole[20:])
    assert not torch.equal(codec.noise([3], 7), codec.noise([3], 8))
    assert torch.equal(codec.noise(range(5), 7)[3], codec.noise([3], 7)[0])
    codec.save(tmp_path / "codec.safetensors")
    again = type(codec).load(tmp_path / "codec.safetensors")
    assert np.array_equal(again.decompress(path), whole)


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 10**12), ("steps", 0), ("sigma", 1e9), ("sigma", -1.0)]
)
def test_a_file_whose_flow_would_never_end_is_refused(make, trained, tmp_path, name, value):
    trained()
    stage = flow_stage(make)
    train_stage(stage, "single")
    codec = load(stage, FLOW)
    codec.states["decoder.realistic"][name] = torch.tensor(value)
    codec.save(tmp_path / "codec.safetensors")
    with pytest.raises(QuadrateError, match="a flow has noise of 0 to 10 and 1 to 1000 steps"):
        type(codec).load(tmp_path / "codec.safetensors")


def test_blends_share_the_noise(make, trained, digits):
    decoders = trained()
    stage = flow_stage(make)
    train_stage(stage, "single")
    codec = load(decoders, FAITHFUL).add_decoder(load(stage, FLOW))
    latents = codec.dequantize(codec.encode(digits.test.images[:5]))
    apart = [codec.reconstruct(latents, name, seed=3) for name in ("faithful", "realistic")]
    blend = codec.reconstruct(latents, {"faithful": 0.25, "realistic": 0.75}, seed=3)
    assert torch.allclose(blend, 0.25 * apart[0] + 0.75 * apart[1], atol=1e-6)


def test_shared_noise_is_standard_normal():
    noise = draws.normal("test", shape=(200_000,))
    assert noise.mean().abs() < 0.01 and abs(float(noise.var()) - 1) < 0.01
    assert noise.isfinite().all() and noise.abs().max() > 4
    assert torch.equal(draws.normal("test", shape=(5,), first=17), noise[17:22])


# --- by name ---


def test_a_kind_of_your_own_is_named_by_a_point(make, digits):
    class Brighter(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, latents):
            return self.network(latents).sqrt()

    kind = DecoderKind(
        "brighter", lambda family, shape, dim, _: Brighter(family.decoder(shape, dim))
    )
    register_decoder(kind)
    try:
        point = replace(FAITHFUL, decoder="brighter")
        assert point.key == "2x3_d1_p0_c0_brighter_s0"
        stage = make(point)
        train_stage(stage, "single")
        assert type(load(stage, point).decoders["faithful"]).__name__ == "Brighter"
    finally:
        del DECODERS["brighter"]


def test_what_cannot_be_trained_is_refused(make):
    with pytest.raises(QuadrateError, match="unknown decoder kind 'no'; known: direct, labelled"):
        train_stage(make(replace(FAITHFUL, decoder="no")), "single")
    with pytest.raises(QuadrateError, match="a labelled decoder needs lambda_c above 0"):
        replace(LABELLED, lambda_c=0.0)
    with pytest.raises(QuadrateError, match="flow decoders start from the pictures of a trained"):
        Stage("flow", (FLOW,))
    with pytest.raises(QuadrateError, match="reads flat latents"):
        train_stage(make(LABELLED, family=MAPS), "single")
    with pytest.raises(QuadrateError, match="needs images of at least 2 classes"):
        LabelledDecoder(COMPACT.decoder((1, 8, 8), 3), 2, 1)


def test_what_two_decoders_share_stands_once_in_a_file(make, trained, tmp_path):
    """A flow begins with the faithful decoder, whose weights would be there twice."""
    faithful = load(trained(), FAITHFUL)
    stage = flow_stage(make)
    train_stage(stage, "single")
    flow = load(stage, FLOW)
    codec = load(trained(), FAITHFUL).add_decoder(flow)
    sizes = []
    for one, name in ((faithful, "faithful"), (flow, "flow"), (codec, "both")):
        one.save(tmp_path / name)
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes[2] < sizes[1] + 3000  # the names of what is shared, no more
    read = Codec.load(tmp_path / "both")
    assert read.encoder_hash == codec.encoder_hash
    for role, state in codec.states.items():
        assert all(torch.equal(read.states[role][name], t) for name, t in state.items())
    codec.pack().save(tmp_path / "pack")
    pack = Decoders.load(tmp_path / "pack")
    assert {name: set(state) for name, state in pack.states.items()} == {
        name: set(codec.states[f"decoder.{name}"]) for name in codec.decoders
    }
    for wrong in ('{"decoder.a/b": "nothing"}', '{"decoder.a/b": 3}', "[]"):
        rewrite(tmp_path / "faithful", metadata={"same": wrong})
        with pytest.raises(QuadrateError, match="description is damaged"):
            Codec.load(tmp_path / "faithful")


# --- readers ---


def test_reading_is_the_mean_over_classifiers_of_disturbed_pictures(digits, judge):
    pictures = pixels(digits.train.images[:64])[None]  # (1, B, C, H, W)
    labels = digits.train.labels[:64][None]
    batch = Batch(pictures, pictures, labels, torch.arange(64)[None], step=5)
    key = (0, "point")
    shown = disturbed(pictures[0], *key, "reading", 5)
    by_hand = torch.nn.functional.cross_entropy(judge.module(shown), labels[0])
    (found,) = Reading([judge.module, judge.module], [key])(batch)
    assert torch.allclose(found, by_hand)
    (other,) = Reading([judge.module], [key])(replace(batch, step=6))
    assert other != found


def test_pictures_are_disturbed_in_all_ways_and_by_the_key_alone():
    images = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) + 0.5
    found = [disturbed(images, "a key", step) for step in range(60)]
    assert torch.equal(found[3], disturbed(images, "a key", 3))
    assert all(one.shape == images.shape for one in found)
    erased = sum(bool((one == 0).any()) for one in found)
    noisy = sum(bool(one.max() > 1.6) for one in found)
    blurred = sum(float(one.std()) < 0.25 for one in found)
    assert 15 < erased < 40 and 15 < noisy < 40 and 5 < blurred < 40
    moves = {
        (down, right)
        for one in found
        for down in range(-2, 3)
        for right in range(-2, 3)
        if (torch.roll(images, (down, right), (2, 3)) - one)[:, :, 10:18, 10:18].abs().max() < 1e-6
    }
    assert len(moves) > 4


def test_a_decoder_with_readers_is_read_by_a_judge_that_it_never_met(make, trained, digits, judge):
    trained(LONG)
    reader = train_judge(digits, "dense", seed=3, epochs=20).module
    shared = {"mode": "universal", "base": ENCODER, "base_stage": "encoder", "settings": LONG}
    read = []
    for readers in ((), (reader,)):
        stage = make(LABELLED, name=f"read{len(readers)}", **shared)
        stage = replace(stage, readers=readers)
        train_stage(stage, "single")
        codec = load(stage, LABELLED)
        images = digits.validation.images
        latents = codec.dequantize(codec.encode(images))
        drawn = codec.decoders["recognizable"].logits(latents).argmax(1)
        read.append(
            float(
                (judge.module(codec.decode(codec.encode(images))).argmax(1) == drawn).float().mean()
            )
        )
        assert ("reading_nats" in rows(stage, LABELLED)[-1]) == bool(readers)
    assert read[1] > read[0] + 0.03


def test_readers_are_for_labelled_decoders_and_no_judge_of_their_kind_is_independent():
    labelled = Stage("a", (LABELLED,), readers=("strided",))
    Recipe("mine", "", "digits", (labelled,), strangers=("lenet",))
    with pytest.raises(QuadrateError, match="readers are for labelled decoders"):
        Stage("a", (FAITHFUL,), readers=("strided",))
    for judges in ({"strangers": ("strided",)}, {"independent_judge": "strided"}):
        with pytest.raises(QuadrateError, match="reader of the architecture 'strided', which is"):
            Recipe("mine", "", "digits", (labelled,), **judges)
