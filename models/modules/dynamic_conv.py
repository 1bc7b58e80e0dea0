import torch
from torch import nn
from torch.nn import functional as F

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "dynamic_conv",
    title="Dynamic Convolution",
    family="kernel",
    slot="conv",
    sites=("layer3.0", "layer3.1"),
    paper="Chen et al., Dynamic Convolution: Attention over Convolution Kernels, CVPR 2020, "
    "https://arxiv.org/abs/1912.03458",
)
class DynamicConv(nn.Module):
    r"""Mixes four filter banks into one that is made for this picture, in shares that sum to one.

    $$\pi = \mathrm{softmax}\big(F_2\,\mathrm{relu}(F_1\,\mathrm{avg}_{hw}\,x) / T\big), \quad
    y = \big(\textstyle\sum_k \pi_k W_k\big) * x$$

    The layer owns four filter banks, looks at the picture as a whole, and writes a recipe: so much of
    the first, so much of the second. Then it convolves with the mixture, once. Early in training a high
    temperature T keeps the shares nearly equal, so that all four banks learn; then T falls to 1 and the
    recipes may differ.

    **What to look for.** The four bars are the recipe for this picture. Bars that are the same for every
    picture, equal or not, mean no choice at all. Do pictures of one class share a recipe?

    **Shapes.** (B, C_in, H, W) to (B, C, H/stride, W/stride); `weights` (B, K), sum to one. It fills the
    four convolutions of the third stage. There is no authors' code. T falls linearly from 30 to 1 over
    the first tenth of training (the paper: the first ten epochs), and is stored with the weights.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int = 1,
        kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        warm_up: float = 0.1,
    ):
        super().__init__()
        self.kernels, self.start, self.warm_up = kernels, temperature, warm_up
        self.squeeze = nn.Linear(channels_in, channels_in // reduction, bias=False)
        self.excite = nn.Linear(channels_in // reduction, kernels)
        self.banks = nn.Conv2d(channels_in, kernels * channels_out, 3, stride, padding=1, bias=False)
        self.register_buffer("temperature", torch.tensor(temperature))

    def set_progress(self, progress: float) -> None:
        """The temperature falls to 1 while `progress` goes from 0 to `warm_up`."""
        self.temperature.fill_(self.start + (1 - self.start) * min(progress / self.warm_up, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.excite(torch.relu(self.squeeze(x.mean((2, 3)))))  # (B, K)
        weights = record(
            self, "weights", (scores / self.temperature).softmax(1), "b k", role="share", over="k"
        )
        if len(x) == 1:  # mix the kernels, then convolve once
            banks = self.banks.weight.unflatten(0, (self.kernels, -1))  # (K, C, C_in, 3, 3)
            kernel = torch.einsum("k,kcmij->cmij", weights[0], banks)
            return F.conv2d(x, kernel, stride=self.banks.stride, padding=1)
        answers = self.banks(x).unflatten(1, (self.kernels, -1))  # (B, K, C, H, W)
        return torch.einsum("bk,bkchw->bchw", weights, answers)  # the same, faster for many pictures
