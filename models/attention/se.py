import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "se",
    title="Squeeze-and-Excitation",
    family="channel",
    slot="refine",
    paper="Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507",
)
class SqueezeExcitation(nn.Module):
    r"""Turns each channel up or down by a factor computed from the averages of all channels.

    $$s = \sigma(W_2\,\mathrm{relu}(W_1 z + b_1) + b_2), \quad
    z_c = \frac{1}{HW}\sum_{i,j} x_{c,i,j}, \quad y_c = s_c\,x_c$$

    The network summarises each feature map by one number, lets a tiny two-layer network look at all the
    numbers together, and sets one slider per channel, like a mixing desk. It says *which* features count
    for this picture, never *where*: the same factor holds for every cell of a channel.

    **What to look for.** There is no map to draw, only the gates. Compare an early and a late block: where
    the sliders hardly differ between two pictures, the gate is nearly a constant, which the BatchNorm
    before it could hold as well.

    **Shapes.** (B, C, H, W) to the same; `gate` (B, C, 1, 1) between 0 and 1. Biases as in the authors'
    models.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))
        gate = record(self, "gate", gate, "b c 1 1", role="gate")
        return x * gate
