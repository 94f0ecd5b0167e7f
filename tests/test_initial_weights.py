"""Initial weights are a function of the point alone; the global generator never moves."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from quadrate.config import InvariantConfig, OperatingPoint, TrainingConfig
from quadrate.core import draws
from quadrate.networks.family import CLASSIFIERS, FAMILIES
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training import Task, Trainer, train_judge
from quadrate.training.bottleneck_fits import fit_factorized, fit_hyperprior
from quadrate.training.invariant_trainer import train_invariant


def as_after_manual_seed(build, key):
    """What version 0.1 made in one thread."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key)
        return build()


class Odd(nn.Module):
    """Draws in all the ways there are."""

    def __init__(self):
        super().__init__()
        numbers = [
            torch.rand(3, 5),
            torch.randn(40),
            torch.randint(9, (7,)),
            torch.randint(3, 9, (7,)),
            torch.randperm(9),
        ]
        numbers += [
            torch.rand_like(numbers[1]),
            torch.randn_like(numbers[0]),
            torch.normal(0.0, 1.0, (4,)),
            torch.rand(4, dtype=torch.float64),
        ]
        numbers += [
            torch.bernoulli(torch.full((9,), 0.5)),
            nn.functional.dropout(torch.ones(50)),
            torch.multinomial(torch.ones(5), 3),
        ]
        numbers += [
            torch.poisson(torch.ones(4)),
            torch.empty(5).exponential_(),
            nn.init.orthogonal_(torch.empty(4, 4)),
        ]
        numbers += [
            nn.init.trunc_normal_(torch.empty(4, 4)),
            nn.init.sparse_(torch.empty(4, 4), 0.5),
            torch.rand(3),
        ]
        for i, tensor in enumerate(numbers):
            self.register_buffer(f"tensor{i}", tensor)
        self.layer = nn.LSTM(3, 4)


BUILDS = {
    **{
        f"{family.name} {role}": (family, role)
        for family in FAMILIES.values()
        for role in ("encoder", "decoder", "critic")
    },
    **{f"{name} classifier": kind for name, kind in CLASSIFIERS.items()},
    "odd": None,
}


def builder(name):
    kind = BUILDS[name]
    if kind is None:
        return Odd
    if not isinstance(kind, tuple):
        return lambda: kind((1, 28, 28), 10)
    family, role = kind
    shape = (3, 32, 32) if "colour" in family.name else (1, 28, 28)
    return lambda: getattr(family, role)(shape, *([] if role == "critic" else [3]))


@pytest.mark.parametrize("name", BUILDS)
def test_the_numbers_are_those_of_version_0_1_in_one_thread(name):
    for key in (5, 2**64 - 3):
        expected = as_after_manual_seed(builder(name), key).state_dict()
        before = torch.get_rng_state()
        state = draws.build_with_seed(builder(name), key).state_dict()
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(expected[tensor], state[tensor]) for tensor in expected)


@contextmanager
def others_drawing():
    """Other threads that draw from the global generator all the time."""
    done = threading.Event()

    def draw():
        while not done.is_set():
            torch.rand(3)

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def weights(module) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in module.state_dict().values()])


def test_trainers_built_in_several_threads_while_others_draw_are_those_built_alone(digits):
    task = Task(digits, FAMILIES["compact"], None, TrainingConfig())
    points = [OperatingPoint((3, 3), lambda_p=0.1, seed=seed) for seed in range(8)]

    def build(point):
        return Trainer(task, [point]).prepare().networks(0)

    alone = [build(point) for point in points]
    encoder = as_after_manual_seed(
        lambda: FAMILIES["compact"].encoder(digits.shape, 2),
        draws.key(0, points[0].key, "encoder") >> 1,
    )
    assert all(
        torch.equal(tensor, alone[0]["encoder"][name])
        for name, tensor in encoder.state_dict().items()
    )
    with others_drawing(), ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for expected, found in zip(alone, pool.map(build, points), strict=True):
                assert all(
                    torch.equal(expected[role][name], found[role][name])
                    for role in expected
                    for name in expected[role]
                )


def test_judges_invariant_compressors_and_bottlenecks_do_not_depend_on_other_threads(digits):
    features = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    data = dihedral_patterns(2, [0.5, 0.5])
    makers = [
        lambda: weights(train_judge(digits, "dense", epochs=1, report=None).module),
        lambda: weights(
            train_invariant(
                data, InvariantConfig(dims=2, steps=3, batch=8, polish=0.0), None
            ).encoder
        ),
        lambda: weights(fit_factorized(features, 0.1, density="network", epochs=1)),
        lambda: weights(fit_hyperprior(features, 0.1, epochs=1)),
    ]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    alone = [make() for make in makers]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda make: make(), makers * 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(
        torch.equal(expected, found) for expected, found in zip(alone * 2, together, strict=True)
    )
