import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import attend, record


@mechanism(
    "danet",
    title="DANet",
    family="hybrid",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Fu et al., Dual Attention Network for Scene Segmentation, CVPR 2019, https://arxiv.org/abs/1809.02983",
)
class DualAttention(nn.Module):
    r"""Compares all places with each other, and all channels with each other, and adds both answers.

    $$S = \mathrm{softmax}_j(Q_i \cdot K_j), \quad E = X X^\top, \quad
    A = \mathrm{softmax}_j(\max\nolimits_k E_{ik} - E_{ij}), \quad y = x + \alpha\, V S^\top + \beta\, A X$$

    The same feature map can be read as a set of places or as a set of detectors (columns and rows of the
    matrix X, channels by places, as V is). The position branch lets each place gather from the places
    that match it; the channel branch lets a detector gather from those that match it least, without any
    weights of its own.

    **What to look for.** Click a place for the position branch; *changes the features by* counts both
    branches. In the channel matrix find the columns that most rows point at: by the authors' sign
    (`max - E`) the channels whose product with the row's is smallest, unlike it or weak. The diagonal is
    usually dark.

    **Shapes.** (B, C, H, W) to the same; `position` (B, N, H, W), for each of the N = HW queries a map that
    sums to one; `channel` (B, C, C), rows sum to one. As in the authors' code the scores are not scaled and
    the channel scores carry the sign above; the paper's formula is softmax(E), `channel_sign=1`. Adding
    both branches to x without further convolutions is our fit to a small classifier. Alpha and beta start
    at 0.
    """

    def __init__(self, channels: int, reduction: int = 8, channel_sign: int = -1):
        super().__init__()
        self.channel_sign = channel_sign
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.alpha * self.between_places(x) + self.beta * self.between_channels(x)

    def between_places(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value)
        )  # (B, N, C/8), (B, N, C/8), (B, N, C)
        gathered = attend(self, query, key, value, (height, width), scale=1.0, name="position")
        return gathered.transpose(1, 2).unflatten(2, (height, width))

    def between_channels(self, x: torch.Tensor) -> torch.Tensor:
        detectors = x.flatten(2)  # (B, C, N)
        with torch.autocast(x.device.type, enabled=False):  # the energies overflow half precision
            wide = detectors.to(torch.promote_types(x.dtype, torch.float32))
            energy = wide @ wide.transpose(1, 2)  # (B, C, C)
            channel = (self.channel_sign * energy).softmax(-1)  # a constant per row, max_k E, changes nothing
        channel = record(self, "channel", channel, "b c c", role="share", over="c")
        return (channel.to(x.dtype) @ detectors).view_as(x)
