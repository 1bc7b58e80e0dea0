import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record

PAPER = (
    "Hou et al., Strip Pooling: Rethinking Spatial Pooling for Scene Parsing, CVPR 2020, "
    "https://arxiv.org/abs/2003.13328"
)


@mechanism(
    "strip_pooling",
    title="Strip pooling",
    family="spatial",
    slot="refine",
    sites=("layer1.1", "layer2.1", "layer3.1"),
    paper=PAPER,
)
class StripPooling(nn.Module):
    r"""Averages whole rows and whole columns, and makes from both a gate for every cell and channel.

    $$v = \mathrm{bn}(W_{3\times1} * \mathrm{avg}_w\,x), \quad
    h = \mathrm{bn}(W_{1\times3} * \mathrm{avg}_h\,x), \quad
    g = \sigma(W\,\mathrm{relu}(v + h) + b), \quad y = g\,x$$

    A fence, a road or the horizon is long and thin: a square window around one of its cells sees mostly
    other things. The average over a row keeps it, and so does the average over a column. Both summaries
    are spread out over the map again and added, and a last layer decides how much of each cell passes.

    **What to look for.** First the gate, then rows and columns as bands. The gate looks woven: a row and a
    column make a cross, bright or dark by the sign in W, strongest where they meet; where the ReLU cuts off
    the arms, a spot is left. W mixes all channels: bands and gate of the same number do not belong together.

    **Shapes.** (B, C, H, W) to the same; `rows` (B, C, H, 1), one value for each row, and `columns` (B,
    C, 1, W), both of both signs; `gate` (B, C, H, W) between 0 and 1. It stands at the end of the
    residual path, behind its last BatchNorm; the authors' blocks have three convolutions, and they gate
    inside, before the last, of 1x1. In the last block of stages 1 to 3; the authors also fill the whole
    last stage, which has only 4x4 cells here.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.vertical = conv_bn(channels, channels, (3, 1))
        self.horizontal = conv_bn(channels, channels, (1, 3))
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.vertical(x.mean(3, keepdim=True))  # (B, C, H, 1)
        rows = record(self, "rows", rows, "b c h 1", role="features")
        columns = self.horizontal(x.mean(2, keepdim=True))  # (B, C, 1, W)
        columns = record(self, "columns", columns, "b c 1 w", role="features")
        gate = torch.sigmoid(self.conv(torch.relu(rows + columns)))
        gate = record(self, "gate", gate, "b c h w", role="gate")
        return x * gate


@mechanism(
    "mixed_pooling",
    title="Mixed pooling",
    family="module",
    slot="stage",
    sites=("stage3",),
    paper=PAPER,
)
class MixedPooling(nn.Module):
    r"""Adds to the map what broad fields around each cell and what whole rows and columns hold.

    $$a = f\,\mathrm{relu}\big(c_0 u + \mathrm{up}\,c_1\,\mathrm{pool}_{3\times3} u
    + \mathrm{up}\,c_2\,\mathrm{pool}_{2\times2} u\big), \quad
    b = f\,\mathrm{relu}\big(\mathrm{up}\,c_3\,\mathrm{avg}_h t + \mathrm{up}\,c_4\,\mathrm{avg}_w t\big)$$
    $$y = \mathrm{relu}\big(x + c_5[a;\ b]\big), \quad u, t = f\,x, \quad
    c = \mathrm{bn} \circ \mathrm{conv}, \quad f = \mathrm{relu} \circ c$$

    Two kinds of surroundings, side by side. Broad fields of several sizes serve compact things; rows
    and columns that run through the whole map serve long thin ones and tie together what lies far apart.
    Their sums are merged and added to the map.

    **What to look for.** Five views: the cell's own neighbourhood, two soft blurs of broad fields, then
    the columns and the rows, which look like stripes. Which of them follows the object?

    **Shapes.** (B, C, H, W) to the same, not negative; `views` (B, 5, C/4, H, W), of both signs: the
    terms c_0 to c_4 of the two sums, enlarged with their corners in place. The authors pool to 20x20 and
    12x12, for maps of about 60x60; on 8x8 cells that would only repeat cells, so here to 3x3 and 2x2.
    Three do not divide eight, so the fields of 3x3 overlap, and those in the middle are four cells wide.
    """

    def __init__(self, channels: int, sizes: tuple[int, int] = (3, 2)):
        super().__init__()
        self.sizes = sizes
        width = channels // 4
        self.reduce_short = nn.Sequential(*conv_bn(channels, width, (1, 1)), nn.ReLU())
        self.reduce_long = nn.Sequential(*conv_bn(channels, width, (1, 1)), nn.ReLU())
        self.local = conv_bn(width, width, (3, 3))
        self.grids = nn.ModuleList(conv_bn(width, width, (3, 3)) for _ in sizes)
        self.horizontal = conv_bn(width, width, (1, 3))
        self.vertical = conv_bn(width, width, (3, 1))
        self.merge_short = nn.Sequential(*conv_bn(width, width, (3, 3)), nn.ReLU())
        self.merge_long = nn.Sequential(*conv_bn(width, width, (3, 3)), nn.ReLU())
        self.project = conv_bn(2 * width, channels, (1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short, long = self.reduce_short(x), self.reduce_long(x)  # (B, C/4, H, W), both
        pooled = [grid(F.adaptive_avg_pool2d(short, n)) for n, grid in zip(self.sizes, self.grids)]
        columns = self.horizontal(long.mean(2, keepdim=True))  # (B, C/4, 1, W)
        rows = self.vertical(long.mean(3, keepdim=True))  # (B, C/4, H, 1)
        views = [self.local(short)] + [
            F.interpolate(view, x.shape[2:], mode="bilinear", align_corners=True)
            for view in (*pooled, columns, rows)
        ]
        views = record(self, "views", torch.stack(views, dim=1), "b branch k h w", role="features")
        short = self.merge_short(torch.relu(views[:, :-2].sum(1)))
        long = self.merge_long(torch.relu(views[:, -2:].sum(1)))
        return torch.relu(x + self.project(torch.cat([short, long], dim=1)))


def conv_bn(channels_in: int, channels: int, size: tuple[int, int]) -> nn.Sequential:
    padding = (size[0] // 2, size[1] // 2)
    conv = nn.Conv2d(channels_in, channels, size, padding=padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))
