"""What an invariant compressor is trained for (Dubois et al. 2021).

Plain and invariant reconstruction, and contrast.
"""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.config import Likelihood
from quadrate.errors import QuadrateError


class Reconstruction(nn.Module):
    """How far a decoder's output is from its target.

    A member itself (VC), or the representative of its orbit (VIC).

    Args:
        decoder: What is received, (n, d), to the target's shape; logits for "bernoulli".
        likelihood: "gaussian", the squared error averaged over coordinates; "bernoulli", the
            cross-entropy summed over pixels, nats.
    """

    def __init__(self, decoder: nn.Module, likelihood: Likelihood = "gaussian") -> None:
        super().__init__()
        if likelihood not in get_args(Likelihood):
            raise QuadrateError(
                f"likelihood must be one of {', '.join(get_args(Likelihood))}; got {likelihood!r}"
            )
        self.decoder, self.likelihood = decoder, likelihood

    def forward(self, received: Tensor, target: Tensor) -> Tensor:
        """(n, d) and the target (n, ...) to a distortion a sample, (n,)."""
        output = self.decoder(received)
        target = target.to(output.dtype)
        if self.likelihood == "gaussian":
            return (output - target).square().flatten(1).mean(1)
        return (
            F.binary_cross_entropy_with_logits(output, target, reduction="none").flatten(1).sum(1)
        )


class Contrast(nn.Module):
    """The bottleneck InfoNCE.

    Among N candidates, which second view shares the orbit of a first one.

    Its cross-entropy D bounds the information that the code holds on the orbit: I(Z;M) >= ln N - D,
    for one view against the N second views of a batch of independent samples (van den Oord et al.
    2018; Poole et al. 2019). Candidates of the same orbit count as wrong, which only loosens it.

    Args:
        dims: d of what is received.
        width: Of the hidden layer, and of the space where views are compared.
    """

    def __init__(self, dims: int, width: int = 128) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dims, width), nn.ReLU(), nn.Linear(width, width))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, received: Tensor, other: Tensor) -> Tensor:
        """Two views' received codes, (n, d) each, to the cross-entropy a sample in nats, (n,)."""
        first, second = (F.normalize(self.project(view), dim=1) for view in (received, other))
        logits = first @ second.T * self.log_scale.clamp(max=math.log(100.0)).exp()  # (n, n)
        return F.cross_entropy(
            logits, torch.arange(len(logits), device=logits.device), reduction="none"
        )


def information_bound_bits(
    contrast: Contrast, received: Tensor, other: Tensor, batch: int
) -> tuple[float, float]:
    """The InfoNCE bound on I(Z;M) of hard-quantized codes of held-out samples.

    Log2 N - CE with N = `batch` candidates, and its standard error.

    Args:
        contrast: The trained critic.
        received: First views' received codes, (n, d), n a multiple of `batch`.
        other: Second views', independently quantized.
        batch: N, the number of candidates.

    Raises:
        QuadrateError: If n is no multiple of `batch`, or there are fewer than two batches.
    """
    if len(received) % batch or len(received) < 2 * batch or len(other) != len(received):
        raise QuadrateError(
            f"the bound is averaged over two or more batches of {batch}; got {len(received)} and"
            f" {len(other)} samples"
        )
    with torch.no_grad():
        nats = torch.stack(
            [
                contrast(a, b).mean()
                for a, b in zip(received.split(batch), other.split(batch), strict=True)
            ]
        ).double()
    bits = (math.log(batch) - nats) / math.log(2)
    return float(bits.mean()), float(bits.std() / math.sqrt(len(bits)))
