import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "split_attention",
    title="Split Attention (ResNeSt)",
    family="kernel",
    slot="conv1",
    paper="Zhang et al., ResNeSt: Split-Attention Networks, CVPR Workshops 2022, "
    "https://arxiv.org/abs/2004.08955",
)
class SplitAttention(nn.Module):
    r"""Prepares two versions of its features and mixes them, channel by channel, for each picture.

    $$[U_1; U_2] = \mathrm{relu}(\mathrm{bn}(\mathrm{conv}_{3\times3}\,x)), \quad
    q = \mathrm{relu}(\mathrm{bn}(W_1\,\mathrm{avg}_{hw} \textstyle\sum_r U_r + b_1)), \quad
    a_{r,c} = \frac{e^{z_{r,c}}}{\sum_s e^{z_{s,c}}}, \quad z = W_2 q + b_2, \quad
    y_c = \textstyle\sum_r a_{r,c}\,U_{r,c}$$

    The relative of the selective kernel whose branches do not differ in the size of their window, but in
    what they read: the first sees the first half of the incoming channels, the second the other half.
    From the averages of both, a small network sets the shares, which sum to one.

    **What to look for.** The two splits have no meaning of their own, so a share says nothing by itself.
    Look at the spread: all channels near one half is plain averaging; shares near 0 and 1, other ones
    for another picture, are a real choice.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride), not negative; `weights` (B, 2, C, 1, 1)
    between 0 and 1, in the order of the splits. It stands in place of the first convolution, norm and
    activation of a block. The authors' networks also change the stem, the shortcuts and the
    down-sampling: not part of the module, and not done here.
    """

    has_norm = True

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        radix: int = 2,
        cardinality: int = 1,
        reduction: int = 4,
        least_width: int = 32,
    ):
        super().__init__()
        width = max(channels_in * radix // reduction, least_width)
        self.radix, self.cardinality = radix, cardinality
        groups = cardinality * radix
        self.conv = nn.Conv2d(
            channels_in, radix * channels_out, 3, stride, padding=1, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(radix * channels_out)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels_out, width, 1, groups=cardinality), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.select = nn.Conv2d(width, radix * channels_out, 1, groups=cardinality)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        splits = torch.relu(self.bn(self.conv(x))).unflatten(1, (self.radix, -1))  # (B, radix, C, H, W)
        pooled = splits.sum(1).mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        scores = self.select(self.squeeze(pooled)).unflatten(1, (self.cardinality, self.radix, -1))
        scores = scores.transpose(1, 2).flatten(2, 3)  # (B, radix, C, 1, 1)
        if self.radix > 1:
            weights = record(
                self, "weights", scores.softmax(1), "b branch c 1 1", role="share", over="branch"
            )
        else:  # a single branch has nobody to share with
            weights = record(self, "weights", torch.sigmoid(scores), "b branch c 1 1", role="gate")
        return (weights * splits).sum(1)
