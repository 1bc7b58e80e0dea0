import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "cbam",
    title="CBAM",
    family="hybrid",
    slot="refine",
    paper="Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018, https://arxiv.org/abs/1807.06521",
)
class CBAM(nn.Module):
    r"""Asks first which channels matter, then, with those already weighted, which places.

    $$M_c = \sigma\big(\mathrm{MLP}(\mathrm{avg}_{hw}\,x) + \mathrm{MLP}(\max\nolimits_{hw}\,x)\big), \quad
    x' = M_c\,x$$
    $$M_s = \sigma\big(\mathrm{bn}(\mathrm{conv}_{7\times7}[\max\nolimits_c x';\ \mathrm{avg}_c\,x'])\big),
    \quad y = M_s\,x'$$

    The channel gate works like squeeze-and-excitation, but hears two witnesses: the average of a channel
    and its peak, judged by the same small network. The spatial gate then looks at two pictures, the
    strongest and the average activation at each cell, and a 7x7 window decides how much of each cell
    passes.

    **What to look for.** The spatial gate is one number per cell, the same for all channels. Move through
    the blocks and watch whether it follows edges, the object, or nothing at all: a gate close to one value
    everywhere does not choose between places.

    **Shapes.** (B, C, H, W) to the same; `channel_gate` (B, C, 1, 1) and `spatial_gate` (B, 1, H, W),
    between 0 and 1. As in the authors' code the layers of the MLP have biases and the spatial gate ends in
    a BatchNorm (momentum 0.01) that starts at weight 0, so the gate starts at one half; the paper's
    formulas leave both out.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        nn.init.zeros_(self.squeeze.bias)
        nn.init.zeros_(self.excite.bias)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        average, peak = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)  # (B, C, 1, 1)
        channel_gate = torch.sigmoid(self.mlp(average) + self.mlp(peak))
        channel_gate = record(self, "channel_gate", channel_gate, "b c 1 1", role="gate")
        x = x * channel_gate

        summary = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        spatial_gate = torch.sigmoid(self.bn(self.conv(summary)))
        spatial_gate = record(self, "spatial_gate", spatial_gate, "b 1 h w", role="gate")
        return x * spatial_gate

    def mlp(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.excite(torch.relu(self.squeeze(pooled)))
