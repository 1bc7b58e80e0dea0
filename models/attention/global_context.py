import torch
from torch import nn

from ..catalogue import BLOCKS, mechanism
from ..recording import record


@mechanism(
    "global_context",
    title="Global Context (GCNet)",
    family="hybrid",
    slot="refine",
    sites=BLOCKS[2:],
    paper="Cao et al., GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, "
    "ICCV Workshops 2019, https://arxiv.org/abs/1904.11492",
)
class GlobalContext(nn.Module):
    r"""Collects one summary of the picture from the places that matter, and adds it to every place.

    $$a = \mathrm{softmax}_{hw}(w^\top x + b), \quad c = \textstyle\sum_{j} a_j\,x_j, \quad
    y_i = x_i + W_2\,\mathrm{relu}\big(\mathrm{LN}(W_1 c + b_1)\big) + b_2$$

    The authors saw that in trained non-local networks nearly every cell asks the same question and gets
    the same answer. So this block computes the answer once: a mask says how much each cell contributes,
    the weighted average goes through two small layers, and the result is added everywhere.

    **What to look for.** A bright cell in the mask speaks for the whole picture. There is nothing to
    click: the mask is one per picture, not one per cell. Where it is flat, at 1 everywhere, the block
    reads the plain average, as squeeze-and-excitation does. The added vector is signed: it raises some
    channels and lowers others.

    **Shapes.** (B, C, H, W) to the same; `context_mask` (B, 1, H, W), positive, sums to one over the
    cells; `channel_add` (B, C, 1, 1), not a gate: it is added. In the blocks of the stages 2 to 4, as
    the authors do. The bias b is the authors', and has no effect: the softmax takes it out again. The
    last layer starts at 0, bias too, so the untrained block changes nothing.
    """

    adds = True  # to what it is given

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        width = channels // reduction
        self.score = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.norm = nn.LayerNorm([width, 1, 1])
        self.excite = nn.Conv2d(width, channels, 1)
        nn.init.kaiming_normal_(self.score.weight, mode="fan_in")
        nn.init.zeros_(self.score.bias)
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.score(x)  # (B, 1, H, W)
        mask = scores.flatten(2).softmax(-1).unflatten(2, scores.shape[2:])
        mask = record(self, "context_mask", mask, "b 1 h w", role="share", over="h w")
        context = (x * mask).sum((2, 3), keepdim=True)  # (B, C, 1, 1)
        channel_add = self.excite(torch.relu(self.norm(self.squeeze(context))))
        return x + record(self, "channel_add", channel_add, "b c 1 1", role="features")
