import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "spconv",
    title="SPConv",
    family="kernel",
    slot="conv",
    paper="Zhang et al., Split to Be Slim: An Overlooked Redundancy in Vanilla Convolution, IJCAI 2020, "
    "https://arxiv.org/abs/2006.12085",
)
class SPConv(nn.Module):
    r"""Gives half of the channels a 3x3 convolution, the other half a 1x1, and weighs the two answers.

    $$x = [a\,;\,b], \quad u = \mathrm{bn}(W_{3\times3} * a + W_{1\times1}\,a), \quad
    v = \mathrm{bn}(W'_{1\times1}\,b + \beta)$$
    $$[\lambda^u_c, \lambda^v_c] = \mathrm{softmax}([\mathrm{avg}_{hw}\,u_c,\ \mathrm{avg}_{hw}\,v_c]),
    \quad y_c = \lambda^u_c\,u_c + \lambda^v_c\,v_c$$

    Many channels say nearly the same, so only half of them get the full treatment with a window, the
    other half a quick mixing without one. For each output channel a softmax then decides which of the
    two answers to trust more: the one with the higher average. The choice has no weights of its own.

    **What to look for.** The share of the 3x3 answer, channel by channel. Both answers come out of a
    BatchNorm, so the shares start near one half; see where training has moved them apart.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `weights` (B, 2, C, 1, 1), the 3x3 answer
    first. The 3x3 convolution has two groups. Where the map shrinks, the 1x1 convolutions read averages
    of 2x2 cells. The block's BatchNorm is kept after it, as the authors do.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, groups: int = 2):
        super().__init__()
        half = channels_in // 2
        self.stride = stride
        self.window = nn.Conv2d(half, channels_out, 3, stride, 1, groups=groups, bias=False)
        self.point = nn.Conv2d(half, channels_out, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.quick = nn.Conv2d(half, channels_out, 1)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        full = x.chunk(2, dim=1)[0]  # (B, C_in/2, H, W)
        pooled = F.avg_pool2d(x, self.stride, ceil_mode=True) if self.stride > 1 else x
        full_pooled, rest = pooled.chunk(2, dim=1)
        thorough = self.bn1(self.window(full) + self.point(full_pooled))  # (B, C, H/stride, W/stride)
        answers = torch.stack([thorough, self.bn2(self.quick(rest))], dim=1)  # (B, 2, C, ...)
        weights = answers.mean((3, 4), keepdim=True).softmax(1)
        weights = record(self, "weights", weights, "b branch c 1 1", role="share", over="branch")
        return (weights * answers).sum(1)
