from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "seb",
    title="Semantic Embedding Branch",
    family="module",
    slot="head",
    paper="Zhang et al., ExFuse: Enhancing Feature Fusion for Semantic Segmentation, ECCV 2018, "
    "https://arxiv.org/abs/1804.03821",
)
class SemanticEmbeddingBranch(nn.Module):
    r"""Multiplies a shallow map by what the deeper map says about the same places.

    $$y = l \odot m, \quad m = \mathrm{up}(W_{3\times3} * h + b), \quad
    \mathrm{features} = [\mathrm{avg}_{hw}\,h;\ \mathrm{avg}_{hw}\,y]$$

    Shallow maps know where things are but not what they are; deep maps the other way round. Here the
    deep map h is translated into the channels of the shallow map l, enlarged, and multiplied onto it, so
    that details survive where the deep map finds a meaning for them.

    **What to look for.** The factor may be negative: it is a multiplication, not a gate between 0 and 1.
    Where its map is near zero the shallow features are switched off, where it is negative they are
    turned over.

    **Shapes.** Head: the outputs of stage 3 (B, C/2, H, W) and stage 4 (B, C, H/2, W/2) to features (B,
    3C/2); `mask` (B, C/2, H, W), of both signs. There is no authors' code: this is a plain convolution
    with bias, enlarged with its corners in place, as most ports have it. The paper multiplies in all
    higher levels, here there is one; the place in a classifier is ours.
    """

    def __init__(self, channels_low: int, channels_high: int):
        super().__init__()
        self.channels_out = channels_low + channels_high
        self.embed = nn.Conv2d(channels_high, channels_low, 3, padding=1)

    @classmethod
    def at(cls, site: Site) -> SemanticEmbeddingBranch:
        return cls(site.channels // 2, site.channels)

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        low, high = stages[-2:]  # (B, C/2, H, W), (B, C, H/2, W/2)
        return torch.cat([high.mean((2, 3)), self.fuse(low, high).mean((2, 3))], dim=1)

    def fuse(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        mask = F.interpolate(self.embed(high), low.shape[2:], mode="bilinear", align_corners=True)
        # A factor without a sigmoid: it has no ends.
        mask = record(self, "mask", mask, "b c h w", role="gate", bounds=(-math.inf, math.inf))
        return low * mask
