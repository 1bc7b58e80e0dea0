"""Class activation maps from activations and gradients that are already there.

The package grad-cam does the mathematics, but for the two lines of Grad-CAM, for which the page does not wait
until it is imported, and for EigenCAM, whose sign it leaves to chance. Its hooks and its backward pass stay
unused: they change the network they look at, which is not safe when threads share one.

    cam = class_map("GradCAM", activations, gradients)   # (h, w), evidence for the class, never negative
    shown = relative(cam)                                # the same map from 0 to 1
"""

from functools import cache

import numpy as np
from torch import nn

METHODS = ("GradCAM", "GradCAM++", "HiResCAM", "LayerCAM", "XGradCAM", "EigenCAM")
NO_SIDE = 1e-5  # a component that moves the mean of all channels by less is not known to raise it
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
    if method == "EigenCAM":
        return np.maximum(principal_map(activations), 0)
    if method == "GradCAM":
        return np.maximum((gradients.mean((1, 2), keepdims=True) * activations).sum(0), 0)
    # The package asks for input, layer and targets, too, and these methods do not use them.
    cam = _package(method).get_cam_image(None, None, None, activations[None], gradients[None], False)
    return np.maximum(cam[0], 0).astype(np.float32)


def principal_map(activations: np.ndarray) -> np.ndarray:
    """The first principal component of a block's cells, positive where they are more active.

    A component has no sign of its own: turned over, it explains as much. Here it is the one that correlates
    positively with the mean over the channels, whatever their order; where it does not correlate with it at
    all, neither side is the active one, and the map is 0.

    Args:
        activations: (C, h, w).

    Returns:
        (h, w) float32; NaN where an activation is not finite.

    Source: Muhammad and Yeasin, Eigen-CAM, IJCNN 2020 (arXiv 2008.00299); centred as in the package.
    """
    if not np.isfinite(activations).all():
        return np.full(activations.shape[1:], np.nan, np.float32)
    cells = activations.reshape(len(activations), -1).T.astype(np.float64)  # (h w, C)
    cells -= cells.mean(0)
    left, strengths, right = np.linalg.svd(cells, full_matrices=False)
    side = right[0].sum() / len(activations) ** 0.5  # what the component does to the mean, from -1 to 1
    cam = (0 if abs(side) <= NO_SIDE else np.sign(side)) * strengths[0] * left[:, 0]
    return cam.reshape(activations.shape[1:]).astype(np.float32)


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
    import pytorch_grad_cam  # takes seconds, so not before it is needed

    cls = getattr(pytorch_grad_cam, method.replace("++", "PlusPlus"))
    return cls(model=nn.Linear(1, 1), target_layers=[])  # asks its model for a device and for eval mode
