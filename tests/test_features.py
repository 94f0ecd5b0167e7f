"""Features through the closed-form codec: targets met, files, scikit-learn's rules, codec files.

And the fit against what theory says.
"""

import io
import pickle

import numpy as np
import pytest
import safetensors.numpy
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from quadrate.bottlenecks.closed_form import ROWS, fit_closed_form
from quadrate.bottlenecks.rounding import RATE_WEIGHT
from quadrate.codecs import Batch, FeatureCodec, QuadDataset, QuadFile, quad
from quadrate.coding.container import Reader
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.training.bottleneck_fits import fit_factorized
from tensor_files import contents, rewrite


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Scikit-learn's digits: sparse, bounded, correlated, with constant coordinates."""
    return (load_digits().data / 16).astype(np.float32)


def gaussian(sigmas, count, seed=0, rotate=False, mean=0.0):
    draw = np.random.default_rng(seed)
    plain = draw.normal(size=(count, len(sigmas))) * sigmas
    axes = (
        np.linalg.qr(np.random.default_rng(99).normal(size=(len(sigmas),) * 2))[0]
        if rotate
        else np.eye(len(sigmas))
    )
    return (plain @ axes + mean).astype(np.float32)


def disk_bits(codec, features):
    return 8 * len(codec.compress(features)) / len(features)


def error_of(codec, features):
    return float(np.square(codec.transform(features) - features, dtype=np.float64).mean())


SIGMAS = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.01])

# --- the fit ---


@pytest.mark.parametrize("klt", [False, True])
@pytest.mark.parametrize("optimize_rate", [False, True])
@pytest.mark.parametrize("mse", [1e-3, 0.03, 0.6])
def test_the_error_is_the_one_asked_for(klt, optimize_rate, mse):
    codec = FeatureCodec(mse=mse, klt=klt, optimize_rate=optimize_rate).fit(
        gaussian(SIGMAS, 12_000, rotate=klt)
    )
    assert error_of(codec, gaussian(SIGMAS, 12_000, seed=1, rotate=klt)) == pytest.approx(
        mse, rel=0.04
    )


@pytest.mark.parametrize("klt", [False, True])
@pytest.mark.parametrize("rate_bits", [1.0, 8.0, 40.0])
def test_the_rate_is_the_one_asked_for(klt, rate_bits):
    codec = FeatureCodec(rate_bits=rate_bits, klt=klt).fit(gaussian(SIGMAS, 12_000, rotate=klt))
    assert disk_bits(codec, gaussian(SIGMAS, 12_000, seed=1, rotate=klt)) == pytest.approx(
        rate_bits, rel=0.02, abs=0.15
    )


def test_fine_quantization_costs_a_quarter_of_a_bit_more_than_the_bound():
    sigmas, mse = np.array([4.0, 2.0, 1.0, 0.5]), 1e-3
    codec = FeatureCodec(mse=mse).fit(gaussian(sigmas, 16_000, rotate=True))
    bound = np.log2(
        sigmas / np.sqrt(mse)
    ).sum()  # reverse water-filling, all variances above the water
    assert disk_bits(codec, gaussian(sigmas, 16_000, seed=1, rotate=True)) == pytest.approx(
        bound + 4 * 0.5 * np.log2(2 * np.pi * np.e / 12), abs=0.15
    )


def test_water_filling_drops_what_is_below_the_water():
    codec = FeatureCodec(mse=0.06, klt=False).fit(gaussian(SIGMAS, 12_000))
    assert (
        codec.transform_.kept.tolist() == [0, 1, 2, 3] and codec.models[0].columns == 4
    )  # 0.25² is above the water, and not worth its bits
    assert len(set(codec.models[0].steps.tolist())) == 1


def test_principal_axes_and_weighing_save_bits(features):
    train, test = features[:1200], features[1200:]
    codecs = {
        (klt, optimize): FeatureCodec(mse=2e-3, klt=klt, optimize_rate=optimize).fit(train)
        for klt in (False, True)
        for optimize in (False, True)
    }
    assert all(error_of(codec, test) == pytest.approx(2e-3, rel=0.15) for codec in codecs.values())
    bits = {key: codec.models[0].bits(codec.encode(test).numpy()) for key, codec in codecs.items()}
    assert bits[False, True] < bits[False, False] and bits[True, True] < bits[True, False]
    rotated = gaussian(SIGMAS, 4000, rotate=True)
    assert disk_bits(FeatureCodec(mse=0.01).fit(rotated), rotated) < 0.8 * disk_bits(
        FeatureCodec(mse=0.01, klt=False).fit(rotated), rotated
    )


def sparse(count, seed=0):
    """Like features behind a ReLU.

    Most are zero, and those that depend on each other do so weakly.
    """
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(count, 24)) + 0.5 * draw.normal(size=(count, 1))
    return np.maximum(mixed - 1.2, 0).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "target", "axes"),
    [
        ("sparse", {"mse": 3e-4}, False),
        ("sparse", {"rate_bits": 60.0}, False),
        ("rotated", {"mse": 0.01}, True),
        ("rotated", {"rate_bits": 9.0}, True),
    ],
)
def test_by_default_it_takes_axes_where_they_pay(name, target, axes):
    train, test = (
        sparse(6000, s) if name == "sparse" else gaussian(SIGMAS, 6000, seed=s, rotate=True)
        for s in (0, 1)
    )
    chosen = FeatureCodec(**target).fit(train)
    other = FeatureCodec(**target, klt=not axes).fit(train)
    assert (chosen.transform_.basis is not None) == axes
    measure = disk_bits if "mse" in target else error_of
    assert measure(chosen, test) < 0.97 * measure(other, test)


def test_axes_that_are_fitted_to_noise_do_not_win():
    train, test = gaussian(np.ones(40), 60), gaussian(np.ones(40), 4000, seed=1)
    chosen = FeatureCodec(rate_bits=30.0).fit(train)
    assert chosen.transform_.basis is None
    assert error_of(chosen, test) < error_of(
        FeatureCodec(rate_bits=30.0, klt=True).fit(train), test
    )


def test_the_closed_form_needs_no_more_bits_than_the_learned_one():
    train, test = gaussian(SIGMAS[:4], 6000), gaussian(SIGMAS[:4], 6000, seed=1)
    trained = fit_factorized(torch.from_numpy(train), beta=0.02, epochs=8, batch=512)
    learned = FeatureCodec.from_bottleneck(trained.freeze())
    closed = FeatureCodec(mse=error_of(learned, train), klt=False, optimize_rate=False).fit(train)
    assert error_of(closed, test) == pytest.approx(error_of(learned, test), rel=0.01)
    assert disk_bits(closed, test) < 1.01 * disk_bits(learned, test)


def test_tables_of_few_samples_lean_on_the_gaussian_and_of_many_on_the_histogram():
    draw = np.random.default_rng(3)
    for few in (20, 60):
        codec = FeatureCodec(mse=0.01, klt=False).fit(gaussian(np.ones(8), few, seed=4))
        assert codec.models[0].bits(codec.encode(gaussian(np.ones(8), 4000)).numpy()) / 4000 < 8 * (
            np.log2(np.sqrt(2 * np.pi * np.e / 0.12)) + 0.4
        )
    two = (
        np.where(draw.random((ROWS, 1)) < 0.5, -1, 1) + draw.normal(size=(ROWS, 1)) * 0.05
    )  # far from a Gaussian
    codec = FeatureCodec(mse=0.05**2 / 4, klt=False).fit(two)
    assert (
        disk_bits(codec, two)
        < 1 + np.log2(np.sqrt(2 * np.pi * np.e)) + np.log2(0.05 / codec.models[0].steps[0]) + 0.1
    )


def test_more_samples_than_rows_and_a_mean_far_away():
    many = gaussian(SIGMAS[:3], 3 * ROWS, mean=1e4)
    codec = FeatureCodec(mse=0.01).fit(many)
    assert error_of(codec, many) == pytest.approx(0.01, rel=0.02)


def test_features_without_variance_cost_nothing():
    constant = np.full((500, 4), 7.5)
    codec = FeatureCodec().fit(constant)
    np.testing.assert_allclose(codec.decompress(codec.compress(constant)), constant, atol=1e-6)
    assert len(codec.compress(constant)) < 250


def test_an_outlier_in_training_spoils_neither_search_nor_tables():
    plain = gaussian(SIGMAS[:4], 8000)
    codec = FeatureCodec(mse=0.01, klt=False).fit(plain)
    odd = plain.copy()
    odd[5] = 1e5
    spoilt = FeatureCodec(mse=0.01, klt=False).fit(odd)
    assert (
        error_of(spoilt, plain) == pytest.approx(0.01, rel=0.02)
        and disk_bits(spoilt, plain) < disk_bits(codec, plain) + 0.2
    )
    assert (
        spoilt.models[0].tables.frequencies.shape[1]
        < 2 * codec.models[0].tables.frequencies.shape[1]
    )


def test_rare_features_that_are_far_away_are_still_coded():
    codec = FeatureCodec(mse=0.01).fit(gaussian(SIGMAS[:4], 2000))
    odd = gaussian(SIGMAS[:4], 100, seed=2)
    odd[17] *= 1000
    np.testing.assert_allclose(
        codec.decompress(codec.compress(odd)), codec.transform(odd), rtol=1e-5, atol=1e-4
    )
    assert np.abs(codec.transform(odd)[17] - odd[17]).max() < 1


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "one target"),
        ({"mse": 0.1, "rate_bits": 8.0}, "one target"),
        ({"mse": 0.0}, "the target is 0.0; mse must be positive"),
        ({"rate_bits": -1.0}, "the target is -1.0; rate_bits must be positive"),
        ({"mse": float("nan")}, "the target is nan"),
        ({"mse": 1e-12}, "ask for a larger mse"),
        ({"rate_bits": 1e4}, "or fewer rate_bits"),
    ],
)
def test_targets_that_cannot_be_met(targets, message):
    with pytest.raises(QuadrateError, match=message):
        fit_closed_form(gaussian(SIGMAS, 500), **targets)


def test_a_target_above_the_variance_codes_one_column_of_zeros():
    codec = FeatureCodec(mse=100.0).fit(gaussian(SIGMAS, 500))
    assert codec.models[0].columns == 1 and not codec.encode(gaussian(SIGMAS, 50)).any()


# --- files ---


@pytest.fixture(scope="module")
def codec(features) -> FeatureCodec:
    return FeatureCodec(mse=1e-3, klt=True).fit(features[:1000])


def test_a_file_gives_what_the_receiver_was_said_to_see(codec, features):
    data = codec.compress(
        features, labels=load_digits().target, names=[str(i) for i in range(len(features))]
    )
    received = codec.decompress(data)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, codec.transform(features), atol=1e-6)
    part = codec.decompress(data, samples=slice(5, 900, 7), dtype="float64")
    np.testing.assert_allclose(part, received[5:900:7], atol=1e-6)
    with Reader(data) as reader:
        assert reader.header.shape == (64,) and reader.header.fields == ("labels", "names")
        assert (
            8 * len(reader.read(0).payloads[0])
            <= codec.models[0].bits(codec.encode(features).numpy()) + 96
        )
    with QuadFile(data, codec) as file:
        (piece,) = file.pieces(slice(3, 6))
        assert piece.labels.tolist() == load_digits().target[3:6].tolist() and piece.names == [
            "3",
            "4",
            "5",
        ]


def test_every_kind_of_input_gives_the_same_bytes(codec, features, tmp_path):
    part = np.ascontiguousarray(features[:50])
    expected = codec.compress(part)
    kinds = [
        part.tolist(),
        torch.from_numpy(part),
        torch.from_numpy(part).requires_grad_(),
        np.asfortranarray(part),
        part[::-1].copy()[::-1],
        part.astype(">f4"),
    ]
    kinds += [
        part.astype(np.float16),
        torch.from_numpy(part).bfloat16(),
        torch.from_numpy(part).double(),
        np.frombuffer(part.tobytes(), "f4").reshape(part.shape),
    ]
    for kind in kinds:
        assert codec.compress(kind) == expected
    with pytest.warns(
        QuadrateWarning, match="50 of 50 samples"
    ):  # sixteen times as large as those it was fitted to
        assert codec.compress((part * 16).astype(np.uint8)) == codec.compress(part * 16)
    assert (
        codec.compress(part, to=tmp_path / "a.quad") is None
        and (tmp_path / "a.quad").read_bytes() == expected
    )
    np.testing.assert_array_equal(codec.decompress(tmp_path / "a.quad"), codec.decompress(expected))
    target = io.BytesIO()
    quad.compress(codec, [Batch(part[:20]), Batch(torch.from_numpy(part[20:]).double())], target)
    assert target.getvalue() == expected


def test_appending_and_chunks(codec, features, tmp_path):
    path = tmp_path / "a.quad"
    codec.compress(features[:100], to=path, chunk=30)
    assert quad.append(codec, [Batch(features[100:130])], path) == 30
    with Reader(path) as reader:
        assert reader.index[:, 1].tolist() == [30, 30, 30, 10, 30]
    np.testing.assert_allclose(
        codec.decompress(path), codec.decompress(codec.compress(features[:130])), atol=1e-6
    )


def test_no_samples_make_a_file(codec):
    data = codec.compress(np.zeros((0, 64), np.float32))
    assert codec.decompress(data).shape == (0, 64)


def test_long_vectors_make_small_chunks():
    wide = np.zeros((3000, 2048), np.float32)
    wide[:, 0] = np.arange(3000)
    with Reader(FeatureCodec(mse=0.1, klt=False).fit(wide).compress(wide)) as reader:
        assert reader.index[:, 1].tolist() == [1024, 1024, 952]


def test_a_data_set_of_features(codec, features):
    data = codec.compress(features[:20], labels=range(20))
    items = QuadDataset(data, codec)
    vector, label = pickle.loads(pickle.dumps(items))[7]
    assert label == 7
    np.testing.assert_allclose(vector, codec.transform(features[:20])[7], atol=1e-6)
    assert QuadDataset(data, codec, "latents")[7][0].shape == (codec.models[0].columns,)
    with pytest.raises(QuadrateError, match="an item is features, latents, labels; got 'pixels'"):
        QuadDataset(data, codec, "pixels")


def test_what_does_not_fit(codec, features):
    data = codec.compress(features[:10])
    with pytest.raises(QuadrateError, match="not fitted yet"):
        FeatureCodec().compress(features)
    with pytest.raises(QuadrateError, match="written by another codec"):
        FeatureCodec(mse=2e-3).fit(features).decompress(data)
    with pytest.raises(
        QuadrateError,
        match="features come as a floating point type such as float32; got dtype 'uint8'",
    ):
        codec.decompress(data, dtype="uint8")
    with pytest.raises(QuadrateError, match="no decoder 'sharp'; this codec has features"):
        quad.decompress(codec, data, decoder="sharp", dtype="float32")
    for wrong, message in (
        (features[:, :63], r"takes features of shape \(64,\); got \(63,\)"),
        (features[0], r"features come as \(N, D\); got shape \(64,\)"),
        (features.astype(complex), "features are real numbers; got complex"),
        (np.full((2, 64), np.nan), "not finite"),
        ([["a"] * 64], "features are real numbers"),
    ):
        with pytest.raises(QuadrateError, match=message):
            codec.compress(wrong)
    with pytest.raises(QuadrateError, match="labels of 10 features are 10 integers"):
        codec.compress(features[:10], labels=[1])


# --- scikit-learn ---


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_own_checks():
    check_estimator(FeatureCodec(rate_bits=4.0))


def test_in_a_pipeline_quantized_features_predict_as_well(features):
    target = load_digits().target
    plain = (
        LogisticRegression(max_iter=3000)
        .fit(features[:1200], target[:1200])
        .score(features[1200:], target[1200:])
    )
    pipeline = make_pipeline(FeatureCodec(rate_bits=64.0), LogisticRegression(max_iter=3000)).fit(
        features[:1200], target[:1200]
    )
    assert pipeline.score(features[1200:], target[1200:]) > plain - 0.02
    assert clone(pipeline[0]).get_params() == {
        "mse": None,
        "rate_bits": 64.0,
        "klt": None,
        "optimize_rate": True,
        "backbone": None,
        "device": "cpu",
    }


# --- codec files ---


@pytest.mark.parametrize("klt", [False, True])
def test_saved_and_loaded_it_reads_the_same_files(features, tmp_path, klt):
    codec = FeatureCodec(mse=1e-3, klt=klt).fit(features)
    data = codec.compress(features[:100])
    codec.save(tmp_path / "codec.safetensors")
    again = FeatureCodec.load(tmp_path / "codec.safetensors")
    assert again.get_params() == codec.get_params() and again.models[0].rate_weight == RATE_WEIGHT
    assert again.compress(features[:100]) == data
    np.testing.assert_array_equal(again.decompress(data), codec.decompress(data))
    np.testing.assert_array_equal(again.transform(features), codec.transform(features))


def test_codec_files_that_are_none(codec, tmp_path):
    path = tmp_path / "codec.safetensors"
    with pytest.raises(QuadrateError, match="no codec at"):
        FeatureCodec.load(path)
    with pytest.raises(QuadrateError, match="not fitted yet"):
        FeatureCodec().save(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(QuadrateError, match="not a whole safetensors file"):
        FeatureCodec.load(path)
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(QuadrateError, match="not a Quadrate codec"):
        FeatureCodec.load(path)
    codec.save(path)
    whole = path.read_bytes()
    arrays = {name: tensor.numpy() for name, tensor in contents(path)[1].items()}
    for change in (
        {"model/steps": arrays["model/steps"][1:]},
        {"model/steps": -arrays["model/steps"]},
        {"model/lows": arrays["model/lows"][:0]},
        {"transform/kept": arrays["transform/kept"] + 60},
        {
            "transform/kept": arrays["transform/kept"][1:],
            "transform/basis": arrays["transform/basis"][:, 1:].copy(),
        },
        {"transform/basis": arrays["transform/basis"].T.copy()},
        {"model/frequencies": None},
        {"model/rate_weight": np.zeros(0)},
    ):
        path.write_bytes(whole)
        rewrite(path, tensors=change)
        with pytest.raises(QuadrateError, match=f"^{path}: "):
            FeatureCodec.load(path)
    for parameters in ("{", "[]", '{"colour": 1}', "1"):
        path.write_bytes(whole)
        rewrite(path, {"parameters": parameters})
        with pytest.raises(QuadrateError, match="description is damaged"):
            FeatureCodec.load(path)
