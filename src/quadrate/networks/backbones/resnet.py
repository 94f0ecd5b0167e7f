"""The trunk of ResNet-50, for state dicts of SimCLR's, SwAV's or MoCo's kind.

He et al., "Deep residual learning" (2015), with the stride in the 3x3 convolution, as is usual now.
Such files hold the trunk under some prefix (`module.`, `encoder.`, `module.encoder_q.`, ...); their
projection heads, prototypes and classifiers are not read.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from quadrate.errors import QuadrateError
from quadrate.networks.backbones.weights import without_counters

_EXPANSION = 4  # the channels that a block gives, over those of its 3x3 convolution
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # (channels of the 3x3 convolution, blocks)
_FIRST = "conv1.weight"


class ResNet50(nn.Module):
    """Images (N, 3, H, W) to features (N, 2048).

    Names and order of its tensors are those of the state dicts that circulate.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, (width, blocks) in enumerate(_STAGES, 1):
            stage = []
            for block in range(blocks):
                stride = 2 if number > 1 and block == 0 else 1
                stage.append(_Bottleneck(channels, width, stride))
                channels = width * _EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*stage))

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to the globally pooled activations (N, 2048), none negative."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean(dim=(2, 3))


class _Bottleneck(nn.Module):
    def __init__(self, fan_in: int, width: int, stride: int) -> None:
        super().__init__()
        fan_out = width * _EXPANSION
        self.conv1 = nn.Conv2d(fan_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, fan_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(fan_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or fan_in != fan_out:
            convolution = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(fan_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def trunk(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Find the tensors of a ResNet-50's trunk in a state dict that holds them under any prefix.

    Of several trunks in a file (MoCo keeps a second, slowly moving one) the first is taken.

    Returns:
        The tensors, in the names of `ResNet50`.

    Raises:
        QuadrateError: If there is no such trunk, or a tensor is missing.
    """
    first = next((name for name in tensors if name == _FIRST or name.endswith(f".{_FIRST}")), None)
    if first is None:
        raise QuadrateError(
            f"{where}: no ResNet here: of {len(tensors)} tensors none is called {_FIRST}, under any"
            " prefix"
        )
    prefix = first.removesuffix(_FIRST)
    wanted = without_counters(ResNet50().state_dict())
    if missing := [name for name in wanted if prefix + name not in tensors]:
        raise QuadrateError(
            f"{where}: no ResNet-50: {prefix + missing[0]} is missing, and {len(missing) - 1} other"
            f" tensors of its {len(wanted)}"
        )
    return {name: tensors[prefix + name] for name in wanted}
