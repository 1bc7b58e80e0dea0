"""What a picture of CIFAR-10 is to a network: ten classes, and pixels made to normalised floats."""

import torch

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Per-pixel mean and standard deviation of the 50,000 training images, channels R, G, B, on a 0..1 scale.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels (N, 3, H, W) -> floats with mean 0 and standard deviation 1 per channel."""
    mean = torch.tensor(MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std
