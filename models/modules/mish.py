from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "mish",
    title="Mish",
    family="module",
    slot="act",
    paper="Misra, Mish: A Self Regularized Non-Monotonic Activation Function, BMVC 2020, "
    "https://arxiv.org/abs/1908.08681",
)
class Mish(nn.Module):
    r"""Replaces ReLU by a smooth curve with a dip, much like Swish but a little deeper.

    $$y = x \tanh\big(\ln(1 + e^x)\big)$$

    Like Swish it is close to ReLU far from zero and smooth around it, and lets small negative values
    through instead of cutting them to zero. The smooth dip keeps a gradient alive where ReLU has none.

    **What to look for.** The values before the activation, layer by layer, beside those of Swish: in
    which channels and cells do they lie in the dip (darker than the middle), between about -5 and 0, where
    ReLU would have passed nothing?

    **Shapes.** Any shape to the same, from -0.309 (at -1.192) upwards; `preactivation` (B, C, H, W),
    what the activation is given. No parameters.
    """

    @classmethod
    def at(cls, site: Site) -> Mish:
        return cls()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = record(self, "preactivation", x, "b c h w", role="features")
        return F.mish(x)
