import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "bam",
    title="BAM",
    family="hybrid",
    slot="stage",
    sites=("stage1", "stage2", "stage3"),
    paper="Park et al., BAM: Bottleneck Attention Module, BMVC 2018, https://arxiv.org/abs/1807.06514",
)
class BottleneckAttention(nn.Module):
    r"""Amplifies, before each shrinking step, the channels and the places that are worth carrying on.

    $$M = \sigma\big(M_c(x) + M_s(x)\big), \quad y = x\,(1 + M), \quad
    M_c = W_1\,\mathrm{relu}(\mathrm{bn}(W_0\,\mathrm{avg}_{hw}\,x))$$
    $$M_s = \mathrm{conv}_{1\times1} \circ D \circ D \circ
    \mathrm{relu} \circ \mathrm{bn} \circ \mathrm{conv}_{1\times1}(x), \quad
    D = \mathrm{relu} \circ \mathrm{bn} \circ \mathrm{conv}_{3\times3}^{\text{dilation } 4}$$

    Three stations, one wherever the map is about to shrink. One branch marks the *what*, a score for
    each channel; the other marks the *where*, a score for each cell, from a wide window of dilated
    convolutions. The sum of both scores decides how much every single value is raised; nothing is ever
    turned down.

    **What to look for.** The spatial score at 32, 16 and 8 cells a side: does it go from edges to
    objects? In the full gate 2 means doubled and 1 left alone. Where the range of the channel
    scores is much wider than that of the spatial ones, the places hardly matter, and the other way round.

    **Shapes.** (B, C, H, W) to the same; `channel_logit` (B, C) and `spatial_logit` (B, 1, H, W),
    unbounded, and `full_gate` (B, C, H, W) between 1 and 2. The sum is the paper's; the authors'
    released code multiplies the two scores, `combine="prod"`. Layers and biases as in the code, which
    has no BatchNorm at the end of the branches though the paper writes one.
    """

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4, combine: str = "sum"):
        super().__init__()
        width = channels // reduction
        self.combine = {"sum": torch.add, "prod": torch.mul}[combine]
        self.channel = nn.Sequential(
            nn.Linear(channels, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, channels)
        )
        reduce = nn.Conv2d(channels, width, 1)
        dilated = [nn.Conv2d(width, width, 3, 1, dilation, dilation) for _ in range(2)]
        self.spatial = nn.Sequential()
        for conv in (reduce, *dilated):
            self.spatial.extend([conv, nn.BatchNorm2d(width), nn.ReLU()])
        self.spatial.append(nn.Conv2d(width, 1, 1))
        for layer in (*self.channel, *self.spatial):  # as the authors' network starts them
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channel_logit = record(self, "channel_logit", self.channel(x.mean((2, 3))), "b c", role="features")
        spatial_logit = record(self, "spatial_logit", self.spatial(x), "b 1 h w", role="features")
        logit = self.combine(channel_logit[:, :, None, None], spatial_logit)  # (B, C, H, W)
        full_gate = record(self, "full_gate", 1 + torch.sigmoid(logit), "b c h w", role="gate", bounds=(1, 2))
        return x * full_gate
