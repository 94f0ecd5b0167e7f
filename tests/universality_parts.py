"""Sources and settings that the tests of universal representations share."""

import numpy as np
from hypothesis import settings


def settle(examples):
    return settings(deadline=None, derandomize=True, max_examples=examples)


def random_letters(seed, n=4, m=3, labels=2):
    """A pmf, coordinates on the line, an encoder p(z|x), p(s|x) and a frozen classifier c(s|x̂)."""
    random = np.random.default_rng(seed)
    pmf, encoder = random.dirichlet(np.ones(n)), random.dirichlet(np.ones(m) / 2, size=n)
    return (
        pmf,
        random.normal(size=n),
        encoder,
        random.dirichlet(np.ones(labels) / 2, size=n),
        random.dirichlet(np.ones(labels), size=n),
    )


def squares(points, others=None):
    return (points[:, None] - (points if others is None else others)) ** 2
