"""The hyperprior: what side information saves, its files, and what is refused."""

import hashlib
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from quadrate.bottlenecks.factorized import FactorizedBottleneck, LogisticMixture
from quadrate.bottlenecks.hyperprior import (
    HyperpriorBottleneck,
    _Bounded,
    _log_mass,
)
from quadrate.bottlenecks.hyperprior_model import (
    LEAST_SCALE,
    LEVELS,
    MOST_SCALE,
    HyperpriorModel,
    gaussian_tables,
)
from quadrate.bottlenecks.spatial import SpatialBottleneck, SpatialModel
from quadrate.codecs import FeatureCodec
from quadrate.coding.container import Reader
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.errors import QuadrateError
from quadrate.training.bottleneck_fits import fit_factorized, fit_hyperprior
from tensor_files import contents, rewrite

DIMS, BETA = 8, 0.02


SCALES = torch.logspace(math.log10(0.3), 1, 4)


MEANS = torch.randn(4, DIMS, generator=torch.Generator().manual_seed(7))


def source(count: int, seed: int) -> torch.Tensor:
    """One of four Gaussians, each with a scale and means of its own.

    What a few bits of side information tell.
    """
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(4, (count,), generator=generator)
    return MEANS[kind] + SCALES[kind, None] * torch.randn(count, DIMS, generator=generator)


def entropy_bits(values: torch.Tensor) -> float:
    """An estimate of the source's differential entropy: the mean of -log2 of its exact density."""
    scaled = (values[:, None].double() - MEANS) / SCALES[:, None]  # (n, 4, d)
    log_densities = (
        -0.5 * scaled.square().sum(2)
        - DIMS * torch.log(SCALES)
        - DIMS / 2 * math.log(2 * math.pi)
        - math.log(4)
    )
    return float(-torch.logsumexp(log_densities, 1).mean() / math.log(2))


TRAINING, TEST = source(4096, 0), source(4096, 1)


@pytest.fixture(scope="module")
def bottleneck() -> HyperpriorBottleneck:
    return fit_hyperprior(
        TRAINING, BETA, side_dims=3, width=48, epochs=6, batch=64, learning_rate=4e-3
    )


@pytest.fixture(scope="module")
def model(bottleneck) -> HyperpriorModel:
    return bottleneck.freeze()


@pytest.fixture(scope="module")
def codec(bottleneck) -> FeatureCodec:
    return FeatureCodec.from_bottleneck(bottleneck.freeze())


def small(seed: int = 0) -> HyperpriorBottleneck:
    """Untrained, d = 3 and k = 2, with means and scales that vary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = HyperpriorBottleneck(
            3, 2, 8, torch.tensor([0.0, 5, -5]), torch.tensor([1.0, 2, 3]), torch.full((3,), -1.0)
        )
    with torch.no_grad():
        made.analysis[-1].weight.mul_(8)
        made.synthesis[-1].weight.mul_(4)
    return made


def disk_bits(codec, features) -> float:
    return 8 * len(codec.compress(features)) / len(features)


# --- what it is for ---


def test_side_information_saves_bits_and_comes_close_to_the_entropy(codec):
    factorized = FeatureCodec.from_bottleneck(fit_factorized(TRAINING, BETA, epochs=4).freeze())
    learned, plain = disk_bits(codec, TEST), disk_bits(factorized, TEST)
    bound = (
        entropy_bits(TEST) - np.log2(codec.models[0].steps).sum()
    )  # cells are about as wide as the narrowest Gaussian
    assert bound - 0.1 < learned < bound + 1.3  # of 38 bits
    assert plain - np.log2(codec.models[0].steps / factorized.models[0].steps).sum() > learned + 4
    error = np.square(codec.transform(TEST.numpy()) - TEST.numpy()).mean(0)
    np.testing.assert_allclose(error, codec.models[0].steps ** 2 / 12, rtol=0.06)


class Published(HyperpriorModel):
    """The published coder's mistake: the scales stand where the means should."""

    def _predictions(self, side):
        chosen, _ = super()._predictions(side)
        return chosen, np.geomspace(LEAST_SCALE, MOST_SCALE, LEVELS)[chosen].T


def test_frozen_it_is_what_was_trained_and_scales_taken_for_means_would_show(bottleneck, model):
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(len(TEST), bottleneck.noise_columns, generator=generator) - 0.5
        _, nats = bottleneck(TEST, noise)
    received = bottleneck.dequantize(bottleneck.quantize(TEST, noise), noise)
    bits = float(nats.sum()) / math.log(2)

    def agreement(frozen) -> tuple[float, float]:
        """By how much the rate is off, and the share of numbers received that are."""
        symbols = frozen.quantize(TEST.numpy())
        payload = encode_layer(frozen, symbols, symbols[:, :0])
        assert 8 * len(payload) == pytest.approx(frozen.bits(symbols), rel=1e-3)
        return abs(8 * len(payload) / bits - 1), float(
            (np.abs(frozen.dequantize(symbols) - received.numpy()) > 0.02 * frozen.steps).mean()
        )

    rate, share = agreement(model)
    assert rate < 0.015 and share < 0.01  # a few borderline numbers are rounded the other way
    parts = (model.analysis, model.side, model.network, model.gaussians, model.steps, model.offsets)
    rate, share = agreement(Published(*parts))
    assert rate > 0.1 and share > 0.5


# --- densities ---


def test_tables_are_gaussians():
    tables = gaussian_tables()
    assert len(tables.lows) == LEVELS and tables.escape
    for level, scale in enumerate(np.geomspace(LEAST_SCALE, MOST_SCALE, LEVELS)):
        size = int(tables.sizes[level]) - 1
        x = torch.arange(size, dtype=torch.float64) + int(tables.lows[level])
        mass = (
            torch.special.ndtr((x + 0.5) / scale) - torch.special.ndtr((x - 0.5) / scale)
        ).numpy()
        shares = tables.frequencies[level, :size] / 2**16
        assert (mass * np.log2(mass / shares)).sum() < 1e-4 + 3e-5 * scale and mass.sum() > 0.999
        assert tables.lows[level] == -(size // 2)


def test_masses_and_their_gradients_keep_their_digits_far_away():
    x = torch.tensor([0.0, 3.0, -40.0, 200.0], requires_grad=True)
    log_mass = _log_mass(x, torch.ones(4))
    with torch.no_grad():
        np.testing.assert_allclose(
            log_mass, _log_mass(x.double(), torch.ones(4).double()), rtol=1e-5
        )
    edges = torch.tensor([2.5, 3.5], dtype=torch.float64)
    assert float(log_mass[1].detach()) == pytest.approx(
        math.log(float(torch.special.ndtr(-edges).diff().abs())), rel=1e-4
    )
    log_mass.sum().backward()
    np.testing.assert_allclose(x.grad[2:], [39.5, -199.5], rtol=1e-2)


def test_scales_out_of_range_can_come_back():
    log_scale = torch.tensor([-9.0, -9.0, 0.0, 9.0, 9.0], requires_grad=True)
    bounded = _Bounded.apply(log_scale)
    np.testing.assert_allclose(
        bounded.detach().exp(), [LEAST_SCALE, LEAST_SCALE, 1, MOST_SCALE, MOST_SCALE], rtol=1e-5
    )
    (bounded * torch.tensor([1.0, -1, 1, -1, 1])).sum().backward()
    assert log_scale.grad.tolist() == [0.0, -1.0, 1.0, 0.0, 1.0]


def test_gradients_reach_everything():
    made = small()
    latent = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    received, nats = made(
        latent, torch.rand(50, made.noise_columns, generator=torch.Generator().manual_seed(1)) - 0.5
    )
    assert received.shape == (50, 3) and nats.shape == (50,) and made.noise_columns == 5
    (received.square().sum() + nats.sum()).backward()
    for name, parameter in [("latent", latent), *made.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_training_is_a_function_of_the_seed():
    runs = [
        fit_hyperprior(TRAINING[:256], BETA, side_dims=2, width=8, epochs=1, seed=seed)
        for seed in (0, 0, 1)
    ]
    weights = [run.synthesis[-1].weight for run in runs]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert HyperpriorBottleneck(4).side_dims == 10 and HyperpriorBottleneck(100).side_dims == 20
    with pytest.raises(QuadrateError, match="must be positive"):
        fit_hyperprior(TRAINING, 0.0)


# --- files ---

SCRIPT = """
import hashlib, sys
import numpy as np, torch
from quadrate.codecs import FeatureCodec
torch.set_num_threads(int(sys.argv[3]))
codec = FeatureCodec.load(sys.argv[1])
data = codec.compress(np.load(sys.argv[2]))
decoded = codec.decompress(data, dtype="float64").tobytes()
print(hashlib.sha256(data).hexdigest(), hashlib.sha256(decoded).hexdigest())
"""


def test_two_processes_with_different_threads_write_and_read_the_same(codec, tmp_path):
    codec.save(tmp_path / "codec.safetensors")
    np.save(tmp_path / "features.npy", TEST.numpy())
    arguments = [
        sys.executable,
        "-c",
        SCRIPT,
        str(tmp_path / "codec.safetensors"),
        str(tmp_path / "features.npy"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    said = subprocess.run(
        [*arguments, "2"], capture_output=True, text=True, check=True, timeout=300, env=environment
    ).stdout
    assert torch.get_num_threads() == 1
    data = codec.compress(TEST)
    assert said.split() == [
        hashlib.sha256(content).hexdigest()
        for content in (data, codec.decompress(data, dtype="float64").tobytes())
    ]


def test_a_file_gives_what_the_receiver_was_said_to_see(codec, model):
    data = codec.compress(TEST, chunk=1500)
    np.testing.assert_allclose(codec.decompress(data), codec.transform(TEST.numpy()), atol=1e-5)
    with Reader(data) as reader:
        assert len(reader.index) == 3 and reader.header.columns == 3 + DIMS
        payloads = [reader.read(chunk).payloads for chunk in range(3)]
    assert all(len(layers) == 1 for layers in payloads)
    symbols = model.quantize(TEST.numpy())
    assert 8 * sum(len(stream) for (stream,) in payloads) == pytest.approx(
        model.bits(symbols), rel=1e-3, abs=3 * 64
    )
    side, main = symbols[:, :3], symbols[:, 3:]
    assert model.bits(symbols) == pytest.approx(
        model.side.bits(side) + model.gaussians.bits(main, model._predictions(side)[0].T)
    )
    np.testing.assert_allclose(
        codec.decompress(data, samples=slice(2999, 3002)), codec.decompress(data)[2999:3002]
    )


def test_far_values_escape_and_farther_ones_are_refused(model):
    values = TEST[:40].double().numpy()
    values[::2] *= 1e5
    symbols = model.quantize(values)
    payload = encode_layer(model, symbols, symbols[:, :0])
    np.testing.assert_array_equal(
        decode_layer(model, payload, symbols[:, :0], symbols[:, :0]), symbols
    )
    assert (np.abs(model.dequantize(symbols) - values) < 0.501 * model.steps).all()
    for wrong in (np.nan, np.inf, -1e12):
        values[7, 3] = wrong
        with pytest.raises(QuadrateError, match="not finite, or 2\\^30 steps or more"):
            model.quantize(values)


def test_what_is_kept_between_calls_never_answers_for_other_symbols(model):
    symbols = model.quantize(TEST[:64].numpy())
    nothing = symbols[:, :0]
    fresh = [
        pickle.loads(pickle.dumps(model)).indices(5, symbols[order], nothing)
        for order in (slice(None), slice(None, None, -1))
    ]
    assert not np.array_equal(*fresh)
    model.indices(5, symbols, nothing)
    changed = symbols.copy()
    np.testing.assert_array_equal(model.indices(5, changed, nothing), fresh[0])
    changed[:] = symbols[::-1]
    np.testing.assert_array_equal(model.indices(5, changed, nothing), fresh[1])
    assert "_kept" not in pickle.loads(pickle.dumps(model)).__dict__


def test_saved_and_loaded_it_reads_the_same_files(codec, tmp_path):
    path = tmp_path / "codec.safetensors"
    codec.save(path)
    again = FeatureCodec.load(path)
    data = codec.compress(TEST[:100])
    assert again.identities == codec.identities and again.compress(TEST[:100]) == data
    np.testing.assert_array_equal(again.decompress(data), codec.decompress(data))
    assert codec.decompress(codec.compress(TEST[:0])).shape == (0, DIMS)


def test_what_would_be_read_otherwise_has_another_identity():
    model = small().freeze()
    arrays = model.arrays()
    assert HyperpriorModel.from_arrays(arrays).identity == model.identity
    for name in (
        "steps",
        "offsets",
        "side_steps",
        "network_biases1",
        "network_weights2",
        "side_lows",
        "gaussian_lows",
    ):
        changed = arrays | {name: arrays[name] + arrays[name].dtype.type(1)}
        assert HyperpriorModel.from_arrays(changed).identity != model.identity, name
    sender = HyperpriorModel.from_arrays(
        arrays | {"analysis_biases0": arrays["analysis_biases0"] + 1}
    )
    assert sender.identity == model.identity  # how side symbols are chosen is the sender's affair


HOSTILE = {
    "steps": (
        lambda a: -a,
        lambda a: a[1:],
        lambda a: a * np.nan,
        lambda a: a[:, None],
        lambda a: a.astype("c8"),
        lambda a: None,
    ),
    "offsets": (lambda a: a + np.inf, lambda a: a[:2]),
    "gaussian_frequencies": (
        lambda a: a[:, 1:].copy(),
        lambda a: a[:0],
        lambda a: a.astype("i8"),
        lambda a: a[0],
    ),
    "gaussian_lows": (lambda a: a[1:], lambda a: a.astype("i8")),
    "side_steps": (lambda a: a * 0, lambda a: a[1:]),
    "side_frequencies": (lambda a: a * 0,),
    "network_weights0": (
        lambda a: a[:, 1:],
        lambda a: a[1:],
        lambda a: a[0],
        lambda a: a * 0 + np.iinfo("i4").max,
        lambda a: a.astype("f4"),
        lambda a: a[0, 0],
    ),
    "network_weights1": (lambda a: a[:, 1:], lambda a: None),
    "network_weights2": (lambda a: a[2:],),
    "network_biases1": (
        lambda a: a * 0 + 2**62,
        lambda a: a * 0 + np.iinfo("i8").min,
        lambda a: a[1:],
    ),
    "network_shifts2": (lambda a: a - 100, lambda a: a + 100, lambda a: a[1:]),
    "analysis_weights0": (
        lambda a: a[:, 1:],
        lambda a: a * np.nan,
        lambda a: a[0],
        lambda a: a.astype("f8"),
    ),
    "analysis_weights2": (lambda a: a[1:], lambda a: None),
    "analysis_biases1": (lambda a: a[1:], lambda a: a + np.inf, lambda a: None),
    "map_shape": (
        lambda a: np.array([3, 2]),
        lambda a: np.array([2, 2, 2]),
        lambda a: np.array([3.0, 2, 2]),
        lambda a: np.array([3, 0, 2]),
    )
    + (lambda a: np.array([3, 1 << 20, 1 << 20]),),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_codec_files_with_wrong_arrays_are_refused(name, tmp_path):
    path = tmp_path / "codec.safetensors"
    FeatureCodec.from_bottleneck(small().freeze()).save(path)
    tensors, whole = contents(path)[1], path.read_bytes()
    for change in HOSTILE[name]:
        old = tensors.get(f"model/{name}")
        path.write_bytes(whole)
        rewrite(path, tensors={f"model/{name}": change(None if old is None else old.numpy())})
        with pytest.raises(QuadrateError, match=f"^{path}[: ][^\n]*$"):
            FeatureCodec.load(path)


def test_any_symbols_are_received_as_finite_numbers(codec):
    wild = np.random.default_rng(0).choice([-(2**31), 2**31 - 1, 0, 1], (50, 3 + DIMS))
    assert torch.isfinite(codec.dequantize(torch.from_numpy(wild))).all()
    damaged = bytearray(codec.compress(TEST[:200]))
    with Reader(bytes(damaged)) as reader:
        payload = reader.read(0).payloads[0]
    nothing = np.empty((200, 0), np.int64)
    for place in range(0, len(payload), 101):
        broken = bytearray(payload)
        broken[place] ^= 0x55
        try:
            symbols = decode_layer(codec.models[0], bytes(broken), nothing, nothing)
        except QuadrateError:
            continue
        assert np.isfinite(codec.models[0].dequantize(symbols)).all()


# --- maps ---


@pytest.mark.parametrize("kind", ["hyperprior", "factorized"])
def test_maps_are_coded_site_by_site_under_the_same_tables(kind, tmp_path):
    inner = (
        small()
        if kind == "hyperprior"
        else FactorizedBottleneck(LogisticMixture(3), torch.zeros(3), torch.ones(3))
    )
    spatial = SpatialBottleneck(inner, (3, 2, 4)).requires_grad_(False)
    latent = 3 * torch.randn(30, 3, 2, 4, generator=torch.Generator().manual_seed(3))
    noise = torch.rand(30, spatial.noise_columns, generator=torch.Generator().manual_seed(4)) - 0.5
    received, nats = spatial(latent, noise)
    sites = latent.permute(0, 2, 3, 1).reshape(-1, 3)
    alone, alone_nats = inner(sites, noise.reshape(len(sites), -1))
    torch.testing.assert_close(received, alone.reshape(30, 2, 4, 3).permute(0, 3, 1, 2))
    torch.testing.assert_close(nats, alone_nats.reshape(30, 8).sum(1))

    model, single = spatial.freeze(), inner.freeze()
    assert (model.shape, model.columns) == (
        (3, 2, 4),
        8 * single.columns,
    ) and model.tables.digest == single.tables.digest
    symbols = model.quantize(latent.numpy())
    np.testing.assert_array_equal(
        symbols.reshape(-1, single.columns), single.quantize(sites.numpy())
    )
    assert model.bits(symbols) == pytest.approx(single.bits(single.quantize(sites.numpy())))

    codec = FeatureCodec.from_bottleneck(spatial.freeze())
    data = codec.compress(latent.flatten(1))
    codec.save(tmp_path / "codec.safetensors")
    again = FeatureCodec.load(tmp_path / "codec.safetensors")
    assert isinstance(again.models[0], SpatialModel) and again.compress(latent.flatten(1)) == data
    expected = spatial.dequantize(spatial.quantize(latent, noise), noise)
    close = np.isclose(again.decompress(data), expected.flatten(1), atol=0.02)
    assert close.mean() > 0.98
    with Reader(data) as reader:
        assert 8 * len(reader.read(0).payloads[0]) == pytest.approx(
            model.bits(symbols), rel=0.01, abs=64
        )


def test_maps_that_do_not_fit():
    with pytest.raises(
        QuadrateError, match="maps of 4 channels need a bottleneck of as many dimensions"
    ):
        SpatialBottleneck(small(), (4, 2, 2))
    with pytest.raises(QuadrateError, match=r"takes maps \(n, 3, 2, 2\); got \(5, 3, 2, 3\)"):
        SpatialBottleneck(small(), (3, 2, 2))(torch.zeros(5, 3, 2, 3), torch.zeros(5, 20))
    with pytest.raises(
        QuadrateError, match="the transform gives 3 coefficients, the bottleneck codes 12"
    ):
        whole = FeatureCodec.from_bottleneck(SpatialBottleneck(small(), (3, 2, 2)).freeze())
        single = FeatureCodec.from_bottleneck(small().freeze())
        FeatureCodec._of(single.transform_, whole.model_)
