"""A decoder that estimates the label first, and then draws a picture of that class."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.errors import QuadrateError
from quadrate.networks.layers import dense

_WIDTHS = (256, 256, 256)


class LabelledDecoder(nn.Module):
    """Draws E[X | Z, S = ŝ(Z)], with ŝ the most probable class given the latents.

    E[X | Z] mixes the classes that a code may stand for, and a reader of such a picture has to
    guess among them once more. Here the decoder guesses, once and with all that the code tells, and
    draws one class. No classifier of pictures takes part in its training, so none is favoured.

    Args:
        picture: A network from latents and a one-hot label, (N, dim + K), to images.
        dim: Latent dimensions.
        classes: K, at least 2.

    Raises:
        QuadrateError: If there are fewer than two classes.
    """

    takes_labels = True

    def __init__(self, picture: nn.Module, dim: int, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise QuadrateError(
                "a labelled decoder needs images of at least 2 classes; got"
                f" {classes or 'images without labels'}"
            )
        self.picture, self.classes = picture, classes
        layers = [layer for pair in pairwise((dim, *_WIDTHS)) for layer in dense(*pair)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(_WIDTHS[-1], classes)

    @staticmethod
    def classes_of(state: Mapping[str, Tensor]) -> int:
        """The number of classes of a labelled decoder's state dict; 0 if it has none."""
        return state["head.bias"].numel() if "head.bias" in state else 0

    def logits(self, latents: Tensor) -> Tensor:
        """Compute the logits (N, K) of the label given latents (N, dim).

        Raises:
            QuadrateError: If the latents are maps.
        """
        if latents.ndim != 2:
            raise QuadrateError(
                "a labelled decoder reads flat latents (N, dim); the encoder gives maps"
                f" {tuple(latents.shape[1:])}"
            )
        logits: Tensor = self.head(self.body(latents))
        return logits

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Draw pictures of the classes that are most probable, or of given ones.

        Args:
            latents: (N, dim).
            labels: One-hot, (N, K); by default those that `logits` finds most probable.

        Returns:
            Images (N, C, H, W); with given labels also the logits (N, K).
        """
        logits = self.logits(latents)
        if labels is not None:
            return self.picture(torch.cat([latents, labels.to(latents)], 1)), logits
        likely = F.one_hot(logits.argmax(1), self.classes).to(latents)
        pictures: Tensor = self.picture(torch.cat([latents, likely], 1))
        return pictures
