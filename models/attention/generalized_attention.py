import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import is_recording, record


@mechanism(
    "generalized_attention",
    title="Generalized Attention",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Zhu et al., An Empirical Study of Spatial Attention Mechanisms in Deep Networks, ICCV 2019, "
    "https://arxiv.org/abs/1904.05873",
)
class GeneralizedAttention(nn.Module):
    r"""Splits the reasons for looking somewhere into four terms, and adds them up.

    $$e_1 = q_i \cdot k_j, \quad e_2 = q_i \cdot R_{ij}, \quad e_3 = u \cdot k_j, \quad
    e_4 = v \cdot R_{ij}$$
    $$A = \mathrm{softmax}_j(e_1 + e_2 + e_3 + e_4), \quad
    y_i = x_i + \gamma\, W \textstyle\sum_j A_{ij} V_j$$
    $$R_{ij} = \big(W_x\,\mathrm{emb}(i_x - j_x) + W_y\,\mathrm{emb}(i_y - j_y)\big) / \sqrt{2}$$

    Four reasons to look at a place: it matches me (e1); it lies in a direction I prefer (e2); it is
    eye-catching for anybody (e3); it lies where one usually looks from here (e4). The network adds them
    up, and the four scores can be seen one by one.

    **What to look for.** The authors found the famous comparison e1 negligible where a picture looks at
    itself, and the salience e3, beside deformable convolutions, the best buy. Which of the four differ most
    between the keys here? Only differences count: the softmax ignores a constant.

    **Shapes.** (B, C, H, W) to the same; `affinity` (B, heads, N, H, W): for each head and each of the N
    = HW queries a map over the keys that sums to one. The scores: `e1` and `e2` (B, heads, N, H, W);
    `e3` (B, heads, H, W), the same for every query; `e4` (heads, N, H, W), the same for every picture.
    They are not scaled by 1/sqrt(d). The distances enter as sines and cosines (emb). With `key_stride` 2
    the keys are every second cell. The factor gamma starts at 0: the untrained block changes nothing.
    """

    def __init__(self, channels: int, heads: int = 8, key_stride: int = 1):
        super().__init__()
        if channels % heads or channels % 4:
            raise ValueError(f"{channels} channels must be a multiple of 4 and of {heads} heads")
        self.heads, self.key_stride = heads, key_stride
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.along_x = nn.Linear(channels // 2, channels, bias=False)
        self.along_y = nn.Linear(channels // 2, channels, bias=False)
        bound = (2 * channels // heads) ** -0.5
        self.u = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))
        self.v = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))
        self.project = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))
        for layer in (self.query, self.key, self.value, self.along_x, self.along_y, self.project):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size, stride = x.shape[2:], self.key_stride
        asked = x[:, :, ::stride, ::stride]
        query, key, value = (
            part.unflatten(1, (self.heads, -1)).permute(0, 1, 3, 4, 2)
            for part in (self.query(x), self.key(asked), self.value(asked))
        )  # (B, heads, H, W, d), keys and values (B, heads, rows, columns, d)
        rows, columns = key.shape[2:4]
        towards_rows = self.directions(self.along_y, size[0], rows, x)  # (heads, H, rows, d)
        towards_columns = self.directions(self.along_x, size[1], columns, x)  # (heads, W, columns, d)
        u, v = (bias.view(self.heads, 1, 1, -1) for bias in (self.u, self.v))

        if is_recording():
            e1 = torch.einsum("bnhwd,bnyxd->bnhwyx", query, key).flatten(2, 3)  # (B, heads, N, rows, columns)
            e2 = by_place(query, towards_rows, towards_columns)
            e3 = (key * u).sum(-1)  # (B, heads, rows, columns)
            e4 = by_place(v.expand(1, -1, *size, -1), towards_rows, towards_columns)[0]
            e1, e2 = (
                record(self, "e1", e1, "b head q h w", role="features"),
                record(self, "e2", e2, "b head q h w", role="features"),
            )
            e3, e4 = (
                record(self, "e3", e3, "b k h w", role="features"),
                record(self, "e4", e4, "head q h w", role="static"),
            )
            affinity = (e1 + e2 + e3[:, :, None] + e4).flatten(3).softmax(-1).unflatten(3, (rows, columns))
            affinity = record(self, "affinity", affinity, "b head q h w", role="share", over="h w")
            gathered = affinity.flatten(3) @ value.flatten(2, 3)
        else:
            # e2 + e4 is a number for the key's row plus one for its column: a query brings them all, and a
            # key a one-hot address that picks its two. So no table of pairs is formed.
            row = torch.eye(rows, dtype=key.dtype, device=key.device)[:, None].expand(-1, columns, -1)
            column = torch.eye(columns, dtype=key.dtype, device=key.device).expand(rows, -1, -1)
            address = torch.cat([row, column], dim=-1).expand(*key.shape[:2], -1, -1, -1)
            wishes = by_rows(query + v, towards_rows), by_columns(query + v, towards_columns)
            query = torch.cat([query + u, *wishes], dim=-1)  # (B, heads, H, W, d + rows + columns)
            key = torch.cat([key, address], dim=-1)
            tokens = (part.flatten(2, 3) for part in (query, key, value))
            gathered = F.scaled_dot_product_attention(*tokens, scale=1.0)  # (B, heads, N, d)
        gathered = gathered.transpose(2, 3).flatten(1, 2).unflatten(2, size)  # (B, C, H, W)
        return x + self.gamma * self.project(gathered)

    def directions(self, project: nn.Linear, queries: int, keys: int, like: torch.Tensor) -> torch.Tensor:
        """How far each key lies from each query along one axis, as features (heads, queries, keys, d)."""
        width, exact = project.in_features, torch.promote_types(like.dtype, torch.float32)
        query, key, half = (
            torch.arange(count, dtype=exact, device=like.device) for count in (queries, keys, width // 2)
        )
        distance = query[:, None] - self.key_stride * key  # in cells
        angles = distance[..., None] / 1000 ** (2 * half / width)  # (queries, keys, C/4)
        features = project(torch.cat([angles.sin(), angles.cos()], dim=-1)) / 2**0.5
        return features.unflatten(-1, (self.heads, -1)).permute(2, 0, 1, 3)


def by_rows(query: torch.Tensor, towards_rows: torch.Tensor) -> torch.Tensor:
    """How much a query wants each row of keys: (B, heads, H, W, d) -> (B, heads, H, W, rows)."""
    return torch.einsum("bnhwd,nhyd->bnhwy", query, towards_rows)


def by_columns(query: torch.Tensor, towards_columns: torch.Tensor) -> torch.Tensor:
    """How much a query wants each column of keys: (B, heads, H, W, d) -> (B, heads, H, W, columns)."""
    return torch.einsum("bnhwd,nwxd->bnhwx", query, towards_columns)


def by_place(query: torch.Tensor, towards_rows: torch.Tensor, towards_columns: torch.Tensor) -> torch.Tensor:
    """How much a query wants each key's place: (B, heads, H, W, d) -> (B, heads, N, rows, columns)."""
    row, column = by_rows(query, towards_rows), by_columns(query, towards_columns)
    return (row[..., None] + column[..., None, :]).flatten(2, 3)
