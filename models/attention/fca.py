from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record

# The authors' 16 best pairs of frequencies on ImageNet, in units of a 7x7 grid: u along the height, v along
# the width.
TOP16_U = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)
TOP16_V = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)


@mechanism(
    "fca",
    title="FcaNet",
    family="channel",
    slot="refine",
    paper="Qin et al., FcaNet: Frequency Channel Attention Networks, ICCV 2021, "
    "https://arxiv.org/abs/2012.11879",
)
class FrequencyChannelAttention(nn.Module):
    r"""Squeezes each channel by the wave pattern of its group instead of the plain average.

    $$z_c = \sum_{h,w} x_{c,h,w}\,B_{i(c)}[h,w], \quad s = \sigma(W_2\,\mathrm{relu}(W_1 z)), \quad
    y_c = s_c\,x_c$$
    $$B_i[h,w] = a_{u_i}(H)\cos\frac{\pi u_i (h + \frac12)}{H}\;
    a_{v_i}(W)\cos\frac{\pi v_i (w + \frac12)}{W}, \quad
    a_0(N) = \sqrt{1/N}, \quad a_{k>0}(N) = \sqrt{2/N}$$

    The average of a map is only the lowest note of its spectrum. Here sixteen groups of channels (c is in
    group i(c)) listen to sixteen notes of the discrete cosine transform, waves of frequency u_i along the
    height and v_i along the width; a small network then sets one factor per channel, as in
    squeeze-and-excitation.

    **What to look for.** The basis pictures are the sixteen waves. The strip below the spectrum keeps
    the channels in their order: sixteen equal parts, for the waves 1 to 16. A large value says that the
    channel has that pattern, its sign where the crests lie. On the 8x8 and 4x4 maps some waves have an
    odd frequency, v = 1, 3 or 5 across: if the input of the module were mirrored, their components would
    change sign, which an average would not notice. On the larger maps all frequencies are even and would
    not notice either.

    **Shapes.** (B, C, H, W) to the same; `basis` (16, H, W), the same for every picture, `spectrum` (B,
    C), signed, and `gate` (B, C, 1, 1) between 0 and 1. As in the authors' code z is a sum, the layers
    have no biases, a map of another size than the basis is first averaged to that size, and the
    frequencies of a 7x7 grid are multiplied by H // 7 and W // 7. On the 4x4 map that factor would be 0
    and every wave an average, so there all 16 frequencies of the grid are used: our choice.
    """

    def __init__(self, channels: int, height: int, width: int, reduction: int = 16):
        super().__init__()
        self.register_buffer("basis", dct_basis(height, width))
        self.squeeze = nn.Linear(channels, channels // reduction, bias=False)
        self.excite = nn.Linear(channels // reduction, channels, bias=False)

    @classmethod
    def at(cls, site: Site) -> FrequencyChannelAttention:
        return cls(site.channels, site.size, site.size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        basis = record(self, "basis", self.basis, "k h w", role="static")
        sized = x
        if x.shape[2:] != basis.shape[1:]:  # training may begin on smaller pictures
            sized = F.adaptive_avg_pool2d(x, basis.shape[1:])
        groups = sized.unflatten(1, (len(basis), -1))  # (B, 16, C/16, H, W)
        spectrum = torch.einsum("bkchw,khw->bkc", groups, basis).flatten(1)  # (B, C)
        spectrum = record(self, "spectrum", spectrum, "b c", role="features")
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(spectrum))))
        gate = record(self, "gate", gate[:, :, None, None], "b c 1 1", role="gate")
        return x * gate


def dct_basis(height: int, width: int) -> torch.Tensor:
    """Sixteen orthonormal waves (16, H, W) of the discrete cosine transform."""
    if min(height, width) >= 7:
        frequencies = [(u * (height // 7), v * (width // 7)) for u, v in zip(TOP16_U, TOP16_V)]
    else:  # the lowest of the grid; on 4x4 these are all
        grid = itertools.product(range(height), range(width))
        frequencies = sorted(grid, key=lambda pair: (sum(pair), pair))[:16]
    waves = [np.outer(wave(u, height), wave(v, width)) for u, v in frequencies]
    return torch.tensor(np.stack(waves), dtype=torch.float32)


def wave(frequency: int, size: int) -> np.ndarray:
    scale = math.sqrt((2 if frequency else 1) / size)
    return scale * np.cos(math.pi * frequency * (np.arange(size) + 0.5) / size)
