"""Discrete sources: closed forms, certificates, properties, and awkward inputs."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog
from scipy.stats import norm

from quadrate.theory.channels import DiscreteChannel, GaussianChannel
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.discrete import Discrete, programs, solve
from quadrate.theory.discrete.transport import rounded, transport_cost
from quadrate.theory.functions import classification, distortion, measure, rate

# H(S|X̂) of an ideal classifier is bounded from above, and says so; test_theory_extremes.py tests
# that.
pytestmark = pytest.mark.filterwarnings("ignore::quadrate.theory.LocalOptimumWarning")
DIVERGENCES = ["w2", "tv", "kl", "chi2", "hellinger"]
checked = settings(deadline=None, derandomize=True, max_examples=15)
seeds = st.integers(0, 10**6)
unit_interval = st.floats(0.0, 1.0)


def binary_entropy(p: float) -> float:
    """Nats."""
    return 0.0 if p <= 0 or p >= 1 else -p * math.log(p) - (1 - p) * math.log(1 - p)


def binary_source(a: float, flip: float | None = None) -> Discrete:
    labels = None if flip is None else [[1 - flip, flip], [flip, 1 - flip]]
    return Discrete([1 - a, a], 1 - np.eye(2), labels)


def gaussian_source(letters: int, bins: int | None = None) -> Discrete:
    """N(0,1) on ±4.5; with bins, a label of variance ½ and correlation .9."""
    x = np.linspace(-4.5, 4.5, letters)
    pmf = np.exp(-(x**2) / 2)
    labels = None
    if bins:
        edges = np.linspace(-4.5, 4.5, bins + 1) * math.sqrt(0.5)
        labels = np.diff(
            norm.cdf((edges - 0.9 * math.sqrt(0.5) * x[:, None]) / math.sqrt(0.5 * (1 - 0.81))),
            axis=1,
        )
        labels /= labels.sum(axis=1, keepdims=True)
    return Discrete(pmf / pmf.sum(), (x[:, None] - x) ** 2, labels)


def random_source(seed: int, letters: int = 4) -> Discrete:
    random = np.random.default_rng(seed)
    x = np.sort(random.normal(size=letters))
    labels = random.dirichlet(np.ones(2), letters)
    classifier = random.dirichlet(np.ones(2), letters)
    return Discrete(random.dirichlet(np.ones(letters)), (x[:, None] - x) ** 2, labels, classifier)


def binary_rdp(p: float, d: float, perception: float) -> float:
    """Blau & Michaeli's Bernoulli example (2019), total variation, p ≤ ½; nats."""
    if perception >= p:
        return max(binary_entropy(p) - binary_entropy(min(d, p)), 0.0)
    q = 1 - p
    first, second = perception / (1 - 2 * (p - perception)), 2 * p * q - (q - p) * perception
    if d < first:
        return binary_entropy(p) - binary_entropy(d)
    if d >= second:
        return 0.0

    def ternary(alpha: float, beta: float) -> float:
        return -sum(t * math.log(t) for t in (alpha, beta, 1 - alpha - beta) if t > 0)

    mixed = ternary((d - perception) / 2, p) + ternary((d + perception) / 2, q)
    return 2 * binary_entropy(p) + binary_entropy(p - perception) - mixed


def binary_rdc(a: float, flip: float, d: float, c: float) -> float:
    """H(a) − H(min(D, C1, a)) in nats; at crossover C1 H(C1*flip) = c (Wang et al.)."""
    if c < binary_entropy(flip):
        return math.inf
    inverse = 0.5 if c >= math.log(2) else brentq(lambda t: binary_entropy(t) - c, 0, 0.5)
    return binary_entropy(a) - binary_entropy(min(d, (inverse - flip) / (1 - 2 * flip), a))


@checked
@given(st.floats(0.02, 0.5), unit_interval, unit_interval)
def test_binary_rdp_meets_the_closed_form(p: float, d_share: float, p_share: float) -> None:
    d, perception = d_share * 2 * p, p_share * 1.1 * p
    expected = binary_rdp(p, d, perception)
    assert rate(binary_source(p), d, perception, divergence="tv", unit="nats") == pytest.approx(
        expected, abs=1e-6
    )
    # With Hamming distortion the transport cost is the total variation.
    assert rate(binary_source(p), d, perception, divergence="w2", unit="nats") == pytest.approx(
        expected, abs=1e-6
    )


@checked
@given(st.floats(0.1, 0.5), st.floats(0.01, 0.3), unit_interval, st.floats(0.05, 1.0))
def test_binary_rdc_meets_the_closed_form(
    a: float, flip: float, d_share: float, c_share: float
) -> None:
    least, most = binary_entropy(flip), binary_entropy(a * (1 - flip) + (1 - a) * flip)
    d, c = 0.02 + d_share * a, least + c_share * (most - least)
    source = binary_source(a, flip)
    for asked in (d, math.inf):
        assert rate(source, asked, classification=c, unit="nats") == pytest.approx(
            binary_rdc(a, flip, asked, c), abs=1e-6
        )


@pytest.mark.parametrize(
    ("a", "flip", "d", "c", "bits"),
    [(0.5, 0.1, 0.1, 0.8, 0.5310044064107188), (0.2, 0.05, 0.05, 0.6, 0.43553113777140606)],
)
def test_published_binary_rdc(a: float, flip: float, d: float, c: float, bits: float) -> None:
    assert rate(binary_source(a, flip), d, classification=c) == pytest.approx(bits, abs=1e-6)


@pytest.mark.parametrize(
    ("p", "d", "perception", "bits"),
    [(0.1, 0.1, 0.02, 0.06900403310390302), (0.3, 0.2, 0.05, 0.17345135818675383)],
)
def test_published_binary_rdp(p: float, d: float, perception: float, bits: float) -> None:
    assert rate(binary_source(p), d, perception, divergence="tv") == pytest.approx(bits, abs=1e-6)


@pytest.mark.parametrize(
    ("a", "flip", "d", "perception", "c", "bits"),
    [(0.3, 0.1, 1.0, 0.0, 0.8, 0.20704014828029868), (0.2, 0.1, 0.2, 0.0, 0.7, 0.2245230566539568)],
)
def test_published_binary_rdpc(
    a: float, flip: float, d: float, perception: float, c: float, bits: float
) -> None:
    assert rate(binary_source(a, flip), d, perception, c, divergence="tv") == pytest.approx(
        bits, abs=1e-6
    )


@pytest.mark.parametrize(("divergence", "d", "perception", "nats"), [
    ("w2", 0.5, 0.0, 0.41333928659223396),
    ("w2", 0.5, 0.02, 0.3660214364460014),
    ("w2", 0.7, 0.05, 0.20626242668039055),
    ("kl", 0.5, 0.0, 0.41333928659223396),
    ("kl", 0.5, 0.03, 0.36011886058246595),
    ("kl", 0.7, 0.06, 0.20399149301361502),
    ("kl", 0.5, 0.2, 0.34657359027997264),
])  # fmt: skip
def test_discretized_gaussian_rdp(
    divergence: str, d: float, perception: float, nats: float
) -> None:
    # A transport on a grid moves in whole steps, so it takes a finer one.
    source = gaussian_source(129 if divergence == "w2" else 65)
    assert rate(source, d, perception, divergence=divergence, unit="nats") == pytest.approx(
        nats, abs=1e-3
    )


def test_discretized_gaussian_label() -> None:
    source = gaussian_source(49, 161)
    width = math.log(9 * math.sqrt(0.5) / 161)
    for d, c, nats in ((math.inf, 0.9, 0.22313228635063428), (0.55, 0.9, 0.2989185003778102)):
        assert rate(source, d, classification=c - width, unit="nats") == pytest.approx(
            nats, abs=1e-3
        )


def test_remote_label_only_matters_through_the_classifier() -> None:
    """A frozen classifier's cross-entropy is never below H(S|X̂), so it never needs less rate."""
    source = random_source(3)
    ideal = Discrete(source.pmf, source.distortion, source.label_channel)
    point = measure(ideal, DiscreteChannel(np.eye(4)), unit="nats")
    c = 0.7 * float(point.classification) + 0.3 * ideal.label_entropies[1]
    assert rate(ideal, classification=c) <= rate(source, classification=c) + 1e-7


@pytest.mark.parametrize("divergence", DIVERGENCES)
@settings(deadline=None, derandomize=True, max_examples=5)
@given(seeds, st.tuples(*[st.floats(-2, 2)] * 3))
def test_certificates(divergence: str, seed: int, logarithms: tuple[float, float, float]) -> None:
    """What the dual bound promises, no channel undercuts: neither the one found nor random ones."""
    source = random_source(seed, 6)
    weights = 10.0 ** np.array(logarithms)
    found = solve(source, *weights, divergence=divergence, unit="nats")
    assert found.converged and 0 <= found.gap <= 1e-7
    random = np.random.default_rng(seed)
    for spread in (0.1, 1.0, 10.0):
        matrix = 0.9 * found.channel.matrix + 0.1 * random.dirichlet(np.full(6, spread), 6)
        point = measure(source, DiscreteChannel(matrix), divergence=divergence, unit="nats")
        value = point.rate + weights @ np.array(
            [point.distortion, point.perception, point.classification]
        )
        assert value >= found.lagrangian - found.gap - 1e-9


@pytest.mark.parametrize("divergence", DIVERGENCES)
@settings(deadline=None, derandomize=True, max_examples=3)
@given(seeds)
def test_monotone_convex_and_limits(divergence: str, seed: int) -> None:
    source = random_source(seed)
    everything = solve(source, 2.0, 1.0, 1.0, divergence=divergence, unit="nats")
    bounds = np.array([everything.distortion, everything.perception, everything.classification])
    steps = np.linspace(1.0, 2.0, 4)
    rates = rate(source, *(bounds[:, None] * steps), divergence=divergence, unit="nats")
    assert (np.diff(rates) <= 1e-6).all()
    assert (rates[:-2] - 2 * rates[1:-1] + rates[2:] >= -1e-6).all()
    whole = rates[0]
    for parts in ((0,), (0, 1), (0, 2), (1, 2)):
        some = [bounds[k] if k in parts else math.inf for k in range(3)]
        assert rate(source, *some, divergence=divergence, unit="nats") <= whole + 1e-6
    assert rate(source, bounds[0], 1e6, 1e6, divergence=divergence) == pytest.approx(
        rate(source, bounds[0]), abs=1e-6
    )
    assert rate(source) == pytest.approx(0, abs=1e-6)


def test_units() -> None:
    source = random_source(0)
    in_nats, in_bits = (
        solve(source, 2.0, 1.0, 1.0, divergence="kl", unit=unit) for unit in ("nats", "bits")
    )
    for name in ("rate", "perception", "classification"):
        assert getattr(in_bits, name) * math.log(2) == pytest.approx(getattr(in_nats, name))
    for name in ("distortion", "lagrangian", "gap"):
        assert getattr(in_bits, name) == getattr(in_nats, name)
    total = in_nats.rate + 2 * in_nats.distortion + in_nats.perception + in_nats.classification
    assert in_nats.lagrangian == pytest.approx(total, abs=1e-8)
    assert rate(source, in_nats.distortion) * math.log(2) == pytest.approx(
        rate(source, in_nats.distortion, unit="nats")
    )


@pytest.mark.parametrize(("d", "perception", "c"), [
    (math.inf, math.inf, 0.1), (math.inf, math.inf, -1.0), (0.01, 0.01, 0.45),
])  # fmt: skip
def test_infeasible_is_inf(d: float, perception: float, c: float) -> None:
    source = Discrete([0.5, 0.5], 1 - np.eye(2), [[0.9, 0.1], [0.1, 0.9]], [[0.6, 0.4], [0.3, 0.7]])
    found, channel = rate(
        source, d, perception, c, divergence="tv", unit="nats", return_channel=True
    )
    assert found == math.inf and np.isnan(channel.matrix).all()


def test_jointly_infeasible_is_found_by_the_dual() -> None:
    """Each bound alone can be met; the distortion that the transport leaves cannot."""
    source = Discrete([0.5, 0.3, 0.2], [[0.2, 0.0, 1.0], [1.0, 0.3, 0.0], [0.0, 1.0, 0.4]])
    assert (
        rate(source, 0.05) < math.inf and rate(source, perception=0.01, divergence="kl") < math.inf
    )
    assert rate(source, 0.05, 0.01, divergence="kl") == math.inf
    assert rate(source, 0.05, 0.0, divergence="kl") == math.inf


def test_binary_label_below_its_floor_is_infeasible() -> None:
    assert rate(binary_source(0.4, 0.1), 0.05, classification=0.46) == math.inf


def test_edges_of_the_rate_function() -> None:
    source = random_source(1)
    entropy = -float(source.pmf @ np.log(source.pmf))
    assert rate(source, 0.0, unit="nats") == pytest.approx(entropy, abs=1e-6)
    assert rate(source, 0.0, 0.0, divergence="kl", unit="nats") == pytest.approx(entropy, abs=1e-6)
    ceiling = float((source.pmf @ source.distortion).min())
    assert rate(source, ceiling, unit="nats") == pytest.approx(0, abs=1e-6)
    independent = float(source.pmf @ source.distortion @ source.pmf)
    for divergence in DIVERGENCES:
        assert rate(source, independent, 0.0, divergence=divergence, unit="nats") == pytest.approx(
            0, abs=1e-6
        )
    assert solve(source).rate == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_small_perception_bounds(divergence: str) -> None:
    source = gaussian_source(17)
    rates = rate(source, 0.5, [1e-4, 1e-6, 1e-8, 0.0], divergence=divergence, unit="nats")
    assert (np.diff(rates) >= 0).all()
    assert rates[-2] == pytest.approx(rates[-1], abs=1e-4)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_letters_of_no_mass_and_duplicates(divergence: str) -> None:
    source = Discrete(
        [0.5, 0.0, 0.3, 0.2], [[0, 1, 4, 4], [1, 0, 1, 1], [4, 1, 0, 0], [4, 1, 0, 0]]
    )
    found, channel = rate(
        source, 0.6, 0.05, divergence=divergence, unit="nats", return_channel=True
    )
    point = measure(source, channel, divergence=divergence, unit="nats")
    assert point.rate == pytest.approx(found, abs=1e-9)
    assert point.distortion <= 0.6 + 1e-7 and point.perception <= 0.05 + 1e-7
    if divergence in ("kl", "chi2"):
        assert channel.matrix[:, 1].max() == 0
    if divergence == "w2":
        merged = Discrete([0.5, 0.0, 0.5], [[0, 1, 4], [1, 0, 1], [4, 1, 0]])
        assert found == pytest.approx(rate(merged, 0.6, 0.05, unit="nats"), abs=1e-6)


def test_classifier_zeros_forbid() -> None:
    """A letter that means one label for certain is not used where the label may differ."""
    source = Discrete(
        [0.4, 0.6], np.zeros((2, 3)), [[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    )
    found = solve(source, classification_weight=3.0, unit="nats")
    assert found.channel.matrix[1, 0] == 0 and found.channel.matrix[:, 2].max() == 0
    assert math.isfinite(found.classification)
    hopeless = Discrete(
        [0.4, 0.6], np.zeros((2, 2)), [[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]]
    )
    assert rate(hopeless, classification=1.0) == math.inf
    assert measure(hopeless, DiscreteChannel(np.eye(2))).classification == math.inf


def test_inverses_on_the_binary_source() -> None:
    source = binary_source(0.3, 0.1)
    nats = binary_entropy(0.3) - binary_entropy(0.12)
    assert distortion(source, nats, unit="nats") == pytest.approx(0.12, abs=1e-6)
    assert distortion(source, [0.0, 10.0], unit="nats") == pytest.approx([0.3, 0.0], abs=1e-6)
    expected = binary_entropy(0.12 * 0.9 + 0.88 * 0.1)
    assert classification(source, nats, unit="nats") == pytest.approx(expected, abs=1e-5)
    # The rate is flat to first order here, so that its tolerance of 1e-7 nats is one of some 1e-4
    # in distortion.
    assert distortion(source, 0.0, perception=0.0, divergence="tv") == pytest.approx(
        2 * 0.3 * 0.7, abs=5e-4
    )
    assert distortion(source, 1.0, classification=0.1) == math.inf


def test_a_local_method_reports_no_gap() -> None:
    found = solve(binary_source(0.3, 0.1), 0.5, 0.0, 1.5, unit="nats")
    assert math.isnan(found.gap) and found.converged and found.residual <= 1e-7
    assert found.lagrangian == pytest.approx(
        found.rate + 0.5 * found.distortion + 1.5 * found.classification, abs=1e-6
    )


def test_iterations_do_not_grow_with_the_alphabet() -> None:
    """Newton's method: some ten steps where Blahut-Arimoto needs thousands."""
    for letters in (17, 65):
        source = gaussian_source(letters)
        assert solve(source, 2.0).iterations <= 25
        assert solve(source, 2.0, 1.0, divergence="kl").iterations <= 20


def test_unconverged_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = programs.solve_program
    monkeypatch.setattr(
        programs,
        "solve_program",
        lambda program, tolerance: stopped(program, tolerance, iterations=2),
    )
    with pytest.warns(ConvergenceWarning, match="stopped after 2 iterations at a duality gap of"):
        found = solve(gaussian_source(9), 2.0)
    assert not found.converged and found.gap > 1e-7


@checked
@given(seeds, st.integers(2, 6), st.booleans())
def test_transport_cost_is_the_linear_program(seed: int, letters: int, ordered: bool) -> None:
    random = np.random.default_rng(seed)
    first, second = random.dirichlet(np.ones(letters), 2)
    x = np.sort(random.normal(size=letters))
    cost = np.abs(x[:, None] - x) ** 1.5 if ordered else random.random((letters, letters))
    sums = np.vstack(
        [np.kron(np.eye(letters), np.ones(letters)), np.kron(np.ones(letters), np.eye(letters))]
    )
    reference = linprog(cost.ravel(), A_eq=sums[:-1], b_eq=np.concatenate([first, second])[:-1]).fun
    assert transport_cost(first, second, cost) == pytest.approx(reference, abs=1e-9)
    plan = rounded(random.random((letters, letters)), first, second)
    assert (
        plan.min() >= 0
        and plan.sum(axis=1) == pytest.approx(first)
        and plan.sum(axis=0) == pytest.approx(second)
    )


GOOD = {
    "pmf": [0.5, 0.5],
    "distortion": [[0, 1], [1, 0]],
    "label_channel": [[1, 0], [0, 1]],
    "classifier": [[1, 0], [0, 1]],
}


@pytest.mark.parametrize(("argument", "value", "message"), [
    ("pmf", [0.5, 0.6], "pmf must be a distribution"),
    ("pmf", [[0.5, 0.5]], "pmf must have shape"),
    ("distortion", [[0, 1]], "distortion must have shape \\(2, any\\)"),
    ("distortion", [[0, -1], [1, 0]], "distortion must have shape \\(2, any\\)"),
    ("distortion", [[0, math.nan], [1, 0]], "distortion must hold"),
    ("distortion", [[0, -math.inf], [1, 0]], "distortion must hold"),
    ("label_channel", [[1, 0]], "label_channel must have shape \\(2, any\\)"),
    ("label_channel", [[1, 0], [0.5, 0.6]], "label_channel must be a distribution in every row"),
    ("label_channel", None, "classifier must come with a label_channel"),
    ("classifier", [[1, 0, 0], [0, 1, 0]], "classifier must have shape \\(2, 2\\)"),
])  # fmt: skip
def test_bad_sources(argument: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Discrete(**{**GOOD, argument: value})


@pytest.mark.parametrize(("arguments", "message"), [
    ({"distortion_weight": -1.0}, "distortion_weight must be a finite number >= 0"),
    ({"perception_weight": math.inf}, "perception_weight must be a finite number"),
    ({"classification_weight": 1.0}, "classification_weight needs a source with a label_channel"),
    ({"divergence": "js"}, "divergence must be one of w2, tv, kl, chi2, hellinger"),
    ({"unit": "bit"}, "unit must be 'bits' or 'nats'"),
    ({"tolerance": 0.0}, "tolerance must be a finite number > 0"),
])  # fmt: skip
def test_bad_solves(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(Discrete(GOOD["pmf"], GOOD["distortion"]), **arguments)


def test_bad_questions() -> None:
    wide = Discrete([0.5, 0.5], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="perception needs a source whose X̂ has the letters of X"):
        rate(wide, perception=0.1)
    with pytest.raises(
        ValueError, match="perception_weight needs a source whose X̂ has the letters of X"
    ):
        solve(wide, perception_weight=0.1)
    assert math.isnan(solve(wide).perception)
    source = Discrete(**GOOD)
    with pytest.raises(ValueError, match="common_randomness must be inf"):
        rate(source, 0.1, common_randomness=1.0)
    with pytest.raises(ValueError, match="classifier_sees_randomness must be False"):
        rate(source, 0.1, classifier_sees_randomness=True)
    with pytest.raises(ValueError, match="channel must be a DiscreteChannel"):
        measure(source, GaussianChannel(np.ones(()), np.ones(())))
    with pytest.raises(ValueError, match="channel must be a DiscreteChannel"):
        measure(source, DiscreteChannel(np.eye(3)))


def test_measure_by_hand() -> None:
    source = Discrete([0.5, 0.5], 1 - np.eye(2), [[1, 0], [0, 1]])
    point = measure(
        source,
        DiscreteChannel(np.array([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]]])),
        divergence="chi2",
    )
    assert point.rate == pytest.approx([0.31127812445913283, 0.0])
    assert point.distortion == pytest.approx([0.25, 0.5])
    assert point.perception == pytest.approx([0.25, 1.0])
    assert point.classification == pytest.approx([0.6887218755408672, 1.0])
    expected = {"kl": 1.0, "tv": 0.5, "w2": 0.5, "hellinger": 2 - math.sqrt(2)}
    for divergence, value in expected.items():
        assert measure(
            source, DiscreteChannel(np.array([[1.0, 0.0], [1.0, 0.0]])), divergence=divergence
        ).perception == pytest.approx(value)


def test_arrays_keep_their_shape() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, channel = rate(
            binary_source(0.3),
            [[0.1], [0.2]],
            [0.0, 0.1, math.inf],
            divergence="tv",
            return_channel=True,
        )
    assert found.shape == (2, 3) and channel.matrix.shape == (2, 3, 2, 2)
