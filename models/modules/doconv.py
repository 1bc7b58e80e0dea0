import torch
from torch import nn
from torch.nn import functional as F

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "doconv",
    title="DO-Conv",
    family="kernel",
    slot="conv",
    paper="Cao et al., DO-Conv: Depthwise Over-parameterized Convolutional Layer, IEEE TIP 2022, "
    "https://arxiv.org/abs/2006.12030",
)
class DepthwiseOverparameterizedConv(nn.Module):
    r"""Writes each filter as a product of two learned parts, which is multiplied out once it is trained.

    $$K_{o,i} = (I + D_i)\,W_{o,i}, \quad y_o = \textstyle\sum_i K_{o,i} * x_i$$

    The nine weights of a filter are what a 9x9 matrix, one for each input channel, makes of nine others.
    One part would do: nothing can be computed this way that a plain convolution cannot. But the surplus
    changes the path that learning takes, which sometimes ends a little higher, and afterwards both parts
    are multiplied into an ordinary filter at no cost.

    **What to look for.** D, how far the matrix of each channel has moved from doing nothing. It belongs
    to the trained filters and does not react to the picture.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `depthwise` (C_in, 9, 9), D, static: rows
    are cells of the kernel K, columns those of W. D starts at 0, so the untrained layer is a plain
    convolution. Without groups: for 1 < groups < C_in the authors' code pairs W with the D of other
    channels.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, kernel_size: int = 3):
        super().__init__()
        self.stride, self.kernel_size = stride, kernel_size
        cells = kernel_size**2
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, cells))
        self.depthwise = nn.Parameter(torch.zeros(channels_in, cells, cells))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        record(self, "depthwise", self.depthwise, "g k k", role="static")
        stride, padding = (self.stride,) * 2, (self.kernel_size // 2,) * 2
        return F.conv2d(x, self.kernel(), None, stride, padding, (1, 1), 1)

    def kernel(self) -> torch.Tensor:
        """(C, C_in, 3, 3): both parts multiplied out."""
        kernel = self.weight + torch.einsum("ims,ois->oim", self.depthwise, self.weight)
        return kernel.unflatten(2, (self.kernel_size, self.kernel_size))

    @torch.no_grad()
    def fold(self) -> nn.Conv2d:
        """A plain convolution that does the same."""
        kernel = self.kernel()
        channels, channels_in = kernel.shape[:2]
        folded = nn.Conv2d(
            channels_in, channels, self.kernel_size, self.stride, self.kernel_size // 2, bias=False
        ).to(kernel)
        folded.weight.copy_(kernel)
        return folded
