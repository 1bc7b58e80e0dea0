import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import attend


@mechanism(
    "self_attention",
    title="Self-attention",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Vaswani et al., Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762; "
    "added to convolutions as in Zhang et al., SAGAN, ICML 2019, https://arxiv.org/abs/1805.08318",
)
class SelfAttention(nn.Module):
    r"""Lets every cell gather content from all cells, four times over with different questions.

    $$A^{(h)} = \mathrm{softmax}_j\big(Q^{(h)} K^{(h)\top} / \sqrt{d}\big), \quad
    y_i = x_i + \gamma\, W_o\,[\textstyle\sum_j A^{(1)}_{ij} V^{(1)}_j; \dots]$$

    Each cell sends out a query, and each cell offers a key and a value. Where query and key match, the
    value flows. The weights depend on this picture, not on fixed distances as in a convolution. Four heads
    ask different questions at once.

    **What to look for.** Click the object, then the background: which heads change their map, and which
    ignore the click? A value of 1 is an equal share; 5 is five times that. Is a map nearly flat, at 1
    everywhere? Then its head averages: choose *own scales* to see what differs, and read the line
    *changes the features by*.

    **Shapes.** (B, C, H, W) to the same; `affinity` (B, heads, N, H, W): for each head and each of the N =
    HW queries a map over the keys that sums to one; a head has d = C/4 channels. No positional code: the
    padded convolutions before it already tell where a cell is. The factor gamma starts at 0, so the
    untrained block changes nothing.
    """

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        heads = self.qkv(x).flatten(2).unflatten(1, (3, self.heads, -1))  # (B, 3, heads, d, N)
        query, key, value = heads.transpose(3, 4).unbind(1)  # (B, heads, N, d)
        gathered = attend(self, query, key, value, (height, width))  # (B, heads, N, d)
        gathered = gathered.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width))  # (B, C, H, W)
        return x + self.gamma * self.project(gathered)
