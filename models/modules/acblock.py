import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import is_recording, record


@mechanism(
    "acblock",
    title="Asymmetric Convolution Block",
    family="kernel",
    slot="conv",
    paper="Ding et al., ACNet: Strengthening the Kernel Skeletons for Powerful CNN via Asymmetric "
    "Convolution Blocks, ICCV 2019, https://arxiv.org/abs/1908.03930",
)
class AsymmetricConvBlock(nn.Module):
    r"""Trains a 3x3, a 3x1 and a 1x3 convolution side by side, and adds them into one 3x3 afterwards.

    $$y = \mathrm{bn}_1(W_{3\times3} * x) + \mathrm{bn}_2(W_{3\times1} * x)
    + \mathrm{bn}_3(W_{1\times3} * x)$$
    $$W'_m = \frac{\gamma_m}{\sqrt{v_m + \varepsilon}}\,W_m, \quad
    b'_m = \beta_m - \frac{\gamma_m\,\mu_m}{\sqrt{v_m + \varepsilon}}, \quad
    y = \big(\textstyle\sum_m W'_m\big) * x + \sum_m b'_m$$

    During training the network gets extra filters, a column and a row, that strengthen the cross in the
    middle of each 3x3 filter, its skeleton. Because convolution is linear they can afterwards be added
    into the 3x3 filter: the finished network is as small and as fast as if they had never been there.

    **What to look for.** The skeleton is a property of the trained filters and does not react to the
    picture. Do its middle row and column stand out against the corners, as in the paper? For this
    picture, compare what the three branches add.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `skeleton` (3, 3), static: the mean of
    |weight| over the folded kernels, cell by cell; `views` (B, 3, C, H/stride, W/stride), what each
    branch adds: the square, the column, the row. No activation between the branches. The block ends in
    its own BatchNorms, whose weights start at 1/3, the authors' advice for CIFAR.
    """

    has_norm = True

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, kernel_size: int = 3, gamma: float = 1 / 3
    ):
        super().__init__()

        def branch(height: int, width: int) -> nn.Sequential:
            padding = (height // 2, width // 2)
            return nn.Sequential(
                nn.Conv2d(channels_in, channels_out, (height, width), stride, padding, bias=False),
                nn.BatchNorm2d(channels_out),
            )

        self.square = branch(kernel_size, kernel_size)
        self.vertical = branch(kernel_size, 1)
        self.horizontal = branch(1, kernel_size)
        for _, bn in (self.square, self.vertical, self.horizontal):
            nn.init.constant_(bn.weight, gamma)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        views = [self.square(x), self.vertical(x), self.horizontal(x)]  # each (B, C, H/stride, W/stride)
        if is_recording():
            skeleton = self.kernel_and_bias()[0].abs().mean((0, 1))  # (3, 3)
            record(self, "skeleton", skeleton, "k k", role="static")
            views = record(
                self, "views", torch.stack(views, dim=1), "b branch c h w", role="features"
            ).unbind(1)
        return sum(views)

    def kernel_and_bias(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the three branches are together, in eval mode: (C, C_in, 3, 3) and (C,)."""
        kernels, bias = [], 0
        for conv, bn in (self.square, self.vertical, self.horizontal):
            slope = bn.weight / (bn.running_var + bn.eps).sqrt()  # (C,)
            kernels.append(conv.weight * slope.view(-1, 1, 1, 1))
            bias = bias + bn.bias - bn.running_mean * slope
        square, vertical, horizontal = kernels
        half = square.shape[-1] // 2
        kernel = square + F.pad(vertical, (half, half)) + F.pad(horizontal, (0, 0, half, half))
        return kernel, bias

    @torch.no_grad()
    def fold(self) -> nn.Conv2d:
        """One convolution with bias that does the same as this block in eval mode."""
        kernel, bias = self.kernel_and_bias()
        conv = self.square[0]
        folded = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
        ).to(kernel)
        folded.weight.copy_(kernel)
        folded.bias.copy_(bias)
        return folded
