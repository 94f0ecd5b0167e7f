"""Small tasks to train, and networks that are compared."""

import torch
from torch import Tensor

from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.networks.family import Family, find_family
from quadrate.sources import Source
from quadrate.training import Task

COMPACT = find_family("compact")


BALANCED = tuple(
    OperatingPoint((3, 3), d, p, c, seed)
    for d, p, c, seed in ((1.0, 0.05, 0.0, 0), (1.0, 0.01, 0.05, 0), (0.0, 0.1, 0.02, 1))
)


def task(
    source: Source, judge=None, family: Family = COMPACT, terms=(), train_encoder=True, **settings
) -> Task:
    config = TrainingConfig(**{"epochs": 2, "batch": 32, "precision": "float32", **settings})
    return Task(
        source, family, judge.module if judge else None, config, train_encoder, tuple(terms)
    )


def weights(network) -> dict[str, Tensor]:
    return network.member(0)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
