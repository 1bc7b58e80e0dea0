import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record

PAPER = (
    "Roy et al., Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks, "
    "MICCAI 2018, https://arxiv.org/abs/1803.02579"
)


@mechanism("cse", title="cSE", family="channel", slot="refine", paper=PAPER)
class ChannelSE(nn.Module):
    r"""Turns each channel up or down by a factor computed from all averages, through a wide layer.

    $$s = \sigma(W_2\,\mathrm{relu}(W_1 z + b_1) + b_2), \quad
    z_c = \frac{1}{HW}\sum_{i,j} x_{c,i,j}, \quad y_c = s_c\,x_c$$

    This is squeeze-and-excitation under the name it has beside its spatial sister: one slider per
    channel, set from the averages of all channels. The layer between has half as many units as there are
    channels, where squeeze-and-excitation has a sixteenth.

    **What to look for.** There is no map to draw, only the gates. It has eight times the parameters of
    squeeze-and-excitation: do its gates follow the picture more? One network of each cannot say whether
    they are needed.

    **Shapes.** (B, C, H, W) to the same; `gate` (B, C, 1, 1) between 0 and 1. As in the authors' code
    the reduction is 2 and both layers have biases.
    """

    def __init__(self, channels: int, reduction: int = 2):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * record(self, "gate", self.judge_channels(x), "b c 1 1", role="gate")

    def judge_channels(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))


@mechanism("sse", title="sSE", family="spatial", slot="refine", paper=PAPER)
class SpatialSE(nn.Module):
    r"""Weighs every place by one number, read off the channels at that place alone.

    $$s_{i,j} = \sigma(w^\top x_{:,i,j} + b), \quad y_{c,i,j} = s_{i,j}\,x_{c,i,j}$$

    The counterpart of squeeze-and-excitation: instead of averaging over places to weigh channels, it
    sums over channels to weigh places. A single 1x1 convolution scores each cell from what the detectors
    say there; neighbours are not asked.

    **What to look for.** The spatial gate on a picture with a plain background, an airplane or a ship: does
    it follow the object? Compare it with the Grad-CAM of the same block, which knows the class; the gate
    does not.

    **Shapes.** (B, C, H, W) to the same; `spatial_gate` (B, 1, H, W) between 0 and 1. The convolution
    has a bias, as in the authors' code.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * record(self, "spatial_gate", torch.sigmoid(self.conv(x)), "b 1 h w", role="gate")


@mechanism("scse", title="scSE", family="hybrid", slot="refine", paper=PAPER)
class ConcurrentSE(ChannelSE):
    r"""Scores the channels and the places side by side, and keeps the larger of the two results.

    $$y = \max\big(s^{c}\,x,\; s^{s}\,x\big), \quad
    s^{c} = \sigma(W_2\,\mathrm{relu}(W_1\,\mathrm{avg}_{hw}\,x + b_1) + b_2), \quad
    s^{s}_{i,j} = \sigma(w^\top x_{:,i,j} + b)$$

    One judge scores the features, another scores the places, and neither hears the other. Of the two
    gated values the larger is kept: where x is positive that is the more generous judge's, where x is
    negative the stricter one's.

    **What to look for.** Set both gates side by side. For positive values the place wins where the
    spatial gate lies above the channel's gate, elsewhere the channel wins; for negative values it is the
    other way round, so a gate that is always the smaller one still has a say.

    **Shapes.** (B, C, H, W) to the same; `channel_gate` (B, C, 1, 1) and `spatial_gate` (B, 1, H, W),
    between 0 and 1. The maximum is the authors' code and journal paper; the conference paper adds the
    two, `combine="add"`. Reduction 2 and biases as in the code.
    """

    def __init__(self, channels: int, reduction: int = 2, combine: str = "max"):
        super().__init__(channels, reduction)
        self.combine = {"max": torch.maximum, "add": torch.add}[combine]
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channel_gate = record(self, "channel_gate", self.judge_channels(x), "b c 1 1", role="gate")
        spatial_gate = record(self, "spatial_gate", torch.sigmoid(self.conv(x)), "b 1 h w", role="gate")
        return self.combine(x * channel_gate, x * spatial_gate)
