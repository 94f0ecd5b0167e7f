"""A small codec with tables, and images for it."""

import pytest
import torch

from codecs_made import make, source_of
from quadrate.codecs import TradeoffCodec


@pytest.fixture(scope="module")
def codec() -> TradeoffCodec:
    return make(decoders=("faithful", "realistic"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return source_of(seed=1).train.images[:100]
