"""Runs a trained network on one picture, on the GPU if there is one."""

import torch
from PIL import Image
from torch import nn

from models import CLASSES, CheckpointError
from models.checkpoint import load_with_facts
from models.metadata import is_trained

from .network import Inspection, inspect
from .replaced import Replacement, inspect_replaced, remember
from .untrained import untrained

try:
    from spaces import GPU  # a Space that lends its GPU for one call at a time
except ImportError:

    def GPU(function):
        return function


def inspect_by_name(
    name: str,
    image: Image.Image,
    target: str = "predicted",
    cam: str = "GradCAM",
    stage: str = "layer1.0",
    random_weights: bool = False,
    on_gpu: bool = True,
    replacement: Replacement | None = None,
) -> tuple[Inspection, dict, str | None]:
    """Inspects a network on the GPU if there is one, and else, or when its memory is full, on the CPU.

    Returns:
        the inspection; the facts of the checkpoint, {} for a network without one, which has random weights
        and stays on the CPU; and a sentence for the visitor where there is something to say.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ReplacementError: the replacement does not fit.
        NotFiniteError: the network gives no finite numbers.
    """
    index = None if target == "predicted" else CLASSES.index(target)
    if replacement and replacement.only not in (None, name):
        replacement = None
    if random_weights and not is_trained(name):  # a broken checkpoint is no reason for random weights
        return look(untrained(name), {}, name, image, replacement, index, cam, stage), {}, None
    found, note = None, None
    if on_gpu and torch.cuda.is_available():
        try:
            found = inspect_on_gpu(name, image, replacement, index, cam, stage)
        except torch.cuda.OutOfMemoryError:
            note = "The GPU's memory was full, so this one was computed on the CPU."
    seen, facts = found or inspect_loaded(name, "cpu", image, replacement, index, cam, stage)
    if len(seen.probabilities) != len(CLASSES):
        raise CheckpointError(f"The weights of {name} were trained for other classes.")
    return seen, facts, note


@GPU
def inspect_on_gpu(
    name: str, image: Image.Image, replacement: Replacement | None, *settings
) -> tuple[Inspection, dict]:
    return inspect_loaded(name, "cuda", image, replacement, *settings)


def inspect_loaded(
    name: str, device: str, image: Image.Image, replacement: Replacement | None, *settings
) -> tuple[Inspection, dict]:
    """An inspection, and the facts of the very weights that it is of."""
    network, facts = load_with_facts(name, device)
    return look(network, facts, name, image, replacement, *settings), facts


def look(
    network: nn.Module,
    facts: dict,
    name: str,
    image: Image.Image,
    replacement: Replacement | None,
    target: int | None,
    cam: str,
    stage: str,
) -> Inspection:
    """As trained, or with a replacement."""
    if replacement is None:
        seen = inspect(network, image, target, cam, stage)
        remember(seen, facts, name)
        return seen
    return inspect_replaced(network, facts, name, image, replacement, target, cam, stage)
