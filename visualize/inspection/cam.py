"""Class activation maps from activations and gradients that are already there.

The package grad-cam does the mathematics. Its hooks and its backward pass stay unused: they change the
network they look at, which is not safe when threads share one.

    cam = class_map("GradCAM", activations, gradients)   # (h, w), evidence for the class, never negative
    shown = relative(cam)                                # the same map from 0 to 1
"""

from functools import cache

import numpy as np
from torch import nn

METHODS = ("GradCAM", "GradCAM++", "HiResCAM", "LayerCAM", "XGradCAM", "EigenCAM")
FLAT = 1e-5  # a map whose values differ by less than this part of its maximum is the same everywhere


def class_map(method: str, activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Where a block's output speaks for the class whose gradients are given.

    Args:
        method: one of `METHODS`. EigenCAM looks at the activations alone, so it knows no class.
        activations: (C, h, w) float32, a block's output.
        gradients: (C, h, w) float32, of one logit with respect to it.

    Returns:
        (h, w) float32, not negative, in the method's own unit (see `relative`).

    Raises:
        ValueError: unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"There is no CAM method {method!r}: choose one of {', '.join(METHODS)}.")
    # The package asks for input, layer and targets, too, and these six methods do not use them.
    cam = _package(method).get_cam_image(None, None, None, activations[None], gradients[None], False)
    return np.maximum(cam[0], 0).astype(np.float32)


def relative(cam: np.ndarray) -> np.ndarray:
    """Stretches a map from its own lowest value at 0 to its own highest at 1, as the package does.

    A map that is the same everywhere becomes 0 everywhere: stretched, it would show rounding errors.
    """
    low, high = float(cam.min()), float(cam.max())
    if high - low <= FLAT * high:
        return np.zeros_like(cam)
    return (cam - low) / (high - low)


@cache  # one instance per method, for all threads: what we call on it keeps no state
def _package(method: str):
    import pytorch_grad_cam  # takes seconds, so not before the first map

    cls = getattr(pytorch_grad_cam, method.replace("++", "PlusPlus"))
    return cls(model=nn.Linear(1, 1), target_layers=[])  # asks its model for a device and for eval mode
