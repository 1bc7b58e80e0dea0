"""Runs a trained network on one picture, on the GPU if there is one."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from models import CLASSES, CheckpointError
from models.checkpoint import load_with_facts
from models.metadata import is_trained
from models.preprocessing import normalise
from models.recording import Record, recording

from .network import Inspection, NotFiniteError, inspect
from .replaced import Replacement, inspect_replaced, remember
from .untrained import untrained

try:
    from spaces import GPU  # a Space that lends its GPU for one call at a time
except ImportError:

    class LentError(Exception):
        """Nobody lends a GPU here."""

    def GPU(duration):
        return lambda function: function

else:
    import pytorch_grad_cam  # noqa: F401  takes seconds to import: not while a GPU is lent
    from gradio import Error as LentError  # what it raises where it has none to lend, or the call fails

log = logging.getLogger("attnscope")
LENT = 10  # seconds of a lent GPU that one answer asks for: a visitor without as many left is refused


@dataclass(frozen=True)
class Question:
    """What networks are asked about a picture.

    picture: 32x32, RGB.
    target: `"predicted"`, for each network's own first choice, or one of `CLASSES`.
    cam: one of `cam.METHODS`.
    random_weights: whether a network without a checkpoint is shown as it starts, labelled so, or left out.
    replacement: what the networks get in the place of their attention.
    """

    picture: Image.Image
    target: str = "predicted"
    cam: str = "GradCAM"
    random_weights: bool = False
    replacement: Replacement | None = None


def inspect_by_name(
    name: str, asked: Question, stage: str = "layer1.0", on_gpu: bool = True
) -> tuple[Inspection, dict, str | None]:
    """Inspects a network on the GPU if there is one, and else, or when that fails, on the CPU.

    Returns:
        the inspection; the facts of the checkpoint, {} for a network without one, which has random weights
        and stays on the CPU; and a sentence for the visitor where there is something to say.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ReplacementError: the replacement does not fit.
        NotFiniteError: the network gives no finite numbers.
    """
    if asked.random_weights and not is_trained(name):  # a broken checkpoint is no reason for random weights
        return look(untrained(name), {}, name, asked, stage), {}, None
    found, note = None, None
    if on_gpu and torch.cuda.is_available():
        try:
            found = inspect_on_gpu(name, asked, stage)
        except torch.cuda.OutOfMemoryError:
            note = "The GPU's memory was full, so this one was computed on the CPU."
        except LentError as error:
            log.warning("no GPU lent: %s", error)
            note = "No GPU could be lent, so this one was computed on the CPU."
        except RuntimeError as error:  # all that CUDA raises; another fault comes again on the CPU
            log.warning("the GPU failed: %s", error)
            note = "The GPU failed, so this one was computed on the CPU."
    seen, facts = found or inspect_loaded(name, "cpu", asked, stage)
    return seen, facts, note


@GPU(duration=LENT)
def inspect_on_gpu(name: str, asked: Question, stage: str) -> tuple[Inspection, dict]:
    return inspect_loaded(name, "cuda", asked, stage)


def inspect_loaded(name: str, device: str, asked: Question, stage: str) -> tuple[Inspection, dict]:
    """An inspection, and the facts of the very weights that it is of."""
    network, facts = loaded(name, device)
    return look(network, facts, name, asked, stage), facts


def loaded(name: str, device: str) -> tuple[nn.Module, dict]:
    network, facts = load_with_facts(name, device)
    if network.fc.out_features != len(CLASSES):
        raise CheckpointError(f"The weights of {name} were trained for other classes.")
    return network, facts


def records_of(name: str, picture: Image.Image) -> dict[str, Record]:
    """What a trained network records of a picture, 32x32 in RGB, on the CPU.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    network, _ = loaded(name, "cpu")
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    with torch.inference_mode(), recording(network) as records:
        network(normalise(pixels))
    return records


def answers_of(name: str, pixels: np.ndarray) -> np.ndarray:
    """What a trained network answers to many pictures, and nothing else, on the CPU.

    Args:
        pixels: (N, 32, 32, 3) uint8.

    Returns:
        probabilities, (N, classes).

    Raises:
        CheckpointError: the checkpoint cannot be used.
        NotFiniteError: the network gives no finite numbers.
    """
    network, _ = loaded(name, "cpu")
    with torch.inference_mode():
        found = network(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))).softmax(1).numpy()
    if not np.isfinite(found).all():
        raise NotFiniteError("The network gives no finite numbers for this picture.")
    return found


def look(network: nn.Module, facts: dict, name: str, asked: Question, stage: str) -> Inspection:
    """As trained, or with a replacement."""
    target = None if asked.target == "predicted" else CLASSES.index(asked.target)
    settings, replacement = (target, asked.cam, stage), asked.replacement
    if replacement and replacement.only in (None, name):
        return inspect_replaced(network, facts, name, asked.picture, replacement, *settings)
    seen = inspect(network, asked.picture, *settings)
    remember(seen, facts, name)
    return seen
