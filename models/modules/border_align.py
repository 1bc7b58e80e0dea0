from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism


@mechanism(
    "border_align",
    title="BorderAlign",
    family="module",
    slot=None,
    paper="Qiu et al., BorderDet: Border Feature for Dense Object Detection, ECCV 2020, "
    "https://arxiv.org/abs/2007.11056",
)
class BorderAlign(nn.Module):
    r"""Reads the map along the four edges of a box and keeps the strongest response on each.

    $$y_{c,n,s} = \max_{0 \le i \le P}\; x_{sC + c}\Big(p_{n,s} + \frac{i}{P}\,(q_{n,s} - p_{n,s})\Big),
    \quad s = \text{top, left, bottom, right}$$

    To decide whether a box fits an object, a detector should look where the object ends, not at the
    middle of the box. So this operation walks along each edge, from its corner p to its corner q, in P
    equal steps, reads the map between its cells, and keeps the maximum. Each edge has feature maps of
    its own. It is a tool for detectors: a network that classifies whole pictures has no boxes.

    **What to look for.** Which point of an edge wins: one where the object touches the box?

    **Shapes.** Maps (B, 4C, H, W), a quarter for each edge, and boxes (B, N, 4) as x1, y1, x2, y2 in
    cells, to (B, C, N, 4) in the order top, left, bottom, right. Nothing is learned and nothing
    recorded. Outside the map the nearest cell is read; the authors' operation (CUDA only) does so within
    one cell of it.
    """

    def __init__(self, points: int = 10):
        super().__init__()
        self.points = points  # P; with the first there are P + 1

    @classmethod
    def at(cls, site: Site) -> BorderAlign:
        return cls()

    def forward(self, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return self.sample(x, boxes).amax(-1)

    def sample(self, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """The responses at all points of all edges: (B, C, N, 4, P + 1)."""
        height, width = x.shape[2:]
        x1, y1, x2, y2 = boxes.unbind(-1)  # (B, N) each
        begin = torch.stack([x1, y1, x1, y1, x1, y2, x2, y1], dim=-1).unflatten(-1, (4, 1, 2))
        end = torch.stack([x2, y1, x1, y2, x2, y2, x2, y2], dim=-1).unflatten(-1, (4, 1, 2))
        steps = torch.linspace(0, 1, self.points + 1, dtype=boxes.dtype, device=boxes.device)[:, None]
        places = begin + steps * (end - begin)  # (B, N, 4, P + 1, 2), in cells
        last = torch.tensor([width - 1, height - 1], dtype=boxes.dtype, device=boxes.device)
        grid = (2 * places / last - 1).transpose(1, 2).flatten(0, 1)  # (4B, N, P + 1, 2), in -1..1
        sides = x.unflatten(1, (4, -1)).flatten(0, 1)  # (4B, C, H, W)
        values = F.grid_sample(sides, grid, padding_mode="border", align_corners=True)
        return values.unflatten(0, (-1, 4)).permute(0, 2, 3, 1, 4)
