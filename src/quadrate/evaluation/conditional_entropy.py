"""How many bits a dithered code costs: the conditional entropy H(Z|U) given the shared dither.

Counted where that is possible (`quadrate.bottlenecks.counted_entropy`), else bounded by a small
model: `autoregressive-upper-bound` is its cross-entropy on held-out latents, which errs upwards
only and cannot saturate. As its cost grows with the square of the dimensions, codes of more than
128 are bounded by counts of each dimension.
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
    """Estimates H(Z|U), the bits a sample that an ideal coder spends on symbols quantized with a
    shared uniform dither.

    Counted where the joint alphabet has at most 4096 cells and the training latents at least four
    samples for each; bounded otherwise, by a learned model up to 128 dimensions and by each
    dimension's own frequencies beyond. Random draws come from a local generator, so the result
    depends on the arguments only.

    Args:
        train_latents: Encoder outputs f(x) over the training images in [-1, 1], shape (N, d).
        held_out_latents: The same over images that trained nothing, shape (M, d). Only the bounds
            use them.
        levels: The number of levels of each latent dimension, each at least 2; (d,).
        dithers: How many dither vectors the counts of short codes are averaged over, a multiple of
            8. All training latents share each of them.
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
    """Cross-entropy on held-out latents of a model trained on the training latents, with fresh dithers throughout."""

    def fresh_dither(
        latents: Tensor,
    ) -> Tensor:  # drawn on the CPU, so that it is the same for every device
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
        chunks = held_out.split(SCORING_CHUNK)
        scores = [
            torch.stack(
                [model.bits(chunk, fresh_dither(chunk)) for _ in range(SCORING_DITHERS)]
            ).mean(0)
            for chunk in chunks
        ]
    sample_bits = torch.cat(scores).double()  # (M,)
    # log2 L a symbol is an upper bound that needs no model, and the better one where the model
    # overfits.
    bits = min(sample_bits.mean().item(), sum(math.log2(count) for count in levels))
    return EntropyEstimate(
        bits, sample_bits.std().item() / math.sqrt(len(held_out)), "autoregressive-upper-bound"
    )


class _SymbolModel:
    """Distributions p(z_i | u_i, y_<i) of the symbols in turn.

    A small network a dimension, all run as one batched product.

    y is what the decoder receives, the level of z less u. All that z_j and u_j say about f_j is
    that it lies within half a step of y_j, and f does not depend on the dither; so this
    conditioning loses nothing against (u, z_<i), and the sum over i is the chain rule of H(Z|U).
    """

    def __init__(
        self, levels: tuple[int, ...], rng: np.random.Generator, device: torch.device
    ) -> None:
        dims, widest = len(levels), max(levels)
        self.top = torch.tensor(levels, device=device) - 1  # (d,) the highest symbol
        self.missing = (
            torch.arange(widest, device=device) > self.top[:, None, None]
        )  # (d, 1, L) levels that a dimension does not have
        self.earlier = torch.ones(dims, dims, device=device).tril(-1)[
            :, None
        ]  # (d, 1, d) which coordinates precede a dimension's own
        self.parameters: list[Tensor] = []
        for fan_in, fan_out, scale in (
            (dims + 1, HIDDEN, 2.0),
            (HIDDEN, HIDDEN, 2.0),
            (HIDDEN, widest, 0.0),
        ):  # last 0: starts from uniform symbols
            weight = rng.standard_normal((dims, fan_in, fan_out), dtype=np.float32) * math.sqrt(
                scale / fan_in
            )
            bias = np.zeros((dims, 1, fan_out), dtype=np.float32)
            self.parameters += [
                torch.from_numpy(array).to(device).requires_grad_() for array in (weight, bias)
            ]

    def bits(self, latents: Tensor, fraction: Tensor) -> Tensor:
        """Code lengths -log2 p(z | u), (B,), of latents (B, d), each under its own dither, given as a fraction of the cell (B, d)."""
        symbols = torch.minimum(
            ((latents + 1) / 2 * self.top + fraction).long(), self.top
        )  # (B, d)
        received = (symbols + 0.5 - fraction) / self.top * 2 - 1  # (B, d)
        w1, b1, w2, b2, w3, b3 = self.parameters
        h = torch.cat(
            [received * self.earlier, 2 * fraction.T[:, :, None] - 1], dim=2
        )  # (d, B, d + 1)
        h = F.silu(torch.baddbmm(b1, h, w1))  # (d, B, H)
        h = F.silu(torch.baddbmm(b2, h, w2))  # (d, B, H)
        logits = torch.baddbmm(b3, h, w3).masked_fill(self.missing, -math.inf)  # (d, B, L)
        return F.cross_entropy(logits.permute(1, 2, 0), symbols, reduction="none").sum(
            1
        ) / math.log(2)
