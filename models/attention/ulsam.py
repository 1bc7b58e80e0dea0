import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "ulsam",
    title="ULSAM",
    family="spatial",
    slot="stage",
    sites=("stage2", "stage3", "stage4"),
    paper="Saini et al., ULSAM: Ultra-Lightweight Subspace Attention Module for Compact Convolutional Neural "
    "Networks, WACV 2020, https://arxiv.org/abs/2006.15102",
)
class SubspaceAttention(nn.Module):
    r"""Cuts the channels into four packs and lets each pack brighten its own favourite places.

    $$A_n = \mathrm{softmax}_{hw}\,\mathrm{relu}\big(\mathrm{bn}(w_n^\top \max\nolimits_{3\times3}\,
    \mathrm{relu}(\mathrm{bn}(s \odot F_n + t)))\big), \quad y_n = F_n + A_n\,F_n$$

    Each pack F_n has one map, made almost without weights: every channel is stretched and shifted, its
    peaks are widened to 3x3 cells, and one weight per channel sums them up. The softmax gives each pack
    the same total of attention, one, to spend on the cells.

    **What to look for.** Four fingers pointing at one picture: do they point at different places?
    Shares are shown; the factor is one more: at 1x 1.004 on 16x16 cells and 1.06 on 4x4, at 16x 1.06 and
    2. All places with negative evidence share one value, the darkest: a ReLU stands before the softmax.

    **Shapes.** (B, C, H, W) to the same; `subspace_map` (B, 4, H, W), positive, each sums to one over
    the cells. Four packs as in most of the paper's experiments. The BatchNorms have the usual momentum,
    0.1; the 0.9 in the authors' code would make their statistics those of the last batch. The places are
    our choice: the authors work on mobile networks, on maps of 14 and 7 cells.
    """

    def __init__(self, channels: int, groups: int = 4):
        super().__init__()
        self.groups = groups
        self.each = nn.Sequential(nn.Conv2d(channels, channels, 1, groups=channels), nn.BatchNorm2d(channels))
        self.gather = nn.Sequential(nn.Conv2d(channels, groups, 1, groups=groups), nn.BatchNorm2d(groups))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        peaks = F.max_pool2d(torch.relu(self.each(x)), 3, stride=1, padding=1)  # (B, C, H, W)
        scores = torch.relu(self.gather(peaks))  # (B, groups, H, W)
        maps = scores.flatten(2).softmax(-1).unflatten(2, (height, width))
        maps = record(self, "subspace_map", maps, "b g h w", role="share", over="h w")
        packs = x.unflatten(1, (self.groups, -1))  # (B, groups, C/groups, H, W)
        return (packs + packs * maps.unsqueeze(2)).flatten(1, 2)
