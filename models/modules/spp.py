import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "spp",
    title="Spatial pyramid pooling",
    family="module",
    slot="head",
    paper="He et al., Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition, "
    "ECCV 2014, https://arxiv.org/abs/1406.4729",
)
class SpatialPyramidPooling(nn.Module):
    r"""Keeps the strongest response of the whole map, of its quarters and of its sixteenths.

    $$y = [g_1;\ g_2;\ g_4], \quad g_{n,c,k} = \max_{(i,j)\,\in\,R_{n,k}} x_{c,i,j}, \quad
    R_{n,k}: \text{field } k \text{ of an } n \times n \text{ grid}$$

    The usual last step averages each channel over the whole map and forgets where anything was. Here the
    map is cut into 1, 4 and 16 fields, and each field hands its strongest response to the classifier.
    The number of values is the same for any size of picture, and the classifier keeps an idea of where
    things were.

    **What to look for.** Choose HiResCAM at layer4.1: behind it come only maxima and one linear layer,
    so the map says exactly how much each cell speaks for the class (what speaks against it is left out,
    and the map is stretched, as all of these are). In the grids, see how few cells are left of the map.

    **Shapes.** Head: the output of stage 4 (B, C, H, W) to features (B, 21 C), whatever H and W;
    `grid_1`, `grid_2`, `grid_4` (B, C, n^2), the fields row by row. Levels 1, 2, 4 suit a 4x4 map; the
    paper takes 1, 2, 3, 6. It stands in place of the average before the classifier.
    """

    def __init__(self, channels: int, levels: tuple[int, ...] = (1, 2, 4)):
        super().__init__()
        self.levels = levels
        self.channels_out = channels * sum(n * n for n in levels)

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        x, grids = stages[-1], []
        for n in self.levels:
            grid = F.adaptive_max_pool2d(x, n).flatten(2)  # (B, C, n^2)
            grids.append(record(self, f"grid_{n}", grid, "b c k", role="features").flatten(1))
        return torch.cat(grids, dim=1)
