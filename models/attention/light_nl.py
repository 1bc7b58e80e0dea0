import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import is_recording, record


@mechanism(
    "light_nl",
    title="Lightweight Non-local",
    family="pairwise",
    slot="refine",
    sites=("layer2.1", "layer3.1"),
    paper="Li et al., Neural Architecture Search for Lightweight Non-Local Networks, CVPR 2020, "
    "https://arxiv.org/abs/2004.01961",
)
class LightNonLocal(nn.Module):
    r"""Lets all cells exchange their features in proportion to how well their first channels agree.

    $$A = \frac{1}{HW}\, x_c\, x_c^\top, \quad
    y = x + \mathrm{bn}\big(\mathrm{dw}_{3\times3}(A\, x)\big)$$

    How cheap can a look at the whole picture be? Nothing is learned about whom to ask: the first quarter
    of the channels, x_c, measures the agreement of two cells as it is. And since (AB)C = A(BC), the
    large table of pairs need not be built at all. What is left to learn is one 3x3 filter per channel
    for the answer.

    **What to look for.** Put it beside `non_local`, which has forty times the parameters: is the map
    similar? Zero is the middle of its colours: lighter is agreement, darker its opposite.

    **Shapes.** (B, C, H, W) to the same, on the residual; `affinity` (B, N, H, W), of both signs: for
    each of the N = HW queries its agreement with every key; symmetric. With `stride` 2 keys and values are
    every second cell in each direction; the divisor stays HW. That and the BatchNorm's eps and momentum
    are those of the authors' code. It starts at weight 0: the untrained block changes nothing.
    """

    adds = True  # to what it is given

    def __init__(self, channels: int, share: float = 0.25, stride: int = 1):
        super().__init__()
        self.compared = int(share * channels)
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        asked = x[:, :, :: self.stride, :: self.stride]
        query = x[:, : self.compared].flatten(2).transpose(1, 2)  # (B, N, C/4)
        key = asked[:, : self.compared].flatten(2)  # (B, C/4, N_k)
        value = asked.flatten(2).transpose(1, 2)  # (B, N_k, C)

        cells, compared = query.shape[1:]
        keys, channels = value.shape[1:]
        by_pairs = cells * keys * (compared + channels)  # multiply-adds, in either order
        by_summary = (cells + keys) * compared * channels
        if is_recording() or by_pairs < by_summary:
            affinity = (query @ key / cells).unflatten(2, asked.shape[2:])
            # Without a softmax the weights of a query sum to anything: no shares.
            affinity = record(self, "affinity", affinity, "b q h w", role="features")
            gathered = affinity.flatten(2) @ value
        else:
            gathered = query @ (key @ value / cells)
        gathered = gathered.transpose(1, 2).unflatten(2, size)  # (B, C, H, W)
        return x + self.bn(self.conv(gathered))
