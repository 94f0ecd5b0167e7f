"""Bottlenecks: latents to integer symbols and back, with a differentiable surrogate and a rate.

Each is imported from its own module, or built by its name.
"""

from quadrate.bottlenecks.by_name import (
    BOTTLENECKS,
    FROZEN,
    build_bottleneck,
    register_bottleneck,
    takes_levels,
)

__all__ = ["BOTTLENECKS", "FROZEN", "build_bottleneck", "register_bottleneck", "takes_levels"]
