from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import attend

PAPER = (
    "Zhu, Xu et al., Asymmetric Non-local Neural Networks for Semantic Segmentation, ICCV 2019, "
    "https://arxiv.org/abs/1908.07678"
)


@mechanism(
    "apnb",
    title="Asymmetric Pyramid Non-local",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper=PAPER,
)
class AsymmetricPyramidNonLocal(nn.Module):
    r"""Compares each cell not with all cells, but with averages over regions of several sizes.

    $$A_{is} = \mathrm{softmax}_s\big(Q_i \cdot P(Q)_s / \sqrt{d}\big), \quad
    c_i = W \textstyle\sum_s A_{is}\, P(V)_s, \quad y = \mathrm{relu}(\mathrm{bn}(\mathrm{conv}[c;\, x]))$$

    Most of what a cell could ask its many neighbours is said many times over. So P summarises the map
    first, as a whole, in 3x3, in 6x6 and in 8x8 regions, and every cell asks these 110 summaries at four
    zoom levels instead of 256 neighbours.

    **What to look for.** Mark a place: the bars are what its cell reads, from the whole picture on the
    left to the smallest regions on the right. The line is an equal share: it gives the four levels 1, 8,
    33 and 58 % (after layer3 5, 19 and 76 %). Heights are logarithms and do not add up. *Changes the
    features by* is nearly all the last convolution's doing.

    **Shapes.** (B, C, H, W) to the same, not negative; `affinity` (B, N, S): for each of the N = HW
    queries S weights that sum to one, over the regions of each size in turn, row by row. Regions may
    overlap where the sizes do not divide. After stage 3, where 8x8 regions would be the cells
    themselves, the sizes are 1, 2, 4 (our choice). Query and key share one projection, a 1x1 convolution
    with BatchNorm and ReLU, to d = C/2 channels; the value has a convolution alone. W starts at 0, but
    the block does not start as the identity, for its last convolution mixes and replaces x.
    """

    def __init__(self, channels: int, reduction: int = 2, sizes: tuple[int, ...] = (1, 3, 6, 8)):
        super().__init__()
        inner = channels // reduction
        self.sizes = sizes
        self.query = projection(channels, inner)
        self.value = nn.Conv2d(channels, inner, 1)
        self.project = switched_off(nn.Conv2d(inner, channels, 1))
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout2d(0.05)
        )

    @classmethod
    def at(cls, site: Site) -> AsymmetricPyramidNonLocal:
        return cls(site.channels, sizes=(1, 3, 6, 8) if site.size > 8 else (1, 2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.query(x)  # the key is the same, pooled
        gathered = gather(self, query, pyramid(query, self.sizes), pyramid(self.value(x), self.sizes))
        return self.fuse(torch.cat([self.project(gathered), x], dim=1))


@mechanism(
    "afnb",
    title="Asymmetric Fusion Non-local",
    family="pairwise",
    slot="cross",
    sites=("stage3",),
    paper=PAPER,
)
class AsymmetricFusionNonLocal(nn.Module):
    r"""Lets each cell of a deep map ask averages over regions of the finer map one stage earlier.

    $$A_{is} = \mathrm{softmax}_s\big(Q^{high}_i \cdot P(K^{low})_s / \sqrt{d}\big), \quad
    c_i = W \textstyle\sum_s A_{is}\, P(V^{low})_s, \quad y = \mathrm{bn}(\mathrm{conv}[c;\, x^{high}])$$

    Deep in the network a cell knows much about "what" and little about "exactly where"; one stage
    earlier it is the other way round. Here the deep cell asks the earlier stage, which answers by
    averages P over the whole map and over 3x3, 6x6 and 8x8 regions of it.

    **What to look for.** Mark a place: the bars are what its cell of the deep map reads from the regions
    of the earlier one, the largest on the left. The line is an equal share: it gives the four levels 1,
    8, 33 and 58 %. Heights are logarithms and do not add up. *Changes the features by* counts the last
    convolution, too.

    **Shapes.** (B, C, H, W) and the earlier (B, C/2, 2H, 2W) to (B, C, H, W), of both signs; `affinity`
    (B, N, S): for each of the N = HW queries S weights that sum to one, over the regions of each size in
    turn, row by row. Queries, keys and values have d = C/4 channels, the first two behind a BatchNorm
    and a ReLU. There is no ReLU at the end, as in the authors' code. W starts at 0, but the block does
    not start as the identity, for its last convolution mixes and replaces x.
    """

    def __init__(
        self,
        channels: int,
        channels_low: int,
        reduction: int = 4,
        sizes: tuple[int, ...] = (1, 3, 6, 8),
    ):
        super().__init__()
        inner = channels // reduction
        self.sizes = sizes
        self.query = projection(channels, inner)
        self.key = projection(channels_low, inner)
        self.value = nn.Conv2d(channels_low, inner, 1)
        self.project = switched_off(nn.Conv2d(inner, channels, 1))
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1), nn.BatchNorm2d(channels), nn.Dropout2d(0.05)
        )

    @classmethod
    def at(cls, site: Site) -> AsymmetricFusionNonLocal:
        return cls(site.channels, site.channels // 2)  # the stage before has half the width

    def forward(self, high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        key, value = pyramid(self.key(low), self.sizes), pyramid(self.value(low), self.sizes)
        gathered = gather(self, self.query(high), key, value)
        return self.fuse(torch.cat([self.project(gathered), high], dim=1))


def pyramid(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """The averages of a map over 1x1, 3x3, ... regions, as tokens: (B, C, H, W) -> (B, S, C)."""
    pooled = [F.adaptive_avg_pool2d(x, size).flatten(2) for size in sizes]
    return torch.cat(pooled, dim=2).transpose(1, 2)


def gather(module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A map of queries (B, d, H, W) and S keys and values (B, S, d) -> (B, d, H, W)."""
    size = query.shape[2:]
    query = query.flatten(2).transpose(1, 2)  # (B, N, d)
    gathered = attend(module, query, key, value)
    return gathered.transpose(1, 2).unflatten(2, size)


def projection(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())


def switched_off(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
