"""The cost of a dithered code in bits: the conditional entropy H(Z|U) given the shared dither.

It is counted if possible (`quadrate.bottlenecks.counted_entropy`), and otherwise bounded by a small
model: `autoregressive-upper-bound` is the model's cross-entropy on held-out latents, which is an
upper bound in expectation and cannot saturate. As its cost grows with the square of the dimensions,
codes of more than 128 are bounded by counts of each dimension.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quadrate.bottlenecks.counted_entropy import (
    EntropyEstimate,
    check_code,
    counted_entropy,
    is_countable,
)
from quadrate.evaluation.yardsticks import descend

MAX_MODEL_DIMS = 128  # the longest code that is modelled jointly

HIDDEN = 32
BATCH = 512
LEARNING_RATE = 2e-2
SCORING_DITHERS = 8  # fresh dithers that a held-out latent is scored with
SCORING_CHUNK = 4096  # held-out latents scored at once, to bound the memory


def conditional_entropy_bits(
    train_latents: Tensor,
    held_out_latents: Tensor,
    levels: tuple[int, ...],
    *,
    dithers: int = 256,
    seed: int = 0,
    steps: int = 2000,
) -> EntropyEstimate:
    """Estimate H(Z|U), the bits of an ideal coder for a sample quantized with a shared dither.

    It is counted if the joint alphabet has at most 4096 cells and there are at least four training
    latents for each; otherwise it is bounded, by a learned model up to 128 dimensions and by each
    dimension's own frequencies beyond. Random draws come from a local generator, so the result
    depends on the arguments only.

    Args:
        train_latents: Encoder outputs f(x) of the training images in [-1, 1], shape (N, d).
        held_out_latents: The same of held-out images, shape (M, d), for the bounds.
        levels: The number of levels of each latent dimension, each at least 2; (d,).
        dithers: The number of dither vectors, a multiple of 8, over which the counts of short codes
            are averaged. All training latents share each of them.
        seed: Seed of the dithers and of the learned model.
        steps: Training steps of the learned model; more of them tighten the bound. With 0, each
            dimension's own frequencies bound short codes too.

    Returns:
        The estimate in bits a sample, its standard error and its method.

    Raises:
        QuadrateError: If the shapes, the levels or `dithers` do not fit, or a latent lies outside
            [-1, 1].

    References:
        G. Miller (1955), "Note on the bias of information estimates": the correction of (K - 1)/2N
            nats for K occupied cells.
        J. Ziv (1985), "On universal quantization": H(Z|U) = I(f; f + e) with e uniform on a cell
            and independent of f.
    """
    check_code(train_latents, held_out_latents, levels, dithers)
    if not steps or is_countable(train_latents, levels) or len(levels) > MAX_MODEL_DIMS:
        return counted_entropy(train_latents, held_out_latents, levels, dithers=dithers, seed=seed)
    rng = np.random.Generator(np.random.Philox(seed))
    return _learned(
        train_latents.detach().float(), held_out_latents.detach().float(), levels, steps, rng
    )


def _learned(
    train: Tensor, held_out: Tensor, levels: tuple[int, ...], steps: int, rng: np.random.Generator
) -> EntropyEstimate:
    """Cross-entropy on held-out latents of a model of the training latents, with fresh dithers."""

    def fresh_dither(latents: Tensor) -> Tensor:  # drawn on the CPU: the same on every device
        return torch.from_numpy(rng.random(latents.shape, dtype=np.float32)).to(latents.device)

    with torch.inference_mode(False):  # whatever mode the caller is in
        model = _SymbolModel(levels, rng, train.device)

    def loss(step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(train), size=BATCH)).to(train.device)
        batch = train[chosen]  # (B, d)
        return model.bits(batch, fresh_dither(batch)).mean()

    # The decay is a prior worth a fixed number of samples: it stops a thousand latents from being
    # learnt by heart, and 50,000 do not feel it.
    decay = 1000 / (len(train) + 100)
    optimizer = torch.optim.AdamW(
        model.parameters, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=decay
    )
    descend(optimizer, loss, steps)
    with torch.no_grad():
        scores = []
        for chunk in held_out.split(SCORING_CHUNK):
            each = [model.bits(chunk, fresh_dither(chunk)) for _ in range(SCORING_DITHERS)]
            scores.append(torch.stack(each).mean(0))
    sample_bits = torch.cat(scores).double()  # (M,)
    # log2 L for each symbol bounds it without a model, and better if the model overfits.
    bits = min(sample_bits.mean().item(), sum(math.log2(count) for count in levels))
    stderr = sample_bits.std().item() / math.sqrt(len(held_out))
    return EntropyEstimate(bits, stderr, "autoregressive-upper-bound")


class _SymbolModel:
    """Distributions p(z_i | u_i, y_<i) of the symbols in turn: a small network for each dimension.

    All networks run as one batched product. y is the dequantized latent, the level of z minus u.
    z_j and u_j tell about f_j only that it is within half a step of y_j, and f does not depend on
    the dither; so y_<i is as informative as (u, z_<i), and the sum over i is the chain rule of
    H(Z|U).
    """

    def __init__(
        self, levels: tuple[int, ...], rng: np.random.Generator, device: torch.device
    ) -> None:
        dims, widest = len(levels), max(levels)
        self.top = torch.tensor(levels, device=device) - 1  # (d,) the highest symbol
        # (d, 1, L): levels that a dimension does not have; (d, 1, d): coordinates before its own.
        self.missing = torch.arange(widest, device=device) > self.top[:, None, None]
        self.earlier = torch.ones(dims, dims, device=device).tril(-1)[:, None]
        self.parameters: list[Tensor] = []
        # The last scale is 0, to start from uniform symbols.
        layers = (dims + 1, HIDDEN, 2.0), (HIDDEN, HIDDEN, 2.0), (HIDDEN, widest, 0.0)
        for fan_in, fan_out, scale in layers:
            weight = rng.standard_normal((dims, fan_in, fan_out), dtype=np.float32)
            weight = weight * math.sqrt(scale / fan_in)
            bias = np.zeros((dims, 1, fan_out), dtype=np.float32)
            for array in (weight, bias):
                self.parameters.append(torch.from_numpy(array).to(device).requires_grad_())

    def bits(self, latents: Tensor, fraction: Tensor) -> Tensor:
        """Code lengths -log2 p(z | u), (B,), of latents (B, d).

        Each has its own dither, given as a fraction of the cell, (B, d).
        """
        places = (latents + 1) / 2 * self.top + fraction
        symbols = torch.minimum(places.long(), self.top)  # (B, d)
        received = (symbols + 0.5 - fraction) / self.top * 2 - 1  # (B, d)
        w1, b1, w2, b2, w3, b3 = self.parameters
        h = torch.cat([received * self.earlier, 2 * fraction.T[:, :, None] - 1], 2)  # (d, B, d + 1)
        h = F.silu(torch.baddbmm(b1, h, w1))  # (d, B, H)
        h = F.silu(torch.baddbmm(b2, h, w2))  # (d, B, H)
        logits = torch.baddbmm(b3, h, w3).masked_fill(self.missing, -math.inf)  # (d, B, L)
        nats = F.cross_entropy(logits.permute(1, 2, 0), symbols, reduction="none")  # (B, d)
        return nats.sum(1) / math.log(2)
