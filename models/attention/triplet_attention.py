import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "triplet_attention",
    title="Triplet Attention",
    family="hybrid",
    slot="refine",
    paper="Misra et al., Rotate to Attend: Convolutional Triplet Attention Module, WACV 2021, "
    "https://arxiv.org/abs/2010.03045",
)
class TripletAttention(nn.Module):
    r"""Looks at the features from three sides, draws a mask on each side, and averages the three.

    $$A_{hw} = \sigma\big(\mathrm{bn}(\mathrm{conv}_{7\times7}[\max\nolimits_c x;\ \mathrm{avg}_c\,x])\big)$$
    $$A_{cw},\ A_{hc}\ \text{likewise over}\ h\ \text{and}\ w, \quad
    y_{chw} = \tfrac{1}{3}\,(A_{hw} + A_{cw} + A_{hc})_{chw}\;x_{chw}$$

    Feature maps are a box: height, width and channels. Seen from the front, it is flattened over the
    channels, and the mask says *where*, as in CBAM. Seen from the side and from above, it is flattened
    over the columns or the rows, and these masks say in which rows, or in which columns, each channel
    matters.

    **What to look for.** The front view is one map, as in CBAM. The other two are drawn as bands,
    channel by channel: a bright band says "this channel counts in this column", or in this row.
    Coordinate Attention has such gates, too, but multiplies them; here the three are averaged. Where
    channels with neighbouring numbers look alike, that is the 7x7 window's doing, which takes them for
    neighbours: their order means nothing.

    **Shapes.** (B, C, H, W) to the same; `hw_gate` (B, 1, H, W), `cw_gate` (B, 1, C, W) and `hc_gate`
    (B, 1, H, C), between 0 and 1. Three gates with weights of their own, 300 parameters at any width.
    The BatchNorms have the authors' momentum, 0.01, and start like any other, as in the authors' newer
    file.
    """

    def __init__(self, channels: int, kernel_size: int = 7):
        super().__init__()
        self.hw, self.cw, self.hc = (
            nn.Sequential(
                nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False),
                nn.BatchNorm2d(1, momentum=0.01),
            )
            for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        front = torch.stack([x.amax(1), x.mean(1)], dim=1)  # (B, 2, H, W)
        above = torch.stack([x.amax(2), x.mean(2)], dim=1)  # (B, 2, C, W)
        side = torch.stack([x.amax(3), x.mean(3)], dim=1).transpose(2, 3)  # (B, 2, H, C)
        hw_gate = record(self, "hw_gate", torch.sigmoid(self.hw(front)), "b 1 h w", role="gate")
        cw_gate = record(self, "cw_gate", torch.sigmoid(self.cw(above)), "b 1 c w", role="gate")
        hc_gate = record(self, "hc_gate", torch.sigmoid(self.hc(side)), "b 1 h c", role="gate")
        by_column = cw_gate.transpose(1, 2)  # (B, C, 1, W)
        by_row = hc_gate.permute(0, 3, 2, 1)  # (B, C, H, 1)
        return x * (hw_gate + by_column + by_row) / 3
