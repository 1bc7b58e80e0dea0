import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "aspp",
    title="ASPP",
    family="module",
    slot="stage",
    sites=("stage3",),
    paper="Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation (DeepLab v3), 2017, "
    "https://arxiv.org/abs/1706.05587",
)
class AtrousPyramid(nn.Module):
    r"""Looks at the map through filters whose taps are spread ever wider, and once at all of it.

    $$y = \mathrm{cbr}_{1\times1}\big[\mathrm{cbr}_{1\times1}\,x;\ \mathrm{cbr}_{3\times3}^{\,r_1}\,x;\
    \mathrm{cbr}_{3\times3}^{\,r_2}\,x;\ \mathrm{cbr}_{3\times3}^{\,r_3}\,x;\
    \mathrm{up}\,\mathrm{cbr}_{1\times1}\,\mathrm{avg}_{hw}\,x\big],
    \quad \mathrm{cbr}^{\,r} = \mathrm{relu} \circ \mathrm{bn} \circ \mathrm{conv}^{\,\mathrm{dilation}\ r}$$

    A 3x3 filter with gaps between its nine taps covers a wider window at the same price ("atrous": with
    holes). Five views are taken of the same map: a single cell, three windows of growing width, and the
    average of the whole picture. Pasted behind each other, they let the next layer use small and large
    surroundings at once.

    **What to look for.** Five views side by side: do the wide ones still follow the object, or have they
    blurred into its surroundings? The last view is the same at every cell by construction.

    **Shapes.** (B, C, H, W) to the same, not negative; `views` (B, 5, C, H, W), not negative, in the
    order of the formula. Its layers have the names of torchvision's, whose weights fit. Rates 1, 2, 4 and
    no dropout are our fit to an 8x8 map: of the paper's rates 6, 12, 18 the last two would read nothing
    but padding around the middle tap, and its dropout of 0.5 belongs in front of a classifier.
    """

    def __init__(self, channels: int, rates: tuple[int, ...] = (1, 2, 4), dropout: float = 0.0):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                conv_bn_relu(channels, channels, 1),
                *(conv_bn_relu(channels, channels, 3, rate) for rate in rates),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(channels, channels, 1)),
            ]
        )
        self.project = conv_bn_relu(len(self.convs) * channels, channels, 1).append(nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        views = torch.stack([conv(x).expand_as(x) for conv in self.convs], dim=1)  # (B, 5, C, H, W)
        views = record(self, "views", views, "b branch c h w", role="features")
        return self.project(views.flatten(1, 2))


def conv_bn_relu(channels_in: int, channels: int, size: int, rate: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, size, padding=rate * (size // 2), dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())
