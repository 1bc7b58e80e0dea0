import torch
from torch import nn
from torch.nn import functional as F

from ..catalogue import mechanism
from ..recording import is_recording, record


@mechanism(
    "psconv",
    title="Poly-Scale Convolution",
    family="kernel",
    slot="conv",
    paper="Li et al., PSConv: Squeezing Feature Pyramid into One Compact Poly-Scale Convolutional Layer, "
    "ECCV 2020, https://arxiv.org/abs/2007.06191",
)
class PolyScaleConv(nn.Module):
    r"""Spreads the taps of one 3x3 filter by 1, 2 or 4 cells, depending on the pair of channels.

    $$y_o = \textstyle\sum_i W_{o,i} *_{\delta(o,i)} x_i, \quad
    \delta = \begin{pmatrix} 2&1&4&1 \\ 1&2&1&4 \\ 4&1&2&1 \\ 1&4&1&2 \end{pmatrix}
    \text{ for the fourth of } o \text{ and of } i$$

    Within one and the same filter, some channels look at neighbouring cells and others at cells two or
    four steps away. The layer sees three scales at once, with exactly as many weights as a plain
    convolution: what it gains, it gains by the pattern alone.

    **What to look for.** The part that each spread adds to the result. On the small maps of the late
    stages a spread of four reaches past the border: does that part still matter there?

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `views` (B, 3, C, H/stride, W/stride),
    what the spreads 1, 2 and 4 add; `pattern` (4, 4), static, rows are fourths of the output channels,
    columns of the input channels. Computed as three masked convolutions. Base spread 2 as in the
    authors' networks; the default of their class is 1.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, parts: int = 4, base: int = 2):
        super().__init__()
        if channels_in % parts or channels_out % parts:
            raise ValueError(f"{channels_in} and {channels_out} channels do not divide into {parts} parts")
        self.parts, self.base = parts, base
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, stride = self.conv.weight, self.conv.stride
        pattern = self.pattern()  # (4, 4)
        record(self, "pattern", pattern, "k k", role="static")
        rows, columns = (width // self.parts for width in weight.shape[:2])
        spread = pattern.repeat_interleave(rows, 0).repeat_interleave(columns, 1)  # (C, C_in)
        views = []  # each (B, C, H/stride, W/stride)
        for dilation in sorted({1, self.base, 2 * self.base}):
            kernel = weight * (spread == dilation)[..., None, None]  # (C, C_in, 3, 3)
            views.append(F.conv2d(x, kernel, stride=stride, padding=dilation, dilation=dilation))
        if is_recording():
            views = record(
                self, "views", torch.stack(views, dim=1), "b branch c h w", role="features"
            ).unbind(1)
        return sum(views)

    def pattern(self) -> torch.Tensor:
        """(4, 4): the dilation between each part of the output and each part of the input channels."""
        part = torch.arange(self.parts, device=self.conv.weight.device)
        apart = (part[:, None] - part) % self.parts
        pattern = torch.where(apart == self.parts // 2, 2 * self.base, 1)
        return torch.where(apart == 0, self.base, pattern)
