"""A critic of photographs that sees them through a network trained on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

_WIDTH = 64
_SCALES = 4  # the last stage of AlexNet sees too much at once to tell textures


class FeatureCritic(nn.Module):
    """Tells real photographs from restored ones by features, at each place and scale.

    Features of a network that knows photographs let a critic learn in minutes what it would take
    days to learn from pixels (Sauer et al., "Projected GANs Converge Faster", NeurIPS 2021).

    Args:
        channels: Of the features of each stage, the finest first; the first four are looked at.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(count, _WIDTH, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(_WIDTH, 1, 1),
            )
            for count in channels[:_SCALES]
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Score features (n, c, h, w) of norm 1 at each place: (n, 1, h, w) of each stage.

        Higher scores are for what looks real.
        """
        pairs = zip(self.heads, features, strict=False)
        return [head(own * own.shape[1] ** 0.5) for head, own in pairs]
