import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..catalogue import mechanism


@mechanism(
    "fuse_conv_bn",
    title="BatchNorm folded into the convolution",
    family="module",
    slot=None,
    paper="A consequence of Ioffe and Szegedy, Batch Normalization, ICML 2015, https://arxiv.org/abs/1502.03167",
)
class FuseConvBN(nn.Module):
    r"""Multiplies a BatchNorm into the convolution before it, so that a whole layer disappears.

    $$W' = \frac{\gamma}{\sqrt{v + \varepsilon}}\,W, \quad
    b' = \frac{\gamma}{\sqrt{v + \varepsilon}}\,(b - \mu) + \beta$$

    Once the network is trained, BatchNorm only scales and shifts each channel, always by the same
    numbers. A convolution can do that itself: its weights take in the scale, its bias the shift. The
    outputs stay the same, up to rounding.

    **What to look for.** Nothing to see, and that is the point: fewer parameters, one layer less for
    each convolution, and the same logits.

    **Shapes.** (B, C, H, W) to the same: a 3x3 convolution and a BatchNorm, that `fold` turns into one
    convolution with bias, by torch's own `fuse_conv_bn_eval`. It changes a trained network, so there is
    nothing to train here and no place to fill.
    """

    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))

    def fold(self) -> nn.Conv2d:
        """One convolution with bias that does the same; the module must be in eval mode."""
        return fuse_conv_bn_eval(self.conv, self.bn)


def fold_modules(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode in which every module that offers `fold` is replaced by its result.

    The blocks stay, and with them their records.
    """
    network = copy.deepcopy(network).eval()
    for path, module in list(network.named_modules()):
        if hasattr(module, "fold"):
            network.set_submodule(path, module.fold())
    return network


def fuse_network(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode in which every BatchNorm behind a convolution is folded into it.

    Torch follows the computation to find the pairs, so the copy is a plain graph that records nothing.
    """
    from torch.fx.experimental.optimization import fuse

    return fuse(copy.deepcopy(network).eval(), inplace=True)
