"""The image encoders of CLIP and DINOv2, through `transformers` (the extra `backbones`)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from quadrate.errors import QuadrateError


class HubNetwork(nn.Module):
    """A vision model of transformers whose output holds the features under one name.

    Args:
        model: The model, called with `pixel_values`.
        output: "image_embeds" (CLIP: the projected class token) or "pooler_output" (DINOv2: the
            normalized class token).
    """

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), normalized, to (N, d)."""
        return getattr(self.model(pixel_values=x), self.output)


def load_hub_network(model_class: str, output: str, place: str | Path) -> HubNetwork:
    """Load a model from a folder, from the hub's cache, or else from the hub.

    Args:
        model_class: Its class in transformers, e.g. "CLIPVisionModelWithProjection".
        output: Where its features stand; see `HubNetwork`.
        place: The model's name on the hub ("openai/clip-vit-base-patch32"), or a folder as
            `save_pretrained` writes it.

    Raises:
        QuadrateError: If transformers is not installed, or the model cannot be loaded.
    """
    loader = _find(model_class)
    try:
        model = loader.from_pretrained(str(place))
    # Raised without a network, for an unknown name, and for a folder of another model.
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise QuadrateError(
            f"{place}: the model cannot be had ({reason}); connect to huggingface.co, or copy the"
            " model's folder here and pass its path as weights"
        ) from None
    return HubNetwork(model, output)


def _find(model_class: str) -> Any:
    try:
        # Its classes are imported only when they are named.
        return getattr(importlib.import_module("transformers"), model_class)
    except ImportError as error:
        raise QuadrateError(
            f"CLIP and DINOv2 need transformers, which cannot be imported ({error}): pip install"
            " 'quadrate[backbones]' -c constraints.txt"
        ) from None
