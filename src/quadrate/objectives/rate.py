"""Rate: what the symbols cost, where a bottleneck learns to make them cheap."""

from __future__ import annotations

from torch import Tensor

from quadrate.errors import QuadrateError
from quadrate.objectives.term import Batch


def rate_nats(batch: Batch) -> Tensor:
    """Average the rate over the samples, nats a sample, (K,).

    It is the cross-entropy of the received latents under the bottleneck's density, which is what an
    ideal coder of its symbols spends (Ballé et al. 2017).

    Raises:
        QuadrateError: If the rate of the bottleneck is not learned.
    """
    if batch.rate_nats is None:
        raise QuadrateError("the rate of this bottleneck is fixed, so it is no term of a loss")
    return batch.rate_nats.mean(1)
