"""Bottlenecks: latents to integer symbols and back, with a differentiable surrogate and a rate."""

from quadrate.bottlenecks.dithered import DitheredQuantizer

# Frozen bottlenecks are imported from their own modules: some need the entropy coder, which
# training does without.
__all__ = ["DitheredQuantizer"]
