import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "ccnet",
    title="CCNet",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Huang et al., CCNet: Criss-Cross Attention for Semantic Segmentation, ICCV 2019, "
    "https://arxiv.org/abs/1811.11721",
)
class CrissCrossAttention(nn.Module):
    r"""Lets each cell gather from its own column and row, and then does the same once more.

    $$A_{uj} = \mathrm{softmax}_{j \in \mathrm{column}(u)\, \cup\, \mathrm{row}(u)}(Q_u \cdot K_j), \quad
    x'_u = x_u + \gamma \textstyle\sum_j A_{uj}\, V_j$$

    To compare all pairs of cells is expensive. Look only along your own street and avenue, then do it
    again: any two cells are connected through a corner, so after the second look news from the whole
    picture has arrived.

    **What to look for.** Click the object: the first look is a thin cross. The second look reads cells
    that have already read along their own crosses, so both together reach everything.

    **Shapes.** (B, C, H, W) to the same; `affinity_1` and `affinity_2` (B, H, W, H + W), one for each
    look: for each cell H weights along its column, then W along its row; they sum to one. The cell
    itself counts once, with the row: its place in the column holds 0. Both looks share all weights, and
    the scores are not scaled, as in the authors' code. The factor gamma starts at 0: the untrained block
    changes nothing.
    """

    def __init__(self, channels: int, reduction: int = 8, looks: int = 2):
        super().__init__()
        self.looks = looks
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for look in range(1, self.looks + 1):
            x = x + self.gamma * self.along_the_cross(x, f"affinity_{look}")
        return x

    def along_the_cross(self, x: torch.Tensor, name: str) -> torch.Tensor:
        height, width = x.shape[2:]
        query, key, value = self.query(x), self.key(x), self.value(x)
        column = torch.einsum("bchw,bckw->bhwk", query, key)  # (B, H, W, H)
        row = torch.einsum("bchw,bchk->bhwk", query, key)  # (B, H, W, W)
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[:, None]  # (H, 1, H)
        scores = torch.cat([column.masked_fill(itself, float("-inf")), row], dim=-1)
        affinity = record(self, name, scores.softmax(-1), "b h w cross", role="share", over="cross")
        column, row = affinity.split([height, width], dim=-1)
        from_column = torch.einsum("bhwk,bckw->bchw", column, value)
        from_row = torch.einsum("bhwk,bchk->bchw", row, value)
        return from_column + from_row
