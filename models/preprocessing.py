"""What a picture of CIFAR-10 is to a network: ten classes, and pixels made to normalised floats."""

import torch

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Per-pixel mean and standard deviation of the 50,000 training images, channels R, G, B, on a 0..1 scale.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


Constants = tuple[torch.Tensor, torch.Tensor]


def mean_and_std(device: torch.device) -> Constants:
    """Both as (1, 3, 1, 1) on a device. To bring them to a GPU waits for all that is under way there."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return mean, std


def normalise(pixels: torch.Tensor, constants: Constants | None = None) -> torch.Tensor:
    """uint8 pixels (N, 3, H, W) -> floats with mean 0 and standard deviation 1 per channel.

    Args:
        constants: what `mean_and_std` gave for the device of the pixels, for who normalises often.
    """
    mean, std = constants or mean_and_std(pixels.device)
    return (pixels.float() / 255 - mean) / std
