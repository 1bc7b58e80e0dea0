import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "sge",
    title="Spatial Group-wise Enhance",
    family="spatial",
    slot="refine",
    paper="Li et al., Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional "
    "Networks, 2019, https://arxiv.org/abs/1905.09646",
)
class SpatialGroupEnhance(nn.Module):
    r"""Brightens, for each group of channels, the places that look like the group's average.

    $$t_{g,i,j} = \sum_{c \in g} \bar{x}_c\,x_{c,i,j}, \quad
    a_g = \sigma\Big(\gamma_g\,\frac{t_g - \mathrm{mean}_{hw}\,t_g}{\mathrm{std}_{hw}\,t_g + \varepsilon}
    + \beta_g\Big), \quad y_c = a_{g(c)}\,x_c$$

    The channels are sorted into sixteen groups. Each group computes what it sees on average, the mean
    feature vector, and compares every place with that. Agreement is measured relative to the other places
    of the same picture, so each map has bright and dark regions; two learned numbers per group say how
    much that counts.

    **What to look for.** The maps of the groups as a sheet: which light the object, which the background?
    A flat map has a gamma near 0: its group makes no difference between places. A negative gamma favours
    what differs from the average.

    **Shapes.** (B, C, H, W) to the same; `group_gate` (B, 16, H, W) between 0 and 1. As in the authors'
    code the deviation is the unbiased one, epsilon 1e-5 is added to it, and gamma starts at 0 and beta
    at 1, so every gate starts at 0.73. Their 64 groups would leave one channel per group in the first
    stage; with 16 the groups are as wide as in their ResNet50.
    """

    def __init__(self, channels: int, groups: int = 16):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.ones(groups))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(1, (self.groups, -1))  # (B, G, C/G, H, W)
        match = (x * x.mean((3, 4), keepdim=True)).sum(2)  # (B, G, H, W)
        match = match - match.mean((2, 3), keepdim=True)
        match = match / (match.std((2, 3), keepdim=True) + 1e-5)
        gate = torch.sigmoid(self.weight[:, None, None] * match + self.bias[:, None, None])
        gate = record(self, "group_gate", gate, "b g h w", role="gate")
        return (x * gate.unsqueeze(2)).flatten(1, 2)
