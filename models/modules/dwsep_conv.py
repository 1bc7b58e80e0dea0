import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "dwsep_conv",
    title="Depthwise separable convolution",
    family="module",
    slot="conv",
    paper="Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017, "
    "https://arxiv.org/abs/1610.02357; Howard et al., MobileNets, 2017, https://arxiv.org/abs/1704.04861",
)
class DepthwiseSeparableConv(nn.Module):
    r"""Filters each channel on its own, then mixes the channels cell by cell.

    $$u_i = \mathrm{relu}(\mathrm{bn}(D_i * x_i)), \quad y_o = \textstyle\sum_i P_{o,i}\,u_i$$

    An ordinary convolution looks at the neighbours and mixes the channels in one expensive step. Here
    the step is split in two cheap ones: one small filter for each channel, then a 1x1 convolution that
    mixes the channels. That takes eight to nine times fewer weights for a 3x3 window.

    **What to look for.** Each channel has a single 3x3 filter, so they can all be seen: edges, spots,
    averages. They do not react to the picture; the maps behind them do.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `filters` (C_in, 3, 3), static;
    `depthwise` (B, C_in, H/stride, W/stride), not negative: each channel after its own filter. BatchNorm
    and ReLU between the two steps as in MobileNet; Xception leaves the ReLU out. The block's BatchNorm
    follows.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, kernel_size: int = 3):
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels_in,
            channels_in,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=channels_in,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        record(self, "filters", self.depthwise.weight.squeeze(1), "g k k", role="static")
        x = torch.relu(self.bn(self.depthwise(x)))  # (B, C_in, H/stride, W/stride)
        x = record(self, "depthwise", x, "b g h w", role="features")
        return self.pointwise(x)  # (B, C, H/stride, W/stride)
