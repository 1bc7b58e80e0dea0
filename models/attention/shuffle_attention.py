import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "shuffle_attention",
    title="Shuffle Attention",
    family="hybrid",
    slot="refine",
    paper="Zhang and Yang, SA-Net: Shuffle Attention for Deep Convolutional Neural Networks, ICASSP 2021, "
    "https://arxiv.org/abs/2102.00240",
)
class ShuffleAttention(nn.Module):
    r"""Gives half of each group's channels a volume knob, the other half a mask, and then shuffles them.

    $$[x^{0}_g;\ x^{1}_g] = x_g, \quad
    y_g = \big[x^{0}_g\,\sigma(w_c\,\mathrm{avg}_{hw}\,x^{0}_g + b_c);\
    x^{1}_g\,\sigma(w_s\,\mathrm{norm}_{hw}(x^{1}_g) + b_s)\big], \quad
    y = \mathrm{shuffle}[y_1; \dots; y_G]$$

    The channels are cut into sixteen groups and each group into two halves. In the first half a
    channel's own average sets its volume. In the second half each channel is compared, place by place,
    with its own mean, and becomes its own mask. All groups share one set of numbers, twelve to
    ninety-six in a block; the shuffle at the end lays the first eight groups and the last eight into
    each other, so that the channels of groups 1 and 9, 2 and 10, ... come to stand side by side.

    **What to look for.** A spatial gate is a contrast-stretched copy of the very channel it multiplies:
    where it is bright the channel is above its own mean (below, where the learned factor is negative). So
    look at how strong the contrast is, and in which block; the pattern is the channel's own.

    **Shapes.** (B, C, H, W) to the same; `channel_gate` (B, C/2, 1, 1) and `spatial_gate` (B, C/2, H,
    W), between 0 and 1, in the order of the input: the first and the second half of every group. Weights
    start at 0 and biases at 1, so every gate starts at 0.73, as in the authors' code. The norm has a
    factor and a shift of its own for each channel, left out above. Their 64 groups need 128 channels;
    with 16 the halves have 2, 4, 8 and 16 channels, as in their ResNet50. The shuffle has two groups, as
    in the code.
    """

    def __init__(self, channels: int, groups: int = 16):
        super().__init__()
        self.groups = groups
        half = channels // (2 * groups)
        self.channel_weight = nn.Parameter(torch.zeros(half))
        self.channel_bias = nn.Parameter(torch.ones(half))
        self.norm = nn.GroupNorm(half, half)
        self.spatial_weight = nn.Parameter(torch.zeros(half))
        self.spatial_bias = nn.Parameter(torch.ones(half))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        groups = x.unflatten(1, (self.groups, 2, -1))  # (B, G, 2, C/2G, H, W)
        first, second = groups.unbind(2)
        average = first.mean((3, 4), keepdim=True)
        channel_gate = self.gate(average, self.channel_weight, self.channel_bias)
        channel_gate = record(self, "channel_gate", channel_gate, "b k 1 1", role="gate")

        contrast = self.norm(second.flatten(0, 1)).unflatten(0, second.shape[:2])
        spatial_gate = self.gate(contrast, self.spatial_weight, self.spatial_bias)
        spatial_gate = record(self, "spatial_gate", spatial_gate, "b k h w", role="gate")

        first = first * channel_gate.view_as(average)
        second = second * spatial_gate.view_as(second)
        return F.channel_shuffle(torch.stack([first, second], dim=2).flatten(1, 3), 2)

    def gate(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(B, G, C/2G, H, W) to (B, C/2, H, W); all groups share the weights."""
        return torch.sigmoid(weight[:, None, None] * x + bias[:, None, None]).flatten(1, 2)
