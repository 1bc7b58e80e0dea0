from __future__ import annotations

import math

import torch
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "ghost",
    title="Ghost module",
    family="module",
    slot="conv",
    paper="Han et al., GhostNet: More Features from Cheap Operations, CVPR 2020, https://arxiv.org/abs/1911.11907",
)
class GhostModule(nn.Module):
    r"""Computes half of the feature maps the expensive way and makes the others from them cheaply.

    $$u = \mathrm{act}(\mathrm{bn}(W_{3\times3} * x)), \quad
    v_i = \mathrm{act}(\mathrm{bn}(D_i * u_i)), \quad y = [u\,;\,v]$$

    Look at the feature maps of a network and many are slight variations of each other: a shifted,
    blurred or sharpened twin. So half of them are enough to compute; each ghost is then made from its
    original by one small filter of its own.

    **What to look for.** The pairs: the same group number in `intrinsic` and in `ghost` (each shows its
    own strongest first). Is the ghost a copy, an edge picture, a negative? The filters that make them do
    not react to the picture.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `intrinsic` and `ghost` (B, C/2, H/stride,
    W/stride), `filters` (C/2, 3, 3), static. The module ends in its own BatchNorms. The first filter is
    3x3, not 1x1 as inside GhostNet, since it replaces a 3x3 convolution; no activation in the second
    convolution of a block, where the addition follows.
    """

    has_norm = True

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        kernel_size: int = 3,
        ratio: int = 2,
        ghost_size: int = 3,
        activation: bool = True,
    ):
        super().__init__()
        self.channels = channels_out
        width = math.ceil(channels_out / ratio)  # intrinsic maps
        ghosts = width * (ratio - 1)
        self.primary = nn.Conv2d(
            channels_in, width, kernel_size, stride, padding=kernel_size // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.cheap = nn.Conv2d(width, ghosts, ghost_size, padding=ghost_size // 2, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(ghosts)
        self.act = nn.ReLU() if activation else nn.Identity()

    @classmethod
    def at(cls, site: Site) -> GhostModule:
        return cls(site.channels_in, site.channels, site.stride, activation=site.position == 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        record(self, "filters", self.cheap.weight.squeeze(1), "g k k", role="static")
        intrinsic = self.act(self.bn1(self.primary(x)))  # (B, C/2, H/stride, W/stride)
        intrinsic = record(self, "intrinsic", intrinsic, "b g h w", role="features")
        ghost = self.act(self.bn2(self.cheap(intrinsic)))
        ghost = record(self, "ghost", ghost, "b g h w", role="features")
        return torch.cat([intrinsic, ghost], dim=1)[:, : self.channels]
