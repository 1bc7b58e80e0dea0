from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..recording import record

PAPER = (
    "Hu et al., Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks, NeurIPS 2018, "
    "https://arxiv.org/abs/1810.12348"
)


@mechanism("ge_theta_minus", title="Gather-Excite θ⁻", family="channel", slot="refine", paper=PAPER)
class GatherExciteMinus(nn.Module):
    r"""Multiplies each channel by the sigmoid of its own average, without a single new parameter.

    $$y_c = x_c\,\sigma(\bar{x}_c), \quad \bar{x}_c = \frac{1}{HW}\sum_{i,j} x_{c,i,j}$$

    Gather evidence for a feature over the whole map, then tell every cell about it. With no weights the
    rule can only say: a channel that is active on average may be trusted. Training shapes it all the
    same: the BatchNorm before it sets each channel's mean over many pictures, and the gate says how far
    this picture lies above or below that.

    **What to look for.** There is no map to draw, only the gates. Compare two pictures: a channel whose
    gate moves is one whose average moves, nothing else.

    **Shapes.** (B, C, H, W) to the same; `gate` (B, C, 1, 1) between 0 and 1. With a finite `extent` e
    of 2, 4 or 8 the average is taken over windows of 2e - 1 cells, e apart, and the gate is a coarse map
    (B, C, H/e, W/e), enlarged by nearest neighbour; the authors released the global form, `extent=0`.
    """

    def __init__(self, channels: int, extent: int = 0):
        super().__init__()
        self.extent = extent

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.excite(self.gather(x)))  # (B, C, 1, 1) or (B, C, H/e, W/e)
        gate = record(self, "gate", gate, "b c h w" if self.extent else "b c 1 1", role="gate")
        return x * (F.interpolate(gate, x.shape[2:], mode="nearest") if self.extent else gate)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        if self.extent == 0:
            return x.mean((2, 3), keepdim=True)
        window, border = 2 * self.extent - 1, self.extent - 1
        return F.avg_pool2d(x, window, self.extent, border, count_include_pad=False)

    def excite(self, gathered: torch.Tensor) -> torch.Tensor:
        return gathered


@mechanism("ge_theta", title="Gather-Excite θ", family="channel", slot="refine", paper=PAPER)
class GatherExcite(GatherExciteMinus):
    r"""Lets each channel vote with a learned picture of where to look, and multiplies it by the outcome.

    $$y_c = x_c\,\sigma(g_c), \quad g_c = \mathrm{bn}\Big(\sum_{i,j} F_{c,i,j}\,x_{c,i,j}\Big)$$

    An average gives every cell the same vote. Here each channel has a filter as large as its map:
    activity at a bright cell of the filter counts for the channel, activity at a dark one against it.
    The vote of the channel goes back to all its cells.

    **What to look for.** The gather filters, drawn as pictures, are the same for every image: do they
    look at the middle, where the object of a CIFAR picture stands, or at the border? A flat filter is
    still an average (zero is the middle of the colours). For this image there are only the gates.

    **Shapes.** (B, C, H, W) to the same; `gather_filter` (C, H, W), signed, the same for every picture,
    and `gate` (B, C, 1, 1) between 0 and 1. As in the authors' released network the filters have no bias
    and a BatchNorm follows. A map of another size than the filters is first averaged or repeated to that
    size: our choice. With a finite `extent` e the gathering is a chain of log2(e) depthwise 3x3
    convolutions of stride 2, each with its BatchNorm, ReLU between them, and the gate a coarse map
    (B, C, H/e, W/e).
    """

    def __init__(self, channels: int, size: int, extent: int = 0):
        super().__init__(channels, extent)
        if extent == 0:
            self.filters = nn.Parameter(torch.empty(channels, size, size))
            self.bn = nn.BatchNorm2d(channels)
            nn.init.kaiming_normal_(self.filters)
        else:
            self.steps = nn.Sequential()
            for step in range(extent.bit_length() - 1):
                conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
                nn.init.kaiming_normal_(conv.weight)
                between = [nn.ReLU()] if step else []
                self.steps.extend([*between, conv, nn.BatchNorm2d(channels)])

    @classmethod
    def at(cls, site: Site) -> GatherExcite:
        return cls(site.channels, site.size)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        if self.extent:
            return self.steps(x)
        filters = record(self, "gather_filter", self.filters, "c h w", role="static")
        if x.shape[2:] != filters.shape[1:]:  # training may begin on smaller pictures
            x = F.adaptive_avg_pool2d(x, filters.shape[1:])
        return self.bn((x * filters).sum((2, 3), keepdim=True))


@mechanism("ge_theta_plus", title="Gather-Excite θ⁺", family="channel", slot="refine", paper=PAPER)
class GatherExcitePlus(GatherExcite):
    r"""Gathers with learned pictures of where to look, then lets all channels decide together.

    $$y_c = x_c\,s_c, \quad s = \sigma\big(W_2\,\mathrm{relu}(W_1\,\mathrm{relu}(g) + b_1) + b_2\big), \quad
    g_c = \mathrm{bn}\Big(\sum_{i,j} F_{c,i,j}\,x_{c,i,j}\Big)$$

    The first half is that of Gather-Excite θ, where each channel votes with a filter as large as its
    map; the second half is that of squeeze-and-excitation, where a small network sees all votes and sets
    all factors.

    **What to look for.** The gather filters, the same for every image, say where each channel looks.
    Then compare the gates with those of squeeze-and-excitation: the two differ in that learned look, its
    BatchNorm, and a ReLU that drops votes below zero.

    **Shapes.** (B, C, H, W) to the same; `gather_filter` (C, H, W), signed, the same for every picture,
    and `gate` (B, C, 1, 1) between 0 and 1. As in the authors' released network a ReLU follows the
    gathering, and both layers of the small network have biases, which start at 0; the weights start at
    standard deviation 0.01, so the gate starts near one half. Maps of other sizes and a finite `extent`
    work as in Gather-Excite θ.
    """

    def __init__(self, channels: int, size: int, extent: int = 0, reduction: int = 16):
        super().__init__(channels, size, extent)
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.expand = nn.Conv2d(channels // reduction, channels, 1)
        for conv in (self.squeeze, self.expand):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def excite(self, gathered: torch.Tensor) -> torch.Tensor:
        return self.expand(torch.relu(self.squeeze(torch.relu(gathered))))
