"""Samples that are unlike those a codec was made for: warned of, refused, and no false alarms."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import quadrate
from codecs_made import COMPACT
from quadrate.cli import main
from quadrate.codecs import Batch, FeatureCodec, Layer, TradeoffCodec, quad
from quadrate.codecs.familiarity import Familiarity
from quadrate.codecs.watch import familiarity_of
from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.sources import load_source
from quadrate.training import Task, Trainer

HAS_MNIST = Path(os.environ.get("QUADRATE_DATA", "/none"), "mnist").is_dir()
ZOO = ["mnist-10bit", "mnist-4.75bit"]


@pytest.fixture(scope="module")
def digits():
    return load_source("digits")


@pytest.fixture(scope="module")
def codec(digits) -> TradeoffCodec:
    """A codec of 8×8 digits, trained for some seconds."""
    point = OperatingPoint((4, 4, 4, 4))
    trainer = Trainer(
        Task(digits, COMPACT, None, TrainingConfig(epochs=12, batch=64, precision="float32")),
        [point],
    ).prepare()
    for _ in range(12):
        trainer.train_epoch()
    networks = trainer.networks(0)
    states = {"encoder.0": networks["encoder"], "decoder.faithful": networks["decoder"]}
    return TradeoffCodec(
        COMPACT, digits.shape, [Layer(point.levels)], {"faithful": point}, states
    ).freeze(digits)


def foreign(kind: str, images: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return {
        "noise": torch.randint(0, 256, images.shape, generator=generator, dtype=torch.uint8),
        "negatives": 255 - images,
        "checks": (
            (torch.arange(images[0].numel()).view(images.shape[1:]) % 2 * 255)
            .to(torch.uint8)
            .expand(images.shape)
        ),
        "white": torch.full_like(images, 255),
    }[kind]


@pytest.mark.parametrize("kind", ["noise", "negatives", "checks", "white"])
@pytest.mark.parametrize("count", [1, 20])
def test_foreign_images_are_warned_of_with_their_share(codec, digits, kind, count):
    images = foreign(kind, digits.test.images[:count])
    with pytest.warns(
        QuadrateWarning,
        match=rf"^{count} of {count} samples \(100 %\) are unlike those this codec was made for",
    ) as caught:
        data = codec.compress(images)
    assert len(caught) == 1
    assert codec.decompress(data).shape == images.shape


def test_its_own_images_raise_no_alarm_not_even_one_by_one(codec, digits):
    codec.compress(digits.test.images)  # warnings are errors here
    alarms = 0
    for image in digits.test.images.split(1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            codec.compress(image)
        alarms += len(caught)
    assert alarms <= 1 and len(digits.test) > 250


def test_a_few_odd_ones_in_a_large_set_are_no_alarm_and_a_tenth_is(codec, digits):
    own, odd = digits.test.images, foreign("negatives", digits.test.images)
    codec.compress(torch.cat([own, odd[:2]]))
    with pytest.warns(QuadrateWarning, match=rf"^3\d of {len(own) + 30} samples"):
        quad.compress(
            codec, (Batch(part) for part in (own, odd[:30])), io.BytesIO(), chunk=50
        )  # counted over chunks


def test_strict_refuses_and_leaves_nothing(codec, digits, tmp_path):
    odd = foreign("negatives", digits.test.images[:9])
    with pytest.raises(QuadrateError, match=r"^9 of 9 samples .* nothing was written"):
        codec.compress(odd, to=tmp_path / "new.quad", strict=True)
    assert list(tmp_path.iterdir()) == []
    codec.compress(digits.test.images[:50], to=tmp_path / "a.quad", strict=True)
    before = (tmp_path / "a.quad").read_bytes()
    with pytest.raises(QuadrateError, match="9 of 9"):
        quad.append(codec, [Batch(odd)], tmp_path / "a.quad", strict=True)
    assert (tmp_path / "a.quad").read_bytes() == before
    with pytest.warns(QuadrateWarning, match="9 of 9"):
        assert quad.append(codec, [Batch(odd)], tmp_path / "a.quad") == 9


def test_the_command_line_warns_refuses_and_inspects(codec, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    codec.save("c.st")
    np.save("own.npy", digits.test.images.numpy())
    np.save("odd.npy", foreign("noise", digits.test.images).numpy())
    main(["compress", "own.npy", "--codec", "c.st", "-o", "own.quad", "--strict"])
    with pytest.raises(SystemExit):
        main(["compress", "odd.npy", "--codec", "c.st", "-o", "odd.quad", "--strict"])
    error = capsys.readouterr().err
    assert (
        error.startswith(
            f"quadrate: {len(digits.test)} of {len(digits.test)} samples (100 %) are unlike"
        )
        and not Path("odd.quad").exists()
    )
    main(["inspect", "own.quad", "--codec", "c.st"])
    assert (
        f"compress warns of samples unlike its own, of which it has seen {len(digits.validation)}"
        in capsys.readouterr().out
    )


def test_limits_travel_in_the_file_and_are_checked(codec, tmp_path):
    codec.save(tmp_path / "c.st")
    assert TradeoffCodec.load(tmp_path / "c.st").familiarity == codec.familiarity is not None
    for text in (
        "",
        "[]",
        '{"samples": 0, "limits": {"error": 1.0}}',
        '{"samples": 9, "limits": {"error": NaN}}',
        '{"samples": 9, "limits": {"x": 1.0}}',
    ):
        with pytest.raises(QuadrateError, match="the limits of familiar samples are damaged"):
            Familiarity.from_json(text)


def test_codecs_without_limits_do_not_check_and_cannot_be_strict(
    codec, digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(codec, "familiarity", None)  # as in files of version 0.1
    codec.compress(foreign("noise", digits.test.images[:5]), to=tmp_path / "a.quad")
    with pytest.raises(
        QuadrateError,
        match="this codec keeps no limits of familiar samples, so it cannot be strict",
    ):
        codec.compress(digits.test.images[:5], strict=True)
    codec.save(tmp_path / "c.st")
    assert TradeoffCodec.load(tmp_path / "c.st").familiarity is None
    main(["inspect", str(tmp_path / "a.quad"), "--codec", str(tmp_path / "c.st")])
    assert "compress cannot tell samples unlike its own" in capsys.readouterr().out


def test_features_far_from_those_fitted_are_warned_of(tmp_path):
    draw = np.random.default_rng(0)
    axes = draw.normal(size=(3, 8))
    own = (draw.normal(size=(4000, 3)) @ axes + 0.05 * draw.normal(size=(4000, 8))).astype(
        np.float32
    )
    codec = FeatureCodec().fit(own[:2000])
    codec.compress(own[2000:])
    for odd in (own[2000:] * 30, draw.normal(size=(50, 8)) * 3):
        with pytest.warns(QuadrateWarning, match="are unlike those this codec was made for"):
            codec.compress(odd)
    codec.save(tmp_path / "f.st")
    assert FeatureCodec.load(tmp_path / "f.st").familiarity == codec.familiarity
    assert FeatureCodec().fit(own[:40]).familiarity is None  # too few to know


@pytest.mark.real
@pytest.mark.skipif(not HAS_MNIST, reason="needs MNIST under QUADRATE_DATA")
@pytest.mark.parametrize("name", ZOO)
def test_what_the_documentation_says_of_the_codecs_in_the_package(name):
    mnist = load_source("mnist")
    codec = quadrate.Codec.load(name)
    codec.familiarity = known = familiarity_of(codec, codec.layers, mnist)
    assert known is not None

    def share(images: torch.Tensor) -> float:
        from quadrate.codecs.watch import measure

        return known.share_outside(measure(codec, images, codec.encode(images).numpy()))

    digits = mnist.test.images[:1000]
    assert share(mnist.test.images) <= 2e-4
    assert (
        min(
            share(images)
            for images in (
                255 - digits,
                torch.zeros_like(digits),
                foreign("noise", digits),
                foreign("white", digits),
            )
        )
        == 1
    )
    assert share(digits.roll((4, 4), (2, 3))) < 0.05
