import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "a2_net",
    title="A²-Net",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Chen et al., A^2-Nets: Double Attention Networks, NeurIPS 2018, https://arxiv.org/abs/1810.11579",
)
class DoubleAttention(nn.Module):
    r"""Gathers the features of regions of the picture and hands each cell its own mixture of them.

    $$G = W_v x\; \mathrm{softmax}_{hw}(W_g x)^\top, \quad Z = G\; \mathrm{softmax}_n(W_d x), \quad
    y = x + \mathrm{bn}(W Z)$$

    Rather than comparing all pairs of cells, the network writes notice boards, each a summary of a
    region it found useful; then every cell reads the boards it cares about. Two tables, cells by boards,
    take the place of the large one, cells by cells.

    **What to look for.** Do some gathering maps follow the object and others its surroundings? Look at
    the map of one number on several pictures: does a board keep its meaning?

    **Shapes.** (B, C, H, W) to the same; `gather` (B, n, H, W), n maps that each sum to one over the
    picture, and `distribute` (B, n, H, W), which sums to one over the n maps at each cell. The last
    BatchNorm and its start at weight 0 are our choice: the untrained block changes nothing.
    """

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        inner = channels // reduction
        self.value = nn.Conv2d(channels, inner, 1)
        self.gather = nn.Conv2d(channels, inner, 1)
        self.distribute = nn.Conv2d(channels, inner, 1)
        self.project = nn.Conv2d(inner, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = self.value(x).flatten(2)  # (B, m, N)
        gather = self.gather(x).flatten(2).softmax(-1).unflatten(2, x.shape[2:])  # (B, n, H, W)
        gather = record(self, "gather", gather, "b k h w", role="share", over="h w")
        boards = value @ gather.flatten(2).transpose(1, 2)  # (B, m, n)
        distribute = record(
            self, "distribute", self.distribute(x).softmax(1), "b k h w", role="share", over="k"
        )
        mixed = boards @ distribute.flatten(2)  # (B, m, N)
        return x + self.bn(self.project(mixed.unflatten(2, x.shape[2:])))
