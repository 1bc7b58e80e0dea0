"""Runs a trained network on one picture, on the GPU if there is one."""

import torch
from PIL import Image

from models import CLASSES, CheckpointError, load
from models.checkpoint import read_facts
from models.metadata import is_trained

from .network import Inspection, inspect
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
) -> tuple[Inspection, dict, str | None]:
    """Inspects a network on the GPU if there is one, and else, or when its memory is full, on the CPU.

    Returns:
        the inspection; the facts of the checkpoint, {} for a network without one, which has random weights
        and stays on the CPU; and a sentence for the visitor where there is something to say.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        NotFiniteError: the network gives no finite numbers.
    """
    index, seen, note = None if target == "predicted" else CLASSES.index(target), None, None
    try:
        facts = read_facts(name)
    except CheckpointError:
        if not random_weights or is_trained(name):  # a broken checkpoint is no reason for random weights
            raise
        facts = {}
    if facts and on_gpu and torch.cuda.is_available():
        try:
            seen = inspect_on_gpu(name, image, index, cam, stage)
        except torch.cuda.OutOfMemoryError:
            note = "The GPU's memory was full, so this one was computed on the CPU."
    if seen is None:
        seen = inspect(load(name, "cpu") if facts else untrained(name), image, index, cam, stage)
    if len(seen.probabilities) != len(CLASSES):
        raise CheckpointError(f"The weights of {name} were trained for other classes.")
    return seen, facts, note


@GPU
def inspect_on_gpu(name: str, image: Image.Image, target: int | None, cam: str, stage: str) -> Inspection:
    return inspect(load(name, "cuda"), image, target, cam, stage)
