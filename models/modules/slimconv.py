import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "slimconv",
    title="SlimConv",
    family="module",
    slot="conv2",
    paper="Qiu et al., SlimConv: Reducing Channel Redundancy in Convolutional Neural Networks by Features "
    "Recombining, IEEE TIP 2021, https://arxiv.org/abs/2003.07469",
)
class SlimConv(nn.Module):
    r"""Weights the channels twice, by a learned list and by that list reversed, and folds them in half.

    $$w = \sigma(W_2\,\mathrm{relu}(\mathrm{bn}(W_1\,\mathrm{avg}_{hw}\,x)) + b_2), \quad
    p_c = w_c\,x_c, \quad q_c = w_{C-1-c}\,x_c$$
    $$p'_c = p_c + p_{c+C/2}, \quad q'_c = q_c + q_{c+C/2}, \quad
    y = P\,\mathrm{relu}\big([\mathrm{bn}(W_p * p')\,;\
    \mathrm{bn}(W_q * \mathrm{relu}(\mathrm{bn}(W_r\,q')))]\big)$$

    Like squeeze-and-excitation the layer computes one slider for each channel from the averages of all.
    It sets the sliders twice, once as they are and once in mirror order, so that what is faint in one
    copy may be strong in the other. Then each copy is folded onto itself: half as many channels, and the
    3x3 convolutions after it are cheaper.

    **What to look for.** The gates. Channel c is added to channel c + C/2: where both have high gates
    the sum mixes them, where one is high and the other low the fold keeps that one alone.

    **Shapes.** (B, C, H, W) to the same; `gate` (B, C, 1, 1) between 0 and 1. The authors' layer ends
    with 3C/4 channels; ReLU and the 1x1 convolution P that restores C are our fit to a residual block.
    Training needs a batch of two or more, for the gate has a BatchNorm over pooled values.
    """

    def __init__(self, channels: int, reduction: int = 32):
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.squeeze_bn = nn.BatchNorm2d(channels // reduction)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)
        self.top = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half))
        self.bottom = nn.Sequential(
            nn.Conv2d(half, quarter, 1, bias=False),
            nn.BatchNorm2d(quarter),
            nn.ReLU(),
            nn.Conv2d(quarter, quarter, 3, padding=1, bias=False),
            nn.BatchNorm2d(quarter),
        )
        self.project = nn.Conv2d(half + quarter, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(torch.relu(self.slim(x)))

    def slim(self, x: torch.Tensor) -> torch.Tensor:
        """The authors' layer: (B, C, H, W) to (B, 3C/4, H, W)."""
        pooled = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze_bn(self.squeeze(pooled)))))
        gate = record(self, "gate", gate, "b c 1 1", role="gate")
        straight, mirrored = (fold_in_half(x * factor) for factor in (gate, gate.flip(1)))  # (B, C/2, H, W)
        return torch.cat([self.top(straight), self.bottom(mirrored)], dim=1)


def fold_in_half(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=1)
    return first + second
