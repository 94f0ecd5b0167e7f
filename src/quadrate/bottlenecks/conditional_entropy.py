"""How many bits a dithered code costs.

The conditional entropy H(Z|U) of the symbols given the shared dither.

The encoder gives f in [-1, 1]^d; dimension i has L_i levels, Delta_i = 2/(L_i - 1) apart, and its
symbol is the level nearest to f_i + u_i. Both sender and receiver know the dither u, so an ideal
entropy coder pays H(Z|U), less than the bound sum of log2 L_i. Three estimators, by how well the
samples cover the alphabet and by how long the code is:

- `miller-madow` counts the joint symbols under fixed dither vectors. Counting N samples can never
  show much more than log2 N bits, so it is used only where every cell of the alphabet has several
  samples.
- `autoregressive-upper-bound` is the cross-entropy of a small learned model on held-out latents. It
  errs upwards only, and cannot saturate.
- `marginal-upper-bound`, for codes of more than 128 dimensions, as the model's cost grows with
  their square, codes each dimension by itself: the cross-entropy of counted frequencies on held-out
  latents, under fixed dither vectors; a bound up to its standard error.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quadrate.errors import QuadrateError

MAX_CELLS = 4096  # the largest joint alphabet that is counted
# a uniform code is underestimated by 0.02 bits at 4 samples a cell, by 0.4 at 1, and so on without
# limit
MIN_SAMPLES_PER_CELL = 4
DITHER_GROUPS = 8  # independent sets of dither vectors, whose spread gives the standard error
MAX_MODEL_DIMS = 128  # the longest code that is modelled jointly
MARGINAL_DITHERS = 32  # dither vectors that a longer code's dimensions are counted under
COUNT_CHUNK = 1 << 18  # symbols counted at once: they fit the processor's cache

HIDDEN = 32
BATCH = 512
LEARNING_RATE = 2e-2
SCORING_DITHERS = 8  # fresh dithers that a held-out latent is scored with
SCORING_CHUNK = 4096  # held-out latents scored at once, to bound the memory


@dataclass(frozen=True)
class EntropyEstimate:
    """An estimate of the conditional entropy H(Z|U).

    Attributes:
        bits: Bits a sample; never above the bound sum of log2 L_i.
        stderr: Standard error of `bits`: over dither vectors for `miller-madow` (the training
            latents count as the whole population), over held-out latents for the upper bounds, and
            over dither vectors too for `marginal-upper-bound`.
        method: How it was obtained.
    """

    bits: float
    stderr: float
    method: Literal["miller-madow", "autoregressive-upper-bound", "marginal-upper-bound"]

    @property
    def is_upper_bound(self) -> bool:
        """Whether `bits` estimates an upper bound of the entropy rather than the entropy itself."""
        return self.method != "miller-madow"


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
    _check(train_latents, "training", levels)
    _check(held_out_latents, "held-out", levels)
    if dithers < 2 * DITHER_GROUPS or dithers % DITHER_GROUPS:
        raise QuadrateError(
            f"dithers must be a multiple of {DITHER_GROUPS} and at least {2 * DITHER_GROUPS}, got"
            f" {dithers}; 256 is usual"
        )
    rng = np.random.Generator(np.random.Philox(seed))
    cells = math.prod(
        levels
    )  # a Python integer, since the joint alphabet of a long code overflows every fixed width
    if cells <= MAX_CELLS and len(train_latents) >= MIN_SAMPLES_PER_CELL * cells:
        return _counted(train_latents.detach().float(), levels, dithers, rng)
    if len(levels) > MAX_MODEL_DIMS or not steps:
        return _marginal(
            train_latents.detach().float(), held_out_latents.detach().float(), levels, rng
        )
    return _learned(
        train_latents.detach().float(), held_out_latents.detach().float(), levels, steps, rng
    )


def _check(latents: Tensor, name: str, levels: tuple[int, ...]) -> None:
    if not levels or min(levels) < 2:
        raise QuadrateError(
            f"every latent dimension needs at least 2 levels, got levels {tuple(levels)}"
        )
    if latents.ndim != 2 or latents.shape[1] != len(levels):
        raise QuadrateError(
            f"the {name} latents have shape {tuple(latents.shape)}; levels {tuple(levels)} ask for"
            f" (samples, {len(levels)})"
        )
    if len(latents) < 2:
        raise QuadrateError(f"the entropy needs at least 2 {name} latents, got {len(latents)}")
    if not bool((latents.abs() <= 1).all()):  # false for NaN too
        raise QuadrateError(
            f"the {name} latents leave [-1, 1] or are not finite; end the encoder with tanh"
        )


# Both estimators draw the dither as a fraction of the cell, t = u/Delta + 1/2, uniform on [0, 1).
# In these units the nearest level to f + u is floor(p + t), where p = (f + 1)/Delta runs over 0 ..
# L-1. In float32 the sum may round up to L, hence the clamps.


def _counted(
    latents: Tensor, levels: tuple[int, ...], dithers: int, rng: np.random.Generator
) -> EntropyEstimate:
    """Mean over dither vectors of the Miller-Madow estimate of the joint entropy."""
    samples, cells = len(latents), math.prod(levels)
    positions = [
        (latents[:, i].contiguous() + 1) * ((count - 1) / 2) for i, count in enumerate(levels)
    ]  # p: d of (N,)
    entropies = []
    for chunk in (
        _stratified_dithers(dithers, len(levels), rng)
        .to(latents.device)
        .split(max(1, COUNT_CHUNK // samples))
    ):
        # The dither's number leads the joint index, so that one bincount serves the whole chunk.
        index = torch.arange(len(chunk), device=latents.device, dtype=torch.int32)[:, None]
        for position, fraction, count in zip(positions, chunk.T, levels, strict=True):
            index = index * count + (position + fraction[:, None]).to(torch.int32).clamp_(
                max=count - 1
            )  # (chunk, N)
        counts = (
            torch.bincount(index.flatten(), minlength=len(chunk) * cells)
            .view(len(chunk), cells)
            .double()
        )
        plug_in_nats = math.log(samples) - torch.xlogy(counts, counts).sum(1) / samples
        correction_nats = ((counts > 0).sum(1) - 1) / (2 * samples)
        entropies.append((plug_in_nats + correction_nats) / math.log(2))
    group_bits = torch.cat(entropies).view(DITHER_GROUPS, -1).mean(1)
    # The correction can lift a nearly uniform code above the bound, which no entropy exceeds.
    bits = min(group_bits.mean().item(), math.log2(cells))
    return EntropyEstimate(bits, group_bits.std().item() / math.sqrt(DITHER_GROUPS), "miller-madow")


def _stratified_dithers(dithers: int, dims: int, rng: np.random.Generator) -> Tensor:
    """Dither vectors as fractions of the cell, (dithers, d).

    Independent groups, one after the other, each a Latin hypercube sample.

    Within a group, each coordinate falls once into each of as many equal slices of the cell as the
    group has vectors. Every vector is still uniform, and the error of the mean is a tenth of what
    independent vectors give (0.01 bits with 256 of them).
    """
    size = dithers // DITHER_GROUPS
    slices = rng.permuted(
        np.broadcast_to(np.arange(size)[:, None], (DITHER_GROUPS, size, dims)), axis=1
    )
    return torch.from_numpy((slices + rng.random(slices.shape)) / size).float().flatten(0, 1)


def _marginal(
    train: Tensor, held_out: Tensor, levels: tuple[int, ...], rng: np.random.Generator
) -> EntropyEstimate:
    """Code length of held-out symbols, each dimension by its frequencies among the training symbols of the same dither vector."""
    sample_bits = torch.zeros(
        DITHER_GROUPS, len(held_out), dtype=torch.float64, device=train.device
    )
    fractions = _stratified_dithers(MARGINAL_DITHERS, len(levels), rng).to(train.device)
    size = MARGINAL_DITHERS // DITHER_GROUPS
    for i, count in enumerate(levels):
        scale = (count - 1) / 2
        positions, held = (
            (latents[:, i].contiguous() + 1) * scale for latents in (train, held_out)
        )
        for number, fraction in enumerate(fractions[:, i]):
            symbols, coded = (
                (position + fraction).long().clamp_(max=count - 1) for position in (positions, held)
            )
            # Half a count more for each level (Krichevsky and Trofimov 1981), so that no symbol is
            # without a code.
            frequencies = torch.bincount(symbols, minlength=count).double() + 0.5
            sample_bits[number // size] -= (frequencies / frequencies.sum()).log2()[coded] / size
    bits = min(sample_bits.mean().item(), sum(math.log2(count) for count in levels))
    # Chance lies in which images are held out, and in the dithers.
    variances = (
        sample_bits.mean(0).var().item() / len(held_out),
        sample_bits.mean(1).var().item() / DITHER_GROUPS,
    )
    return EntropyEstimate(bits, math.sqrt(sum(variances)), "marginal-upper-bound")


def _learned(
    train: Tensor, held_out: Tensor, levels: tuple[int, ...], steps: int, rng: np.random.Generator
) -> EntropyEstimate:
    """Cross-entropy on held-out latents of a model trained on the training latents, with fresh dithers throughout."""

    def fresh_dither(
        latents: Tensor,
    ) -> Tensor:  # drawn on the CPU, so that it is the same for every device
        return torch.from_numpy(rng.random(latents.shape, dtype=np.float32)).to(latents.device)

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
    ):  # evaluation, the usual caller, runs without gradients
        model = _SymbolModel(levels, rng, train.device)
        # The decay is a prior worth a fixed number of samples: it stops a thousand latents from
        # being learnt by heart, and 50,000 do not feel it.
        optimizer = torch.optim.AdamW(
            model.parameters,
            lr=LEARNING_RATE,
            betas=(0.9, 0.99),
            weight_decay=1000 / (len(train) + 100),
        )
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        for _ in range(steps):
            batch = train[
                torch.from_numpy(rng.integers(len(train), size=BATCH)).to(train.device)
            ]  # (B, d)
            optimizer.zero_grad()
            model.bits(batch, fresh_dither(batch)).mean().backward()
            optimizer.step()
            schedule.step()
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
