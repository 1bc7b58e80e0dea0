import math

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "eca",
    title="Efficient Channel Attention",
    family="channel",
    slot="refine",
    paper="Wang et al., ECA-Net: Efficient Channel Attention for Deep Convolutional "
    "Neural Networks, CVPR 2020, "
    "https://arxiv.org/abs/1910.03151",
)
class EfficientChannelAttention(nn.Module):
    r"""Sets each channel's factor from its own average and those of its few neighbours in the list.

    $$s_c = \sigma\Big(\sum_{i=1}^{k} w_i\, z_{c + i - (k+1)/2}\Big), \quad
    z_c = \frac{1}{HW}\sum_{i,j} x_{c,i,j}, \quad y_c = s_c\,x_c, \quad
    k = \left|\frac{\log_2 C + b}{\gamma}\right|_{\mathrm{odd}}$$

    Squeeze-and-excitation squeezes all averages through a narrow layer. Here a single filter of three or
    five numbers slides along the list of averages instead, the same for all channels: 36 numbers in the
    whole network.

    **What to look for.** There is no map to draw, only the gates and the few taps of the filter. A large
    middle tap means that a channel judges itself; large outer taps, that it listens to its neighbours.
    Their order in the list has no meaning of its own: training decides who sits beside whom.

    **Shapes.** (B, C, H, W) to the same; `gate` (B, C, 1, 1) between 0 and 1, and `taps` (k,), signed,
    the same for every picture. No bias; zeros beyond both ends of the list. The rule for k (gamma = 2, b
    = 1, rounded down, then up to an odd number) gives 3, 5, 5, 5 in the four stages; the authors'
    networks also set k by hand.
    """

    def __init__(self, channels: int, gamma: float = 2, b: float = 1):
        super().__init__()
        kernel_size = max(int((math.log2(channels) + b) / gamma) | 1, 3)
        self.conv = nn.Conv1d(1, 1, kernel_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3)).unsqueeze(1)  # (B, 1, C)
        taps = record(self, "taps", self.conv.weight.flatten(), "k", role="static")
        scores = F.conv1d(pooled, taps.view(1, 1, -1), padding=len(taps) // 2)
        gate = torch.sigmoid(scores).transpose(1, 2).unsqueeze(3)  # (B, C, 1, 1)
        gate = record(self, "gate", gate, "b c 1 1", role="gate")
        return x * gate
