import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "gsop",
    title="GSoP",
    family="channel",
    slot="refine",
    sites=("layer1.1", "layer2.1", "layer3.1", "layer4.1"),
    paper="Gao et al., Global Second-order Pooling Convolutional Networks, CVPR 2019, "
    "https://arxiv.org/abs/1811.12006",
)
class GlobalSecondOrderPooling(nn.Module):
    r"""Turns channels up or down by which of them are active together, not only by how active each is.

    $$U = \mathrm{relu}(\mathrm{bn}(W\,\mathrm{relu}(x) + b)), \quad
    \Sigma = \frac{1}{HW}\,U\Big(I - \frac{1}{HW}\mathbf{1}\mathbf{1}^\top\Big)U^\top$$
    $$r_i = R_i\,\mathrm{bn}(\Sigma)_i + b_i, \quad s = \sigma(V\,[r_1; \dots; r_d] + b'), \quad
    y_c = s_c\,x_c$$

    An average says how strong a detector is, a covariance says with whom: two detectors that fire at the
    same places have a large entry in the table. The features are first reduced to d = 32 detectors, the
    table of all their pairs is built, and each detector's row of the table goes through filters of its
    own into the decision how loud every channel is.

    **What to look for.** Bright cells off the diagonal are pairs that fire together, dark ones avoid
    each other. Mixing up the cells of the input changes neither table nor gate: the block knows who
    occurs with whom, not where.

    **Shapes.** (B, C, H, W) to the same; `covariance` (B, d, d), symmetric, its diagonal not negative,
    and `gate` (B, C, 1, 1) between 0 and 1. It stands in the last block of each stage. As in the
    authors' code the sum is divided by HW, and no activation follows the rows' filters. Their d is 128
    at 256 channels and more; 32 keeps the same ratios here. In the last stage 16 cells cannot fill 32
    dimensions: the table has rank 15 at most.
    """

    def __init__(self, channels: int, width: int = 32):
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.bn = nn.BatchNorm2d(width)
        self.row_bn = nn.BatchNorm2d(width)
        self.row_conv = nn.Conv2d(width, 4 * width, (width, 1), groups=width)
        self.excite = nn.Conv2d(4 * width, channels, 1)
        for conv in (self.reduce, self.row_conv, self.excite):  # as the authors' network starts them
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reduced = torch.relu(self.bn(self.reduce(torch.relu(x)))).flatten(2)  # (B, d, N)
        centred = reduced - reduced.mean(2, keepdim=True)
        covariance = centred @ centred.transpose(1, 2) / centred.shape[2]  # (B, d, d)
        covariance = record(self, "covariance", covariance, "b k k", role="features")

        rows = self.row_conv(self.row_bn(covariance.unsqueeze(3)))  # (B, 4d, 1, 1)
        gate = record(self, "gate", torch.sigmoid(self.excite(rows)), "b c 1 1", role="gate")
        return x * gate
