import math

import torch
from torch import nn

from ..catalogue import mechanism
from ..losses import add_loss
from ..recording import record


@mechanism(
    "dgc",
    title="Dynamic Group Convolution",
    family="kernel",
    slot="conv",
    paper="Su et al., Dynamic Group Convolution for Accelerating Convolutional Neural Networks, ECCV 2020, "
    "https://arxiv.org/abs/2007.04242",
)
class DynamicGroupConv(nn.Module):
    r"""Lets four groups of filters choose, picture by picture, which input channels they read.

    $$u = \mathrm{relu}(\mathrm{bn}(x)), \quad
    s^{(h)} = \mathrm{relu}(F_2^{(h)}\,\mathrm{relu}(F_1^{(h)}\,\mathrm{avg}_{hw}\,u) + b^{(h)}), \quad
    y^{(h)} = W^{(h)} * (\tilde s^{(h)} u)$$

    Each head first rates all input channels for this picture. The n lowest ratings are set to zero (that
    is the tilde), the others weigh their channels. So two pictures run through different connections of
    the same network. Training starts with all channels and lets go of more and more of them, until each
    head reads less than half; a small penalty keeps the ratings low.

    **What to look for.** Each head's list of channels: a zero is a channel it does not read. Do the
    heads share the work or overlap? Does the list change with the picture, or are the same channels
    always left out?

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `saliency` (B, heads, C_in), not negative,
    at least n zeros in each row. The heads' outputs are interleaved (channel shuffle). The layer has its
    own BatchNorm and ReLU in front; the block's stay, as in the authors' ResNet. Their shortcuts are
    dynamic too, ours are plain. A dense kernel multiplies by the zeros: nothing is saved here.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        heads: int = 4,
        kept: float = 0.45,
        reduction: int | None = None,
        penalty: float = 1e-5,
    ):
        super().__init__()
        self.heads, self.penalty = heads, penalty
        self.most_inactive = channels_in * (1 - kept)  # at the end of training
        hidden = channels_in // (reduction or (8 if channels_in < 80 else 16))
        self.bn = nn.BatchNorm2d(channels_in)
        self.squeeze = nn.Conv2d(channels_in, heads * hidden, 1, bias=False)
        self.excite = nn.Conv2d(heads * hidden, heads * channels_in, 1, groups=heads)
        self.conv = nn.Conv2d(heads * channels_in, channels_out, 3, stride, 1, groups=heads, bias=False)
        # n, how many channels each head leaves out; not an integer, for averaging would round it down
        self.register_buffer("inactive", torch.zeros(()))
        nn.init.kaiming_normal_(self.squeeze.weight)  # as the authors start both layers of the ratings
        nn.init.kaiming_normal_(self.excite.weight)
        nn.init.ones_(self.excite.bias)

    def set_progress(self, progress: float) -> None:
        """All channels in the first twelfth of training, then ever fewer, the fewest from 3/4 on."""
        share = min(max(1.5 * (progress - 1 / 12), 0.0), 1.0)
        self.inactive.fill_(round(self.most_inactive * share))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(x))
        pooled = x.mean((2, 3), keepdim=True)  # (B, C_in, 1, 1)
        ratings = torch.relu(self.excite(torch.relu(self.squeeze(pooled))))
        ratings = ratings.flatten(1).unflatten(1, (self.heads, -1))  # (B, heads, C_in)
        add_loss(lambda labels: self.penalty * ratings.mean((0, 2)).sum())

        ranks = ratings.argsort(dim=2).argsort(dim=2)  # 0 for the lowest
        saliency = ratings * (ranks >= self.inactive.round())
        saliency = record(self, "saliency", saliency, "b head k", role="gate", bounds=(0, math.inf))
        seen = x.unsqueeze(1) * saliency[..., None, None]  # (B, heads, C_in, H, W)
        y = self.conv(seen.flatten(1, 2))  # (B, heads * C/heads, H, W)
        return y.unflatten(1, (self.heads, -1)).transpose(1, 2).flatten(1, 2)
