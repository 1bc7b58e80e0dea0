from __future__ import annotations

import torch
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record

# For each stage: kernel size, groups, and which fraction (1/n) of the output channels.
PYRAMIDS = {
    1: ((3, 1, 4), (5, 4, 4), (7, 8, 4), (9, 16, 4)),
    2: ((3, 1, 4), (5, 4, 4), (7, 8, 2)),
    3: ((3, 1, 2), (5, 4, 2)),
    4: ((3, 1, 1),),
}


@mechanism(
    "pyconv",
    title="Pyramidal Convolution",
    family="kernel",
    slot="conv",
    paper="Duta et al., Pyramidal Convolution: Rethinking Convolutional Neural Networks for Visual "
    "Recognition, 2020, https://arxiv.org/abs/2006.11538",
)
class PyConv(nn.Module):
    r"""Looks at the same map with several filter sizes at once, the large ones at fewer channels each.

    $$y = [W^{(3)} * x\,;\ W^{(5)} *_{4} x\,;\ W^{(7)} *_{8} x\,;\ W^{(9)} *_{16} x]$$

    Filters from a fine 3x3 to a coarse 9x9 work side by side, and their answers are stacked. So that the
    large ones cost no more than the small ones, they work in groups (the number under the star): each
    filter reads only a fourth, an eighth or a sixteenth of the channels.

    **What to look for.** The maps by filter size: which size answers to the object, which to its
    outline? Later stages have smaller maps and use fewer sizes; the last has 3x3 alone.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `kernel_3` to `kernel_9`: the output
    channels by the size of their filter, C/4 each in stage 1; C/4, C/4, C/2 in stage 2; C/2 each in
    stage 3. Both convolutions of a block are pyramids; the authors' own small ResNet makes the second
    one a 1x1.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        levels: tuple[tuple[int, int, int], ...] = PYRAMIDS[1],
    ):
        super().__init__()
        self.kernel_sizes = [size for size, _, _ in levels]
        self.levels = nn.ModuleList(
            nn.Conv2d(
                channels_in, channels_out // part, size, stride, padding=size // 2, groups=groups, bias=False
            )
            for size, groups, part in levels
        )

    @classmethod
    def at(cls, site: Site) -> PyConv:
        return cls(site.channels_in, site.channels, site.stride, PYRAMIDS[site.stage])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answers = [
            record(self, f"kernel_{size}", level(x), "b k h w", role="features")
            for size, level in zip(self.kernel_sizes, self.levels)
        ]
        return torch.cat(answers, dim=1)  # (B, C, H/stride, W/stride)
