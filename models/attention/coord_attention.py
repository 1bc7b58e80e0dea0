import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "coord_attention",
    title="Coordinate Attention",
    family="hybrid",
    slot="refine",
    paper="Hou et al., Coordinate Attention for Efficient Mobile Network Design, CVPR 2021, "
    "https://arxiv.org/abs/2103.02907",
)
class CoordinateAttention(nn.Module):
    r"""Gives each channel a gate for every row and a gate for every column, and multiplies the two.

    $$[f^h,\, f^w] = \mathrm{hswish}\big(\mathrm{bn}(W_1\,[\mathrm{avg}_w\,x,\ \mathrm{avg}_h\,x])\big), \quad
    g^h = \sigma(W_h f^h), \quad g^w = \sigma(W_w f^w), \quad y_{chw} = g^h_{ch}\,g^w_{cw}\,x_{chw}$$

    Squeeze-and-excitation keeps one average per channel and forgets the place. Here each channel keeps
    one average per row and one per column, so it can say "I matter in rows 5 to 12 and columns 8 to 20",
    like the two margins of a map.

    **What to look for.** Cross a bright row with a bright column in your mind: do they meet on the
    object? By construction the pattern of one channel is a row profile times a column profile: it can
    draw boxes and crosses, never a diagonal. Compare it with the map of CBAM beside it.

    **Shapes.** (B, C, H, W) to the same; `h_gate` (B, C, H, 1) and `w_gate` (B, C, 1, W), between 0 and
    1, so that their product starts near a quarter. W_1 reads the H row and W column averages as places of
    one list. Widths and biases are the authors'. They work in mobile blocks; the end of the residual branch
    is our choice.
    """

    def __init__(self, channels: int, reduction: int = 32, least_width: int = 8):
        super().__init__()
        width = max(channels // reduction, least_width)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width))
        self.excite_h = nn.Conv2d(width, channels, 1)
        self.excite_w = nn.Conv2d(width, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.mean(3, keepdim=True)  # (B, C, H, 1)
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # (B, C, W, 1)
        both = F.hardswish(self.squeeze(torch.cat([rows, columns], dim=2)))  # (B, width, H + W, 1)
        rows, columns = both.split(x.shape[2:], dim=2)
        h_gate = torch.sigmoid(self.excite_h(rows))  # (B, C, H, 1)
        w_gate = torch.sigmoid(self.excite_w(columns.transpose(2, 3)))  # (B, C, 1, W)
        h_gate = record(self, "h_gate", h_gate, "b c h 1", role="gate")
        w_gate = record(self, "w_gate", w_gate, "b c 1 w", role="gate")
        return x * h_gate * w_gate
