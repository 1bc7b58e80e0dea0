import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "self_calibrated_conv",
    title="Self-Calibrated Convolution (SCNet)",
    family="hybrid",
    slot="conv2",
    paper="Liu et al., Improving Convolutional Networks with Self-Calibrated Convolutions, CVPR 2020, "
    "https://openaccess.thecvf.com/content_CVPR_2020/html/"
    "Liu_Improving_Convolutional_Networks_With_Self-Calibrated_Convolutions_CVPR_2020_paper.html",
)
class SelfCalibratedConv(nn.Module):
    r"""Lets half of the channels check each detail against a coarse view of its surroundings.

    $$y = \big[K_1 x_a;\ K_4\big(g\,(K_3 x_b)\big)\big], \quad
    g = \sigma\big(x_b + \mathrm{up}(K_2\,\mathrm{pool}_4\,x_b)\big), \quad
    K_i = \mathrm{bn} \circ \mathrm{conv}_{3\times3}$$

    The first half of the channels gets an ordinary convolution. The second half is first looked at
    through a blurred copy, four times smaller, where a 3x3 window covers 12x12 cells; the detail and
    the coarse view together make a gate that decides which of the convolved features go on.

    **What to look for.** The gates show blocks of 4x4 cells, the coarse view, under fine detail, the
    features themselves. Bright: the feature is strong there itself, or its wide surroundings speak for
    it. Where the feature is absent, the gate shows the coarse view alone. On the 4x4 maps of the last
    stage the coarse view is one number per channel.

    **Shapes.** (B, C, H, W) to the same; `calibration_gate` (B, C/2, H, W), between 0 and 1, for the
    second half of the channels. It stands in place of a block's second convolution and norm. The coarse
    view is enlarged by its nearest cell, as in the authors' code. No activation inside.
    """

    has_norm = True

    def __init__(self, channels: int, pooling: int = 4):
        super().__init__()
        self.pooling = pooling
        self.plain, self.context, self.detail, self.out = (conv_bn(channels // 2) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain, calibrated = x.chunk(2, dim=1)  # (B, C/2, H, W) each
        size = x.shape[2:]
        window = min(self.pooling, *size)  # training may begin on smaller pictures
        coarse = self.context(F.avg_pool2d(calibrated, window))  # (B, C/2, H/4, W/4)
        gate = torch.sigmoid(calibrated + F.interpolate(coarse, size, mode="nearest"))
        gate = record(self, "calibration_gate", gate, "b k h w", role="gate")
        return torch.cat([self.plain(plain), self.out(self.detail(calibrated) * gate)], dim=1)


def conv_bn(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
