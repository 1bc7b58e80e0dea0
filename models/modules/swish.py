from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "swish",
    title="Swish",
    family="module",
    slot="act",
    paper="Ramachandran et al., Searching for Activation Functions, 2017, https://arxiv.org/abs/1710.05941",
)
class Swish(nn.Module):
    r"""Replaces ReLU by a smooth curve that lets small negative values through.

    $$y = x\,\sigma(\beta x), \quad \beta = 1$$

    ReLU cuts every negative value to zero, and with it the gradient: what was cut cannot learn. Swish is
    nearly the same far from zero, but dips a little below zero on the left before it comes back. The dip
    keeps a gradient alive, which sometimes trains a little better, at somewhat higher cost. A search
    over many formulas found it.

    **What to look for.** The values before the activation, layer by layer: in which channels and cells
    do they lie in the dip (darker than the middle), between about -5 and 0, where ReLU would have passed
    nothing?

    **Shapes.** Any shape to the same, from -0.278 (at -1.278) upwards; `preactivation` (B, C, H, W),
    what the activation is given. With beta = 1, as here, it is also called SiLU; `trainable=True` learns
    one beta for each place.
    """

    def __init__(self, trainable: bool = False):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(())) if trainable else None

    @classmethod
    def at(cls, site: Site) -> Swish:
        return cls()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = record(self, "preactivation", x, "b c h w", role="features")
        return F.silu(x) if self.beta is None else x * torch.sigmoid(self.beta * x)
