"""Feature codecs on numbers of every size and type, and on data frames.

A receiver sees what `transform` says.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from quadrate.codecs import FeatureCodec
from quadrate.errors import QuadrateError


def error_of(received, features) -> float:
    return float(
        np.square(np.asarray(received, np.float64) - np.asarray(features, np.float64)).mean()
    )


@pytest.mark.parametrize("klt", [True, False])
def test_a_mean_beyond_float32_costs_no_precision(klt):
    features = 1e8 + np.random.default_rng(0).normal(size=(2000, 8))
    codec = FeatureCodec(mse=0.01, klt=klt).fit(features)
    received = codec.decompress(codec.compress(features))
    assert codec.dtype == received.dtype == np.float64
    assert error_of(received, features) == pytest.approx(0.01, rel=0.05)
    np.testing.assert_array_equal(received, codec.transform(features))
    np.testing.assert_array_equal(
        codec.decompress(codec.compress(features), dtype="float64"), received
    )


def test_integers_beyond_float32_are_numbers_too(tmp_path):
    times = (1_700_000_000 + np.random.default_rng(0).integers(0, 10**4, size=(2000, 3))).astype(
        np.int64
    )
    codec = FeatureCodec(mse=100.0).fit(times)
    codec.save(tmp_path / "times.safetensors")
    received = FeatureCodec.load(tmp_path / "times.safetensors").decompress(codec.compress(times))
    assert error_of(received, times) == pytest.approx(100, rel=0.05)
    np.testing.assert_array_equal(received, codec.transform(times))
    assert codec.compress(torch.from_numpy(times)) == codec.compress(times)


def test_features_that_float32_holds_come_as_float32():
    features = np.random.default_rng(0).normal(3, 1, size=(500, 8))
    codec = FeatureCodec().fit(features)
    assert codec.dtype == codec.decompress(codec.compress(features)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-300, -90, -50, 63, 100, 500])
def test_features_of_any_size_are_coded_alike(power, dtype):
    if dtype == np.float32 and abs(power) > 110:
        pytest.skip("float32 does not hold such numbers")
    usual = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    features = (usual * np.float64(2.0**power)).astype(dtype)
    codec = FeatureCodec(klt=True).fit(features)
    other = FeatureCodec(klt=True).fit(usual.astype(dtype))
    data = codec.compress(features)
    assert len(data) == pytest.approx(len(other.compress(usual.astype(dtype))), rel=0.01)
    for received in (codec.decompress(data), codec.transform(features)):
        assert error_of(received.astype(np.float64) / 2.0**power, usual) == pytest.approx(
            0.01, rel=0.05
        )


def test_a_target_is_scaled_with_the_features():
    features = np.random.default_rng(0).normal(size=(1000, 4)) * 1e19
    codec = FeatureCodec(mse=1e36).fit(features)
    assert error_of(codec.transform(features) / 1e19, features / 1e19) == pytest.approx(
        0.01, rel=0.05
    )
    rate = FeatureCodec(rate_bits=16).fit(features)
    assert len(rate.compress(features)) * 8 / 1000 == pytest.approx(16, rel=0.1)


def test_constant_features_cost_nothing_whatever_their_size():
    for value in (0.0, 0.1, 1e30, 1e-30):
        features = np.full((100, 4), value)
        codec = FeatureCodec().fit(features)
        assert len(codec.compress(features)) < 200
        np.testing.assert_allclose(codec.transform(features), features)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.int16, torch.int64, torch.float64]
)
def test_tensors_of_every_type_are_fitted_and_coded(dtype):
    features = (torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    codec = FeatureCodec().fit(features)
    received = codec.decompress(codec.compress(features))
    variance = float(features.double().var(0, correction=0).mean())
    assert error_of(received, features.double().numpy()) < 0.02 * variance
    assert codec.transform(features.requires_grad_(dtype.is_floating_point)).shape == (100, 4)


def test_complex_features_are_refused():
    with pytest.raises(ValueError, match="[Cc]omplex"):
        FeatureCodec().fit(torch.zeros(4, 2, dtype=torch.complex64))


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 100], columns=["a", "b", "c"]
    )


def test_columns_of_a_data_frame_are_told_apart_by_name(tmp_path):
    data = frame()
    codec = FeatureCodec().fit(data)
    codec.save(tmp_path / "frame.safetensors")
    for one in (codec, FeatureCodec.load(tmp_path / "frame.safetensors")):
        assert list(one.feature_names_in_) == ["a", "b", "c"]
        assert one.compress(data) == codec.compress(data.to_numpy())
        assert list(one.get_feature_names_out()) == ["a", "b", "c"]
        for other in (data[["c", "b", "a"]], data.rename(columns={"a": "x"})):
            with pytest.raises(QuadrateError, match="feature names should match"):
                one.compress(other)
            with pytest.raises(ValueError, match="feature names should match"):
                one.transform(other)


def test_a_codec_without_names_takes_any_data_frame(tmp_path):
    codec = FeatureCodec().fit(frame().to_numpy())
    codec.save(tmp_path / "c.safetensors")
    assert not hasattr(FeatureCodec.load(tmp_path / "c.safetensors"), "feature_names_in_")
    assert codec.compress(frame()) == codec.compress(frame().to_numpy())
