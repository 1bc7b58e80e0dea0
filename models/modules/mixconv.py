import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "mixconv",
    title="MixConv",
    family="kernel",
    slot="conv",
    paper="Tan and Le, MixConv: Mixed Depthwise Convolutional Kernels, BMVC 2019, "
    "https://arxiv.org/abs/1907.09595",
)
class MixConv(nn.Module):
    r"""Gives some channels a 3x3 filter, others a 5x5 or 7x7 one, then mixes the channels cell by cell.

    $$u = [D^{(3)} * x_{1}\,;\ D^{(5)} * x_{2}\,;\ D^{(7)} * x_{3}], \quad
    y = P\,\mathrm{relu}(\mathrm{bn}(u))$$

    A large window sees more but costs more. In a depthwise convolution each channel has a filter of its
    own, so the price of a large one is small, and no single size must be chosen: the channels are dealt
    out over three sizes, and the layer sees fine and coarse detail at once.

    **What to look for.** The maps by filter size: do the channels with the large window answer to parts
    of the object, and those with the small one to edges?

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `kernel_3`, `kernel_5`, `kernel_7` (B,
    C_in/3, H/stride, W/stride): the channels by the size of their filter, the remainder with the first.
    MixConv itself mixes nothing across channels, so BatchNorm, ReLU and a 1x1 convolution follow it, as
    in a depthwise separable convolution; then the block's BatchNorm.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        kernel_sizes: tuple[int, ...] = (3, 5, 7),
    ):
        super().__init__()
        self.kernel_sizes = kernel_sizes
        share, rest = divmod(channels_in, len(kernel_sizes))
        self.widths = [share + rest] + [share] * (len(kernel_sizes) - 1)  # 64 -> 22, 21, 21
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, size, stride, padding=size // 2, groups=width, bias=False)
            for width, size in zip(self.widths, kernel_sizes)
        )
        self.bn = nn.BatchNorm2d(channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [conv(part) for conv, part in zip(self.depthwise, x.split(self.widths, dim=1))]
        parts = [
            record(self, f"kernel_{size}", part, "b k h w", role="features")
            for size, part in zip(self.kernel_sizes, parts)
        ]
        x = torch.cat(parts, dim=1)  # (B, C_in, H/stride, W/stride)
        return self.pointwise(torch.relu(self.bn(x)))  # (B, C, H/stride, W/stride)
