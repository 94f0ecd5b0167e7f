"""The banana as a source.

The theory's points and constants, uniform members, the authors' representatives.
"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from quadrate.errors import QuadrateError
from quadrate.sources.symmetry import Banana
from quadrate.sources.symmetry.banana import _INNER_X, _INNER_Y
from quadrate.theory.invariance import banana_rate as theory

N = 20_000
INVARIANCES = ("rotation", "y_translation", "x_translation", "none")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("invariance", INVARIANCES)
def test_invariant_is_the_theorys(invariance):
    group = Banana(invariance)
    x = group.sample(1000, "theory")
    assert x.dtype == torch.float32 and x.shape == (1000, 2)
    np.testing.assert_allclose(
        group.invariant(x), theory.maximal_invariant(invariance, x), rtol=1e-6
    )


def test_samples_are_the_banana():
    x = Banana().sample(200_000, "law").double()
    reached = (
        torch.from_numpy(theory.density(x.numpy())).log().mean()
    )  # −h[X] in nats, if these are points of that density
    assert reached == pytest.approx(-theory.differential_entropy("none", unit="nats"), abs=0.02)
    radius = x.norm(dim=1)
    assert radius.mean() == pytest.approx(3.218, abs=0.02) and radius.std() == pytest.approx(
        1.444, abs=0.02
    )  # facts/lossyless.md, section 7


def test_rotations_are_uniform():
    x = Banana("rotation").sample(1, "one").expand(N, 2)
    members = Banana("rotation").sample_orbit(x, generator())
    angles = torch.atan2(members[:, 1], members[:, 0]) / (2 * math.pi) % 1
    assert kstest(angles.numpy(), "uniform").pvalue > 0.001


@pytest.mark.parametrize(("invariance", "free"), [("y_translation", 1), ("x_translation", 0)])
def test_translations_are_uniform_between_the_exact_quantiles(invariance, free):
    group = Banana(invariance)
    x = group.sample(N, "quantiles")
    members = group.sample_orbit(x, generator())
    assert torch.equal(members[:, 1 - free], x[:, 1 - free])
    values = np.linspace(
        -30, 30, 12_001
    )  # the law of the free coordinate is that of the other translation's M
    density = theory.invariant_density("x_translation" if free else "y_translation", values)
    below = (density.cumsum() - density / 2) * (values[1] - values[0])
    low, high = np.interp([0.1, 0.9], below, values)
    assert kstest(members[:, free].numpy(), "uniform", args=(low, high - low)).pvalue > 0.001
    assert members[:, free].min() == pytest.approx(low, abs=0.002) and members[
        :, free
    ].max() == pytest.approx(high, abs=0.002)
    assert (_INNER_Y if free else _INNER_X) == pytest.approx((low, high), abs=1e-5)


def test_representatives():
    x = torch.tensor([[3.0, 4.0], [-2.0, 0.5]])
    root = math.sqrt(0.5)
    radius = math.hypot(2, 0.5)
    torch.testing.assert_close(
        Banana("rotation").representative(x),
        torch.tensor([[-5 * root, -5 * root], [-radius * root, -radius * root]]),
    )
    assert Banana("y_translation").representative(x).tolist() == [[3.0, 0.0], [-2.0, 0.0]]
    assert Banana("x_translation").representative(x).tolist() == [[0.0, 4.0], [0.0, 0.5]]
    assert torch.equal(Banana("none").representative(x), x)
    # The error of the representative, averaged over coordinates, is half that of M: the distortion
    # of the published objective.
    assert Banana("rotation").representative(x).square().mean(1) * 2 == pytest.approx(
        x.square().sum(1)
    )


def test_no_such_invariance():
    with pytest.raises(
        QuadrateError,
        match="must be one of rotation, y_translation, x_translation, none; got 'scale'",
    ):
        Banana("scale")
