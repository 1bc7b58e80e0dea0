import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import is_recording, record


@mechanism(
    "non_local",
    title="Non-local",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Wang et al., Non-local Neural Networks, CVPR 2018, https://arxiv.org/abs/1711.07971",
)
class NonLocal(nn.Module):
    r"""Adds to each cell an average of all cells, weighted by how well they match it (embedded Gaussian).

    $$A_{ij} = \frac{\exp(\theta_i^\top \phi_j / \sqrt{C'})}{\sum_k \exp(\theta_i^\top \phi_k / \sqrt{C'})},
    \quad y_i = x_i + \mathrm{bn}\big(W \textstyle\sum_j A_{ij}\, g_j\big)$$

    A convolution sees a small window. Here every cell asks every other cell, however far, "are you like
    me?" and takes over a share of what the best matches hold. The name comes from an old denoising method
    that averaged look-alike patches; the network learns what look-alike means, and does not denoise.

    **What to look for.** Click the object, then the background. If the map hardly changes, the block has
    found one answer for every question. Read the strength first: a sharp map that changes nothing does
    nothing.

    **Shapes.** (B, C, H, W) to the same; `affinity` (B, N, H, W): for each of the N = HW queries a map over
    the keys that sums to one. The scale 1/sqrt(C') is the authors' code (the paper's formula has none), and
    so is the last BatchNorm that starts at weight 0: the untrained block changes nothing.
    """

    def __init__(self, channels: int, reduction: int = 2):
        super().__init__()
        inner = channels // reduction
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.project = nn.Conv2d(inner, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        for conv in (self.query, self.key, self.value, self.project):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value)
        )  # (B, N, C')
        if is_recording():
            scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5  # (B, N, N)
            affinity = scores.softmax(-1).unflatten(2, (height, width))
            affinity = record(self, "affinity", affinity, "b q h w")
            gathered = affinity.flatten(2) @ value
        else:
            gathered = F.scaled_dot_product_attention(query, key, value)
        gathered = gathered.transpose(1, 2).unflatten(2, (height, width))  # (B, C', H, W)
        return x + self.bn(self.project(gathered))
