import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import attend, record


@mechanism(
    "rnan",
    title="Residual Non-local Attention",
    family="hybrid",
    slot="refine",
    sites=("layer2.1", "layer3.1"),
    paper="Zhang et al., Residual Non-local Attention Networks for Image Restoration, ICLR 2019, "
    "https://arxiv.org/abs/1903.10082",
)
class ResidualNonLocalAttention(nn.Module):
    r"""Judges, with a view of the whole map, how much of each correction of the block to let pass.

    $$a = \mathrm{RB}(\mathrm{NL}(W x)), \quad y = F(x)\,M, \quad
    M = \sigma\big(W'\,\mathrm{RB}(a + \mathrm{up}(\mathrm{RB}(\mathrm{RB}(\mathrm{down}\,a))))\big)$$
    $$\mathrm{RB}(z) = z + \mathrm{conv}(\mathrm{relu}(\mathrm{conv}\,z)), \quad
    \mathrm{NL}(z)_i = z_i + W_o \textstyle\sum_j \mathrm{softmax}_j(\theta_i^\top \phi_j)\, g_j$$

    A volume knob for each channel and cell: 0 mutes the block's correction F(x) there, 1 lets it
    through. An hourglass of convolutions, which sees a larger area than the block itself, decides how
    far the correction is to be trusted, and a non-local layer before it lets that decision use the whole
    picture.

    **What to look for.** One half is the neutral start. Where does the mask mute, and does it mute all
    channels at once? Click a cell in the affinity to see where the non-local layer read for it.

    **Shapes.** The residual (B, C, H, W) and the block's input, the same size, to the same; `mask` (B,
    C, H, W) between 0 and 1; `affinity` (B, N, H, W): for each of the N = HW queries a map over the keys
    that sums to one, not scaled. The sum is over the keys as in the paper; the authors' code takes it
    over the queries. The paper's modules are 17 million weights here: that the block's residual serves
    as the trunk, and a mask branch of C/8 channels, is our fit.
    """

    needs = ("block_input",)

    def __init__(self, channels: int, reduction: int = 8, non_local: bool = True):
        super().__init__()
        inner = channels // reduction
        self.enter = nn.Conv2d(channels, inner, 1)
        self.non_local = NonLocalLayer(inner) if non_local else nn.Identity()
        self.before = ResidualBlock(inner)
        self.down = nn.Conv2d(inner, inner, 3, stride=2, padding=1)
        self.below = nn.Sequential(ResidualBlock(inner), ResidualBlock(inner))
        self.up = nn.ConvTranspose2d(inner, inner, 6, stride=2, padding=2)
        self.after = ResidualBlock(inner)
        self.leave = nn.Conv2d(inner, channels, 1)

    def forward(self, residual: torch.Tensor, block_input: torch.Tensor) -> torch.Tensor:
        height, width = residual.shape[2:]
        near = self.before(self.non_local(self.enter(block_input)))  # (B, w, H, W)
        far = self.up(self.below(self.down(near)))[:, :, :height, :width]  # an odd size comes back even
        mask = torch.sigmoid(self.leave(self.after(near + far)))
        mask = record(self, "mask", mask, "b c h w", role="gate")
        return residual * mask


class ResidualBlock(nn.Module):
    """RB of the formula: (B, C, H, W) to the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class NonLocalLayer(nn.Module):
    """NL of the formula: (B, C, H, W) to the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)
        self.value = nn.Conv2d(channels, channels // 2, 1)
        self.project = nn.Conv2d(channels // 2, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value)
        )  # (B, N, w/2)
        gathered = attend(self, query, key, value, size, scale=1.0)
        return x + self.project(gathered.transpose(1, 2).unflatten(2, size))
