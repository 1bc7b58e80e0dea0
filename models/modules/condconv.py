import torch
from torch import nn
from torch.nn import functional as F

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "condconv",
    title="CondConv",
    family="kernel",
    slot="conv",
    sites=("layer3.0", "layer3.1"),
    paper="Yang et al., CondConv: Conditionally Parameterized Convolutions for Efficient Inference, "
    "NeurIPS 2019, https://arxiv.org/abs/1904.04971",
)
class CondConv(nn.Module):
    r"""Blends four expert filter banks anew for each picture, each with a dial of its own.

    $$r = \sigma(R\,\mathrm{avg}_{hw}\,x + c), \quad y = \big(\textstyle\sum_k r_k W_k\big) * x$$

    The layer looks at the picture as a whole and decides how much each of four experts has to say. Their
    filters are blended first, so the picture is convolved only once, however many experts there are.
    Unlike in dynamic convolution the experts do not compete: several may be fully on together.

    **What to look for.** The four dials. A dial that stays at one value for all pictures is an expert
    without a subject. In the paper early layers set the dials almost alike for all classes, late ones by
    class; here all four stand in the third stage, so that this cannot be seen.

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `gate` (B, K) between 0 and 1. It fills
    the four convolutions of the third stage. The dials come from the layer's own input; in the authors'
    code all convolutions of a block share those of the block's input.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, experts: int = 4):
        super().__init__()
        self.route = nn.Linear(channels_in, experts)
        self.experts = nn.Conv2d(channels_in, experts * channels_out, 3, stride, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.route(x.mean((2, 3))))
        gate = record(self, "gate", gate, "b k", role="gate")
        count = self.route.out_features
        if len(x) == 1:  # blend the filters, then convolve once
            experts = self.experts.weight.unflatten(0, (count, -1))  # (K, C, C_in, 3, 3)
            kernel = torch.einsum("k,kcmij->cmij", gate[0], experts)
            return F.conv2d(x, kernel, stride=self.experts.stride, padding=1)
        answers = self.experts(x).unflatten(1, (count, -1))  # (B, K, C, H, W)
        return torch.einsum("bk,bkchw->bchw", gate, answers)  # the same, faster for many pictures
