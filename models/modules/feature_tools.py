from __future__ import annotations

import torch
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "feature_tools",
    title="Feature tools",
    family="module",
    slot=None,
    paper="Plumbing of many networks; the Gram matrix: Gatys et al., A Neural Algorithm of "
    "Artistic Style, 2015, https://arxiv.org/abs/1508.06576",
)
class FeatureTools(nn.Module):
    r"""Stacks feature maps, flattens them, and tells which channels fire together.

    $$X = \mathrm{flatten}_{hw}[x_1; \dots; x_n], \quad G = \frac{X X^\top}{C\,H\,W}$$

    Concatenation stacks maps of equal size as extra channels; flattening turns each map into one long
    row of numbers. Multiplying all rows with each other gives the Gram matrix: a large entry says that
    two channels tend to respond at the same cells. Where they respond is forgotten, which is why it
    describes the style of a picture. None of this has weights or learns anything.

    **What to look for.** Bright rows off the diagonal are channels that move with many others. Two
    pictures with the same texture have similar matrices, whatever they show.

    **Shapes.** A list of maps (B, C_i, H, W) to (B, C, C) with C the sum over the chosen maps; `gram` is
    the same, symmetric and without negative eigenvalues. Plain `torch.cat`, `torch.flatten` and a matrix
    product; there is no network to train with it.
    """

    def __init__(self, chosen: tuple[int, ...] | None = None):
        super().__init__()
        self.chosen = chosen  # positions in the list of maps; None takes all

    @classmethod
    def at(cls, site: Site) -> FeatureTools:
        return cls()

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        if self.chosen is not None:
            maps = [maps[i] for i in self.chosen]
        features = torch.cat(maps, dim=1).flatten(2)  # (B, C, HW)
        gram = features @ features.transpose(1, 2) / features[0].numel()
        return record(self, "gram", gram, "b c c", role="features")
