"""One encoder, many decoders: universal representations, and the region of a given one."""

from quadrate.theory.universality.representation import (
    AlphabetRepresentation,
    Representation,
    SquaredErrorRepresentation,
    representation,
)
from quadrate.theory.universality.universal import (
    mse_encoder_bounds,
    one_shot_bound,
    rate_penalty,
    universal_rate,
)

__all__ = [
    "AlphabetRepresentation",
    "Representation",
    "SquaredErrorRepresentation",
    "mse_encoder_bounds",
    "one_shot_bound",
    "rate_penalty",
    "representation",
    "universal_rate",
]
