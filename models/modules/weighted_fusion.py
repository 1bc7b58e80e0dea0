from __future__ import annotations

import torch
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "weighted_fusion",
    title="Weighted fusion",
    family="module",
    slot="fuse",
    paper="Tan et al., EfficientDet: Scalable and Efficient Object Detection, CVPR 2020, "
    "https://arxiv.org/abs/1911.09070",
)
class WeightedFusion(nn.Module):
    r"""Learns how much each of several maps counts in their sum, as shares (fast normalised fusion).

    $$y = \sum_i a_i\,x_i, \quad a_i = \frac{\mathrm{relu}(w_i)}{\varepsilon + \sum_j \mathrm{relu}(w_j)}$$

    A residual block adds two maps, its shortcut and what its convolutions found, as equals. Here the
    block learns two numbers, the share of each. That is the whole mechanism: sixteen numbers in the
    network show how far each block trusts its shortcut and how far its own work.

    **What to look for.** Two bars for each block, the shortcut's share and the residual's; read them
    from the first block to the last. The shares are the same for every picture. A share of 0 means that
    the path is closed for good: a weight that has fallen to 0 gets no gradient any more.

    **Shapes.** n maps (B, C, H, W) to one; `weights` (n,), not negative, sum just under one, in the
    order of the maps: the shortcut first, then the residual. Weights start at 1, as in the authors'
    code, so the untrained block averages where a plain one adds.
    """

    def __init__(self, maps: int = 2, epsilon: float = 1e-4):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(maps))

    @classmethod
    def at(cls, site: Site) -> WeightedFusion:
        return cls()

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        positive = torch.relu(self.weight)
        weights = positive / (self.epsilon + positive.sum())
        # Learnt, so the same for every picture; but for epsilon they sum to one.
        weights = record(self, "weights", weights, "k", role="static", over="k")
        return sum(weight * x for weight, x in zip(weights, maps))
