import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "rfb",
    title="Receptive Field Block",
    family="module",
    slot="stage",
    sites=("stage3",),
    paper="Liu et al., Receptive Field Block Net for Accurate and Fast Object Detection, ECCV 2018, "
    "https://arxiv.org/abs/1711.07767",
)
class ReceptiveFieldBlock(nn.Module):
    r"""Looks closely at the middle and ever more coarsely around it, as the eye does, and adds the answer.

    $$y = \mathrm{relu}\big(\lambda\,L[b_0; b_1; b_2] + S x\big), \quad
    b_m = \mathrm{bn}\,\mathrm{conv}_{3\times3,\,r_m} f_{3\times3}^{\,m} f_{1\times1}\,x, \quad
    r = (1, 2, 3), \quad f = \mathrm{relu} \circ \mathrm{bn} \circ \mathrm{conv}$$

    In the eye, the further a sensor lies from the centre of the gaze, the larger the patch it reports
    on. Each branch copies one such ring: first small filters set how large a patch is, then a filter
    with gaps between its taps sets how far out it lies. All branches are merged and added to a shortcut
    with a small weight.

    **What to look for.** Compare one branch on two pictures: on which does the wide one respond more?
    Between branches sizes say nothing, for each ends in a BatchNorm that sets its own. Compare the
    residual with the shortcut: with a factor of 0.1 it starts as a small correction.

    **Shapes.** (B, C, H, W) to the same, not negative; `views` (B, 3, C/4, H, W), the narrow branch
    first, `residual`, which is lambda L, and `shortcut`, which is S x, (B, C, H, W); all of both signs.
    In the formula f^m is f applied m times. Every convolution is followed by a BatchNorm (momentum
    0.01), those inside a branch, but for its last, by a ReLU too; widths as in the authors' code.
    """

    def __init__(self, channels: int, visual: int = 1, scale: float = 0.1):
        super().__init__()
        self.scale = scale
        width = channels // 8
        middle = width // 2 * 3
        self.branches = nn.ModuleList(
            [
                nn.Sequential(
                    *conv_bn_relu(channels, 2 * width, 1),
                    *conv_bn(2 * width, 2 * width, 3, dilation=visual),
                ),
                nn.Sequential(
                    *conv_bn_relu(channels, width, 1),
                    *conv_bn_relu(width, 2 * width, 3),
                    *conv_bn(2 * width, 2 * width, 3, dilation=visual + 1),
                ),
                nn.Sequential(
                    *conv_bn_relu(channels, width, 1),
                    *conv_bn_relu(width, middle, 3),
                    *conv_bn_relu(middle, 2 * width, 3),
                    *conv_bn(2 * width, 2 * width, 3, dilation=2 * visual + 1),
                ),
            ]
        )
        self.merge = nn.Sequential(*conv_bn(6 * width, channels, 1))
        self.shortcut = nn.Sequential(*conv_bn(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        views = torch.stack([branch(x) for branch in self.branches], dim=1)  # (B, 3, C/4, H, W)
        views = record(self, "views", views, "b branch k h w", role="features")
        residual = record(
            self, "residual", self.scale * self.merge(views.flatten(1, 2)), "b c h w", role="features"
        )
        shortcut = record(self, "shortcut", self.shortcut(x), "b c h w", role="features")
        return torch.relu(residual + shortcut)


def conv_bn(channels_in: int, channels: int, size: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (size // 2)
    conv = nn.Conv2d(channels_in, channels, size, padding=padding, dilation=dilation, bias=False)
    return [conv, nn.BatchNorm2d(channels, momentum=0.01)]


def conv_bn_relu(channels_in: int, channels: int, size: int) -> list[nn.Module]:
    return [*conv_bn(channels_in, channels, size), nn.ReLU()]
