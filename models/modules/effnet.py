import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism


@mechanism(
    "effnet",
    title="EffNet block",
    family="module",
    slot="conv",
    paper="Freeman et al., EffNet: An Efficient Structure for Convolutional Neural Networks, ICIP 2018, "
    "https://arxiv.org/abs/1801.06434",
)
class EffNetBlock(nn.Module):
    r"""Splits each channel's 3x3 filter into a row and a column, and shrinks height and width in turn.

    $$u = \mathrm{bn}(\phi(D_{1\times3} * \mathrm{bn}(\phi(W_{1\times1}\,x)))), \quad
    v = \mathrm{bn}(\phi(D_{3\times1} * \max\nolimits_{2\times1} u)), \quad y = W_{1\times2}\,v$$

    A row filter and a column filter for each channel do nearly what a square one does, with six weights
    instead of nine. Where the map must shrink, its height is halved between the two, by the larger of
    two cells, and its width only in the last step: less is thrown away at once, and the steps in between
    are cheaper. It has nothing to do with EfficientNet.

    **What to look for.** Nothing of its own to see: compare accuracy, parameters and Grad-CAM with the
    other cheap convolutions, such as the depthwise separable one.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride). The activation phi is a LeakyReLU and
    comes before each BatchNorm, as in the paper. There is no authors' code. A known port to Keras has
    2x1 for the last kernel, with the step along the width, which skips every second column; 1x2 reads
    them all. The form for stride 1, without pooling and with a 1x1 convolution at the end, is ours; so
    is leaving out the last activation and norm, since the block's own follow.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, slope: float = 0.3):
        super().__init__()
        self.stride = stride
        self.act = nn.LeakyReLU(slope)
        self.expand = nn.Conv2d(channels_in, channels_in, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.row = nn.Conv2d(channels_in, channels_in, (1, 3), padding=(0, 1), groups=channels_in, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_in)
        self.column = nn.Conv2d(
            channels_in, channels_in, (3, 1), padding=(1, 0), groups=channels_in, bias=False
        )
        self.bn3 = nn.BatchNorm2d(channels_in)
        self.project = nn.Conv2d(channels_in, channels_out, (1, stride), (1, stride), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.act(self.expand(x)))
        x = self.bn2(self.act(self.row(x)))  # (B, C_in, H, W)
        x = F.max_pool2d(x, (self.stride, 1), ceil_mode=True)  # (B, C_in, H/stride, W)
        x = self.bn3(self.act(self.column(x)))
        x = F.pad(x, (0, -x.shape[3] % self.stride))  # an odd width gets a column of zeros
        return self.project(x)  # (B, C, H/stride, W/stride)
