import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "ssh_context",
    title="SSH context module",
    family="module",
    slot="stage",
    sites=("stage3",),
    paper="Najibi et al., SSH: Single Stage Headless Face Detector, ICCV 2017, https://arxiv.org/abs/1708.03979",
)
class SSHContext(nn.Module):
    r"""Looks at each cell with a 5x5 and a 7x7 window, both built from small filters.

    $$y = [b;\ c], \quad d = f_0\,x, \quad b = f_1\,d, \quad c = f_3 f_2\,d, \quad
    f = \mathrm{relu} \circ \mathrm{bn} \circ \mathrm{conv}_{3\times3}$$

    A face is easier to find with some hair and shoulders around it. So the block looks at larger
    windows; instead of large filters it stacks 3x3 ones, two for a 5x5 window and three for a 7x7. That
    needs fewer weights, and both windows share the first layer.

    **What to look for.** Compare the two views: does the wider one still respond a little away from the
    object, where the narrower one has lost it?

    **Shapes.** (B, C, H, W) to the same, not negative; `views` (B, 2, C/2, H, W), 5x5 first. This is the
    context part alone, in a form that is often copied: a BatchNorm behind each convolution, which keeps
    its bias all the same. The authors have no BatchNorm, and a plain 3x3 branch beside it that makes
    half of the channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        width = channels // 2
        self.stem = conv_bn_relu(channels, width)
        self.medium = conv_bn_relu(width, width)
        self.wide = nn.Sequential(conv_bn_relu(width, width), conv_bn_relu(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = self.stem(x)  # (B, C/2, H, W)
        views = torch.stack([self.medium(shared), self.wide(shared)], dim=1)
        views = record(self, "views", views, "b branch k h w", role="features")
        return views.flatten(1, 2)


def conv_bn_relu(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
