import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record

PAPER = (
    "Zhao et al., Exploring Self-attention for Image Recognition, CVPR 2020, https://arxiv.org/abs/2004.13621"
)


@mechanism(
    "san_pairwise",
    title="SAN, pairwise",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper=PAPER,
)
class PairwiseSAN(nn.Module):
    r"""Mixes the 7x7 cells around each cell with weights from comparing that cell with each of them.

    $$\delta_{ij} = [\varphi(x_i) - \psi(x_j);\; p_i - p_j], \quad
    \alpha_{ij} = \mathrm{softmax}_{j \in R(i)}\,\gamma(\delta_{ij}), \quad
    \mathrm{sam}(x)_i = \textstyle\sum_{j \in R(i)} \alpha_{ij} \odot \beta(x_j)$$
    $$y = x + W\,\mathrm{relu}(\mathrm{bn}(\mathrm{sam}(\mathrm{relu}(\mathrm{bn}(x)))))$$

    Ordinary filters are frozen after training. Here a small network gamma compares each cell with each
    cell of its neighbourhood, features and position, and so writes the filter for that very spot: a
    convolution whose kernel is redrawn at every place. Each group of channels has a filter of its own.

    **What to look for.** Click on an edge: do the weights lie along one side of it? And on a flat
    background: are they round, or even?

    **Shapes.** (B, C, H, W) to the same; `weights` (B, G, 49, H, W): for each of the G groups and each
    cell 49 weights over its 7x7 neighbourhood, row by row, that sum to one. Phi, psi and beta are 1x1
    convolutions; p is a cell's column and row, from -1 to 1 over the map, through a fourth. Channel c of
    beta uses group c mod G, and the neighbourhood is reflected at the border, as in the authors' code,
    so H and W must be above 3. The paper makes a whole network of these blocks; one after a stage, and
    the last layer that starts at 0, are our choice: the untrained block changes nothing.
    """

    def __init__(self, channels: int, kernel_size: int = 7, share: int = 8):
        super().__init__()
        inner, compared = channels // 4, channels // 16
        self.kernel_size = kernel_size
        self.groups = inner // share
        self.bn = nn.BatchNorm2d(channels)
        self.query = nn.Conv2d(channels, compared, 1)
        self.key = nn.Conv2d(channels, compared, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.inner_bn = nn.BatchNorm2d(inner)
        self.project = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.add_comparison(compared)

    def add_comparison(self, compared: int) -> None:
        self.place = nn.Conv2d(2, 2, 1)
        self.compare = nn.Sequential(
            nn.BatchNorm2d(compared + 2),
            nn.ReLU(),
            nn.Conv2d(compared + 2, compared, 1, bias=False),
            nn.BatchNorm2d(compared),
            nn.ReLU(),
            nn.Conv2d(compared, self.groups, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        features = torch.relu(self.bn(x))
        weights = self.footprints(self.query(features), self.key(features))  # (B, G, k², H, W)

        value = self.reflected(self.value(features)).unflatten(1, (-1, self.groups))  # (B, m/G, G, H+6, W+6)
        mixed = 0
        for cell in range(self.kernel_size**2):
            row, column = divmod(cell, self.kernel_size)
            shifted = value[..., row : row + height, column : column + width]  # (B, m/G, G, H, W)
            mixed = mixed + weights[:, None, :, cell] * shifted
        return x + self.project(torch.relu(self.inner_bn(mixed.flatten(1, 2))))

    def footprints(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Two maps (B, r, H, W) to the weights (B, G, k², H, W)."""
        query_place = self.place(places(query))  # (1, 2, H, W)
        features = query.flatten(2)[:, :, None] - self.neighbours(key)  # (B, r, k², N)
        offsets = query_place.flatten(2)[:, :, None] - self.neighbours(query_place)  # (1, 2, k², N)
        pairs = torch.cat([features, offsets.expand(len(query), -1, -1, -1)], dim=1)
        weights = self.compare(pairs).softmax(2).unflatten(3, query.shape[2:])
        return record(self, "weights", weights, "b g k h w", role="share", over="k")

    def neighbours(self, x: torch.Tensor) -> torch.Tensor:
        """What stands around each cell: (B, C, H, W) -> (B, C, k², N)."""
        return F.unfold(self.reflected(x), self.kernel_size).unflatten(1, (x.shape[1], -1))

    def reflected(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, [self.kernel_size // 2] * 4, mode="reflect")


@mechanism(
    "san_patchwise",
    title="SAN, patchwise",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper=PAPER,
)
class PatchwiseSAN(PairwiseSAN):
    r"""Mixes the 7x7 cells around each cell with weights that one look at the whole patch decides.

    $$\delta_i = [\varphi(x_i);\; \psi(x_j)\ \mathrm{for\ all}\ j \in R(i)], \quad
    \alpha_i = \gamma(\delta_i), \quad
    \mathrm{sam}(x)_i = \textstyle\sum_{j \in R(i)} \alpha_{ij} \odot \beta(x_j)$$
    $$y = x + W\,\mathrm{relu}(\mathrm{bn}(\mathrm{sam}(\mathrm{relu}(\mathrm{bn}(x)))))$$

    In the pairwise form each weight knows one pair of cells. Here a small network gamma sees the patch
    as a whole and writes all 49 weights at once, so it knows where each cell lies without being told,
    and may draw any filter: one that blurs, or one that takes differences.

    **What to look for.** Weights may be negative: zero is the middle of the colours, darker is below it.
    A filter with both signs along an edge measures a contrast, one of a single sign averages.

    **Shapes.** (B, C, H, W) to the same; `weights` (B, G, 49, H, W), of both signs: for each of the G
    groups and each cell 49 weights over its 7x7 neighbourhood, row by row. No softmax and no position
    code. Channel c of beta uses group c mod G, and the neighbourhood is reflected at the border, as in
    the authors' code, so H and W must be above 3. The paper makes a whole network of these blocks; one
    after a stage, and the last layer that starts at 0, are our choice: the untrained block changes
    nothing.
    """

    def add_comparison(self, compared: int) -> None:
        cells = self.kernel_size**2
        self.compare = nn.Sequential(
            nn.BatchNorm2d(compared * (cells + 1)),
            nn.ReLU(),
            nn.Conv2d(compared * (cells + 1), self.groups, 1, bias=False),
            nn.BatchNorm2d(self.groups),
            nn.ReLU(),
            nn.Conv2d(self.groups, self.groups * cells, 1),
        )

    def footprints(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        patch = torch.cat([query.flatten(2), self.neighbours(key).flatten(1, 2)], dim=1)  # (B, r(k² + 1), N)
        weights = self.compare(patch[:, :, None])[:, :, 0].unflatten(1, (self.groups, -1))
        weights = weights.unflatten(3, query.shape[2:])
        return record(self, "weights", weights, "b g k h w", role="features")  # no softmax: no shares


def places(like: torch.Tensor) -> torch.Tensor:
    """The coordinates of the cells, column and row, from -1 to 1: (1, 2, H, W)."""
    rows, columns = (
        torch.linspace(-1, 1, side, dtype=like.dtype, device=like.device) for side in like.shape[2:]
    )
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
