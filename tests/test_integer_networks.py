"""Networks in integers: exact in any order of summation, and refused where they are not."""

import math

import numpy as np
import pytest
import torch

from quadrate.bottlenecks.integer_network import FRACTION_BITS, INPUT_LIMIT, IntegerNetwork
from quadrate.errors import QuadrateError

# --- integers ---


def exact(network: IntegerNetwork, inputs: np.ndarray) -> np.ndarray:
    """The same in Python's integers."""
    h = inputs.clip(-INPUT_LIMIT, INPUT_LIMIT).astype(object) << FRACTION_BITS
    for layer, (weight, bias, shift) in enumerate(
        zip(network.weights, network.biases, network.shifts, strict=True)
    ):
        h = np.clip(h, 0, (1 << 28) - 1) if layer else h
        h = (h @ weight.T.astype(object) + bias.astype(object)) >> shift.astype(object)
    return h.astype(np.int64)


def random_network(sizes=(7, 50, 60, 9), gain: float = 1.0, seed: int = 0) -> IntegerNetwork:
    draw = np.random.default_rng(seed)
    layers = [
        (gain * draw.normal(size=(b, a)) / math.sqrt(a), gain * draw.normal(size=b))
        for a, b in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    return IntegerNetwork.quantized(layers)


@pytest.mark.parametrize("gain", [0.01, 1.0, 300.0])
def test_the_network_is_exact_whatever_the_inputs(gain):
    network = random_network(gain=gain)
    draw = np.random.default_rng(1)
    inputs = np.concatenate(
        [
            draw.integers(-20, 20, (300, 7)),
            draw.choice([-INPUT_LIMIT, INPUT_LIMIT, 2**31], (300, 7)),
        ]
    )
    np.testing.assert_array_equal(network(inputs), exact(network, inputs))


def test_batches_threads_and_the_order_of_sums_change_nothing():
    network = random_network()
    inputs = np.random.default_rng(2).integers(-(1 << 15), 1 << 15, (1000, 7))
    expected = network(inputs)
    assert len(np.unique(expected)) > 1000
    np.testing.assert_array_equal(np.concatenate([network(one[None]) for one in inputs]), expected)
    order = np.random.default_rng(3).permutation(1000)
    np.testing.assert_array_equal(
        network(inputs.astype(np.float32)[order].astype(np.int64)), expected[order]
    )
    np.testing.assert_array_equal(network(np.asfortranarray(inputs)), expected)
    into, out = np.random.default_rng(4).permutation(7), np.random.default_rng(5).permutation(50)
    first, second, third = network.weights
    mixed = (first[out][:, into], second[:, out], third)
    biases = (network.biases[0][out], *network.biases[1:])
    shifts = (
        network.shifts[0][out],
        *network.shifts[1:],
    )
    np.testing.assert_array_equal(IntegerNetwork(mixed, biases, shifts)(inputs[:, into]), expected)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        h = torch.from_numpy(inputs * 2.0**FRACTION_BITS)
        for layer, (weight, bias, scale) in enumerate(network._carried):
            h = h.clamp(0, (1 << 28) - 1) if layer else h
            h = torch.floor(
                (h @ torch.from_numpy(weight) + torch.from_numpy(bias)) * torch.from_numpy(scale)
            )
        np.testing.assert_array_equal(h.numpy(), expected)
    torch.set_num_threads(1)


def test_in_integers_a_network_says_what_it_said_in_floating_point():
    draw = np.random.default_rng(0)
    layers = [
        (draw.normal(size=(b, a)) / math.sqrt(a), draw.normal(size=b))
        for a, b in ((7, 50), (50, 60), (60, 9))
    ]
    inputs = draw.integers(-20, 20, (500, 7))
    h = inputs.astype(float)
    for layer, (weight, bias) in enumerate(layers):
        h = (np.maximum(h, 0) if layer else h) @ weight.T + bias
    np.testing.assert_allclose(
        IntegerNetwork.quantized(layers)(inputs) * 2.0**-FRACTION_BITS, h, atol=4e-3
    )


def test_networks_that_are_not_exact_are_refused():
    for weight in (np.full((2, 3), 1e9), np.full((2, 3), np.nan)):
        with pytest.raises(QuadrateError, match="not finite, or too large for exact integers"):
            IntegerNetwork.quantized([(weight, np.zeros(2))])
