import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "efficient_attention",
    title="Efficient Attention",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Shen et al., Efficient Attention: Attention with Linear Complexities, WACV 2021, "
    "https://arxiv.org/abs/1812.01243",
)
class EfficientAttention(nn.Module):
    r"""Summarises the picture by templates, and lets each cell read the templates it asks for.

    $$\rho_k = \mathrm{softmax}_{hw}(W_k x), \quad \rho_q = \mathrm{softmax}_n(W_q x), \quad
    y = x + W\,\big(\rho_k\, (W_v x)^\top\big)^\top \rho_q$$

    The purpose is that of self-attention, but the products are taken in the other order: first each
    template collects the values from the places where it fits, then each cell takes its share of every
    template. The large table of pairs is never built, for it would be the product of two thin ones.

    **What to look for.** The key maps are the templates: where does each one collect? The query weights
    of the same number say who reads it. Together they would give each cell a map of where it reads, as in
    `non_local`; it is never formed, so there is none to click.

    **Shapes.** (B, C, H, W) to the same; `key_maps` (B, n, H, W), each sums to one over the picture, and
    `query_weights` (B, n, H, W), which sums to one over the templates of a head at each cell; the heads
    stand one after the other. The weights of a cell sum to one here, too, but they are other numbers than
    those of softmax(Q K^T): an attention of its own, not a faster way to the same result. One head, n =
    C/2, and the last layer that starts at 0 are our choice: the untrained block changes nothing. Where
    there are fewer cells than templates, as after stage 3, it costs more than the large table would.
    """

    def __init__(self, channels: int, reduction: int = 2, heads: int = 1):
        super().__init__()
        inner = channels // reduction
        if inner % heads:
            raise ValueError(f"{heads} heads do not divide {inner} channels")
        self.heads = heads
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.project = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        key_maps = self.key(x).flatten(2).softmax(-1).unflatten(2, size)  # (B, n, H, W)
        key_maps = record(self, "key_maps", key_maps, "b k h w", role="share", over="h w")
        query_weights = self.query(x).unflatten(1, (self.heads, -1)).softmax(2).flatten(1, 2)  # (B, n, H, W)
        # Several heads have one each to share out, so that together no axis sums to one.
        role, over = ("share", "k") if self.heads == 1 else ("features", "")
        query_weights = record(self, "query_weights", query_weights, "b k h w", role, over)

        key, query, value = (
            part.flatten(2).unflatten(1, (self.heads, -1))
            for part in (key_maps, query_weights, self.value(x))
        )  # (B, heads, n/heads, N), thrice
        context = key @ value.transpose(2, 3)  # (B, heads, n/heads, n/heads)
        gathered = context.transpose(2, 3) @ query  # (B, heads, n/heads, N)
        return x + self.project(gathered.flatten(1, 2).unflatten(2, size))
