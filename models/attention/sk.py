import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "sk",
    title="Selective Kernel",
    family="kernel",
    slot="conv1",
    paper="Li et al., Selective Kernel Networks, CVPR 2019, https://arxiv.org/abs/1903.06586",
)
class SelectiveKernel(nn.Module):
    r"""Runs a narrow and a wide convolution side by side and mixes them for each channel and picture.

    $$U_m = \mathrm{relu}(\mathrm{bn}(\mathrm{conv}_m\,x)), \quad
    z = \mathrm{relu}(\mathrm{bn}(W\,\mathrm{avg}_{hw} \textstyle\sum_m U_m)), \quad
    a_{m,c} = \frac{e^{V_{m,c}\,z}}{\sum_n e^{V_{n,c}\,z}}, \quad
    y_c = \textstyle\sum_m a_{m,c}\,U_{m,c}$$

    Two pairs of glasses: a 3x3 window, and a 5x5 window that a dilated 3x3 kernel stands in for. From the
    average of what both see, the network decides for each channel how much of each view to keep; the shares
    sum to one.

    **What to look for.** One half gives both views the same factor; how much of each arrives also depends
    on how strong it is. In which blocks does the share of the wide view change with the picture?

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride), not negative; `weights` (B, 2, C, 1, 1)
    between 0 and 1, the 3x3 branch first. It stands in place of the first convolution, norm and activation
    of a block. Two groups a branch, so that both branches together hold as many weights as the dense
    convolution they replace.
    """

    has_norm = True

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        branches: int = 2,
        groups: int = 2,
        reduction: int = 16,
        least_width: int = 32,
    ):
        super().__init__()
        width = max(channels_out // reduction, least_width)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 3, stride, dilation, dilation, groups, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
            )
            for dilation in range(1, branches + 1)
        )
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels_out, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.select = nn.Conv2d(width, branches * channels_out, 1, bias=False)
        nn.init.normal_(self.squeeze[0].weight, std=0.01)
        nn.init.normal_(self.select.weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        views = torch.stack([branch(x) for branch in self.branches], dim=1)  # (B, branches, C, H, W)
        pooled = views.sum(1).mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        scores = self.select(self.squeeze(pooled)).unflatten(1, (len(self.branches), -1))
        weights = record(self, "weights", scores.softmax(1), "b branch c 1 1", role="share", over="branch")
        return (weights * views).sum(1)
