"""The one rule that says whether a codec has collapsed.

The encoder of a collapsed codec gives nearly the same symbols for every sample, so decoders have
little to read. The limit is a quarter of the bound, Σ log2 L: of the 400 codecs in results/ those
that carry the least, trained for realism and label alone or through noise, carry 47 % of theirs,
and most carry over 80 %; of those that collapsed in trials none carried more than 13 %, most a
thousandth. A training of fewer than 100 steps, as in a test, has hardly begun: its codec may carry
little without a fault, and is not judged before it is frozen.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from quadrate.errors import QuadrateWarning

LEAST_SHARE = 0.25
LEAST_STEPS = 100
REMEDIES = (
    "a smaller learning rate, more epochs, lambda_p and lambda_c smaller or annealed, or another"
    " seed usually helps"
)


def has_collapsed(entropy_bits: float, bound_bits: float) -> bool:
    """Whether symbols of an entropy, in bits a sample, carry less than a quarter of their bound."""
    return entropy_bits < LEAST_SHARE * bound_bits


def warn_if_constant(
    what: str, symbols: NDArray[np.int64], stacklevel: int = 1, steps: int = LEAST_STEPS
) -> None:
    """Warn (`QuadrateWarning`) if all of at least two samples get the same symbols, (n, d).

    This is how a codec collapses that learns its rate.
    """
    if len(symbols) > 1 and steps >= LEAST_STEPS and (symbols == symbols[0]).all():
        advice = (
            "a smaller beta, more steps, beta annealed for longer or another seed usually helps"
        )
        text = (
            f"{what} has collapsed: all samples get the same symbols, so nothing is kept of them;"
            f" {advice}"
        )
        warnings.warn(text, QuadrateWarning, stacklevel + 1)


def warn_if_collapsed(
    what: str, entropy_bits: float, bound_bits: float, stacklevel: int = 1, steps: int = LEAST_STEPS
) -> None:
    """Warn (`QuadrateWarning`) if a codec has collapsed.

    Args:
        what: The codec's name in the warning.
        entropy_bits: The entropy of its symbols, in bits a sample.
        bound_bits: Their bound, Σ log2 L.
        stacklevel: As `warnings.warn` counts it from the caller on.
        steps: How many steps it was trained, if that is known.
    """
    if steps >= LEAST_STEPS and has_collapsed(entropy_bits, bound_bits):
        carried = f"its symbols carry {entropy_bits:.2g} of {bound_bits:.3g} bits"
        warnings.warn(
            f"{what} has collapsed: {carried}, so samples come back much alike; {REMEDIES}",
            QuadrateWarning,
            stacklevel + 1,
        )
