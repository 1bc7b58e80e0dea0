from __future__ import annotations

import torch
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record


@mechanism(
    "dca_se",
    title="Deep Connected Attention (DCA-SE)",
    family="channel",
    slot="refine",
    paper="Ma et al., DCANet: Learning Connected Attentions for Convolutional Neural Networks, 2020, "
    "https://arxiv.org/abs/2007.05099",
)
class DeepConnectedAttention(nn.Module):
    r"""Squeeze-and-excitation whose gates hear what the block before has attended to.

    $$g = \mathrm{avg}_{hw}\,x, \quad h = \mathrm{relu}\big(\mathrm{LN}(\alpha\,g + \beta\,p + b)\big)$$
    $$a = \sigma\big(W_2\,\mathrm{relu}(W_1 h + b_1) + b_2\big), \quad y = a\,x, \quad
    p_{\text{next}} = a\,g$$

    Ordinary attention blocks forget: each starts anew from its own averages. Here each block also
    receives p, the averages of the block before as its gate left them, and weighs its own against them
    with two numbers. Where the width changes, one layer translates p to the new channels.

    **What to look for.** The pair of bars: alpha for the block's own averages, beta for what was handed
    down. They belong to the network, not to the picture. Only their ratio and their signs count, for the
    norm takes out a common positive factor. Where beta is large beside alpha, and g and p of similar size,
    which is not shown, the gates follow what was handed down more than the block's own averages.

    **Shapes.** (B, C, H, W) and p, (B, C_before), to (B, C, H, W) and the next p, (B, C); `gate` (B, C,
    1, 1) between 0 and 1; `connection` (2,), alpha and beta, signed, the same for every picture. The
    scalar b is the authors', and has no effect: the norm takes it out again. The first block has no
    forerunner: it is plain squeeze-and-excitation (the authors' class keeps 131 unused parameters
    there).
    """

    needs = ("carry",)

    def __init__(self, channels: int, channels_before: int | None = None, reduction: int = 16):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)
        self.connect = None
        if channels_before is not None:
            self.connect = nn.Linear(2, 1)  # alpha, beta and b
            nn.init.kaiming_normal_(self.connect.weight, mode="fan_out")  # as the authors' network starts it
            self.norm = nn.LayerNorm(channels)
            self.translate = nn.Identity()
            if channels_before != channels:
                self.translate = nn.Sequential(
                    nn.Linear(channels_before, channels), nn.LayerNorm(channels), nn.ReLU()
                )

    @classmethod
    def at(cls, site: Site) -> DeepConnectedAttention:
        if site.block > 0:
            return cls(site.channels, site.channels)
        return cls(site.channels, site.channels // 2 if site.stage > 1 else None)

    def forward(
        self, x: torch.Tensor, carry: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = heard = x.mean((2, 3))  # (B, C)
        if self.connect is not None:
            alpha, beta = record(self, "connection", self.connect.weight[0], "k", role="static")
            heard = alpha * pooled + beta * self.translate(carry) + self.connect.bias
            heard = torch.relu(self.norm(heard))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(heard))))
        gate = record(self, "gate", gate[:, :, None, None], "b c 1 1", role="gate")
        return x * gate, pooled * gate.flatten(1)
