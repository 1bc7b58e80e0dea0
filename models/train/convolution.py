"""Convolutions as matrix products: the same sums in less time where feature maps are small.

On a CPU with bfloat16 instructions, oneDNN's convolutions are slow where there are many channels and few
places, above all the gradient for the weights: with 512 channels on 2 x 2 places it takes up to eighteen
times as long as a matrix product. A training of the plain network takes 40 % less time with the products
where the processor has a matrix unit (AMX), and 5 % less where it has only the instructions.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

# From so many output channels for each output place on, the product is the faster one: measured on an Intel
# Xeon, whose matrix unit oneDNN's convolutions leave idle, and on an AMD EPYC, which has none.
CHANNELS_A_PLACE = 16 if torch.cpu.get_capabilities().get("amx_bf16") else 128


class AsProducts(TorchFunctionMode):
    """Within it, `F.conv2d` becomes a matrix product where that is faster."""

    def __torch_function__(self, function: Callable, types, args=(), kwargs=None):
        if function is F.conv2d and not kwargs and len(args) == 7 and suits(*args):
            return product(*args[:5])
        return function(*args, **(kwargs or {}))


def suits(x, weight, bias, stride, padding, dilation, groups) -> bool:
    """Whether a convolution, as `nn.Conv2d` asks for it, is ordinary, with many channels and few places."""
    if not all(isinstance(pair, tuple) for pair in (stride, padding, dilation)):
        return False
    if groups != 1 or set(dilation) != {1} or weight[0, 0].numel() == 1:
        return False
    height, width = places(x, weight, stride, padding)
    return len(weight) >= CHANNELS_A_PLACE * height * width


def places(x, weight, stride, padding) -> list[int]:
    """Height and width of what a convolution makes."""
    sizes = zip(x.shape[2:], padding, weight.shape[2:], stride)
    return [(size + 2 * pad - kernel) // step + 1 for size, pad, kernel, step in sizes]


def product(x, weight, bias, stride, padding) -> torch.Tensor:
    """(B, C, H, W) and weights (O, C, h, w) to (B, O, H', W'), as `F.conv2d` does it."""
    (height, width), (up, aside) = places(x, weight, stride, padding), padding
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, aside, aside, up, up))  # (B, H, W, C)
    down, right = stride
    seen = [
        x[:, i : i + down * height : down, j : j + right * width : right]
        for i in range(weight.shape[2])
        for j in range(weight.shape[3])
    ]
    matrix = weight.permute(0, 2, 3, 1).flatten(1)  # (O, h w C)
    return F.linear(torch.cat(seen, dim=-1), matrix, bias).permute(0, 3, 1, 2)
