from __future__ import annotations

import math

import torch
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "fpt",
    title="Feature Pyramid Transformer",
    family="pairwise",
    slot="head",
    paper="Zhang et al., Feature Pyramid Transformer, ECCV 2020, https://arxiv.org/abs/2007.09451",
)
class FeaturePyramidTransformer(nn.Module):
    r"""Lets every cell of every scale ask its own scale and the others for information.

    $$\mathrm{out}_p = W * [p;\ \mathrm{ST}(p);\ \mathrm{RT}(p, r)_{r\ \text{finer}};\
    \mathrm{GT}(p, r)_{r\ \text{coarser}}]$$
    $$\mathrm{ST} = p + \mathrm{bn}(W_z A v), \quad \mathrm{GT} = \mathrm{bn}(W_z A v), \quad
    A_{ij} = \textstyle\sum_n \pi_n\,\mathrm{softmax}_j(s^n_{ij}), \quad
    \pi = \mathrm{softmax}_n(w_n^\top \mathrm{avg}_j\,k_j)$$
    $$s^n_{ij} = q^n_i \cdot k^n_j / \sqrt{d'} \ \text{(ST)}, \quad
    s^n_{ij} = -\|q^n_i - k^n_j\|^2 \ \text{(GT)}$$
    $$\mathrm{RT} = \mathrm{relu}\big(\mathrm{bn}(W_1 * p)\,g + \mathrm{bn}(W_2 * r)\big), \quad
    g = \mathrm{relu}(\mathrm{bn}(W_3\,\mathrm{avg}_{hw}\,r))$$

    A network sees fine details early and whole things late. Here three stages stand side by side, and
    each cell reads from all of its own stage (self), from all of the coarser ones (grounding: what am I
    part of?), and a coarse stage is told by the finer ones which channels matter (rendering).

    **What to look for.** Click a cell on the object: where does it read on its own scale? The bars tell
    how much it reads from each of the few cells of a coarser scale, row by row. Each affinity is a
    mixture of two softmaxes (the sum over n); their shares pi say whether one would do.

    **Shapes.** Head: the outputs of the last three stages to features (B, 192), the average of each. By
    `own.<stage>` and `grounding.<stage>_<coarser>`: `affinity`, (B, N, H, W) on the own scale and (B, N,
    K) on the coarser one, rows sum to one, and `weights` (B, 2), the shares; by
    `rendering.<stage>_<finer>`: `gate` (B, 64, 1, 1), not negative. d' = 16 is the number of channels of
    each part q^n. In the authors' code grounding stops with an error, rendering runs between
    neighbouring stages alone, and self-attention for even sizes alone: this follows the paper's
    description, and details may differ. The BatchNorms behind the attention start at weight 0. Widths
    and the place in a classifier are ours.
    """

    def __init__(self, channels: tuple[int, ...], width: int = 64, parts: int = 2):
        super().__init__()
        self.stages = range(5 - len(channels), 5)  # 2, 3, 4
        self.channels_out = width * len(channels)
        coarser = [(i, j) for i in self.stages for j in self.stages if i < j]
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.own = nn.ModuleDict({f"{i}": Attention(width, parts, grounding=False) for i in self.stages})
        self.grounding = nn.ModuleDict({f"{i}_{j}": Attention(width, parts, True) for i, j in coarser})
        self.rendering = nn.ModuleDict({f"{j}_{i}": Rendering(width, 2 ** (j - i)) for i, j in coarser})
        self.merge = nn.ModuleList(
            nn.Conv2d((len(channels) + 1) * width, width, 3, padding=1) for _ in channels
        )

    @classmethod
    def at(cls, site: Site) -> FeaturePyramidTransformer:
        return cls((site.channels // 4, site.channels // 2, site.channels))

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        maps = stages[-len(self.lateral) :]
        pyramid = {i: lateral(x) for i, lateral, x in zip(self.stages, self.lateral, maps)}
        features = []
        for (i, x), merge in zip(pyramid.items(), self.merge):
            views = [x, x + self.own[f"{i}"](x, x)]  # (B, width, H, W) each
            for j, other in pyramid.items():
                if j > i:
                    views.append(self.grounding[f"{i}_{j}"](x, other))
                elif j < i:
                    views.append(self.rendering[f"{i}_{j}"](x, other))
            features.append(merge(torch.cat(views, dim=1)).mean((2, 3)))
        return torch.cat(features, dim=1)


class Attention(nn.Module):
    """Each cell of x reads from the cells of `other`, by a mixture of softmaxes: -> the shape of x."""

    def __init__(self, width: int, parts: int, grounding: bool):
        super().__init__()
        self.parts, self.grounding = parts, grounding
        self.query = nn.Conv2d(width, width // 2, 1)
        self.key = nn.Conv2d(width, width // 2, 1)
        self.value = nn.Conv2d(width, width // 2, 1)
        self.mix = nn.Linear(width // 2, parts, bias=False)
        self.project = nn.Conv2d(width // 2, width, 1)
        self.bn = nn.BatchNorm2d(width)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        query, key, value = self.query(x).flatten(2), self.key(other).flatten(2), self.value(other).flatten(2)
        weights = self.mix(key.mean(2)).softmax(1)
        weights = record(self, "weights", weights, "b k", role="share", over="k")

        query, key = (split.unflatten(1, (self.parts, -1)) for split in (query, key))
        scores = query.transpose(2, 3) @ key  # (B, parts, N, K)
        if self.grounding:  # -|q - k|^2 without |q|^2, which is the same for all keys
            scores = 2 * scores - key.square().sum(2, keepdim=True)
        else:
            scores = scores * query.shape[2] ** -0.5
        affinity = (weights[:, :, None, None] * scores.softmax(3)).sum(1)  # (B, N, K)
        if self.grounding:
            affinity = record(self, "affinity", affinity, "b q k", role="share", over="k")
        else:
            affinity = record(
                self, "affinity", affinity.unflatten(2, (height, width)), "b q h w", role="share", over="h w"
            ).flatten(2)
        gathered = (affinity @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, (height, width))
        return self.bn(self.project(gathered))


class Rendering(nn.Module):
    """Weighs the channels of x by what the finer map holds, and adds the finer map shrunk: -> shape of x."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.same = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.shrink = nn.Sequential(
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: torch.Tensor, finer: torch.Tensor) -> torch.Tensor:
        gate = torch.relu(self.squeeze(finer.mean((2, 3), keepdim=True)))
        gate = record(self, "gate", gate, "b c 1 1", role="gate", bounds=(0, math.inf))
        return torch.relu(self.same(x) * gate + self.shrink(finer))
