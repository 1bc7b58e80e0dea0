"""Networks that nobody trained, so that the page can show the maps of a mechanism without checkpoint."""

from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image
from torch import nn

from models import CLASSES
from models.networks import start_of
from models.preprocessing import normalise

EXAMPLES = Path(__file__).parent.parent / "page" / "examples"
_building = Lock()  # the random numbers are the process's


def untrained(name: str) -> nn.Module:
    """A network as its training would start, ready for inference: what it answers means nothing.

    The weights are the initial ones of seed 0: a module that starts with no effect has none here. The
    statistics of the BatchNorms are those of the ten example pictures, without which the maps fade from layer
    to layer. The last four networks are kept.

    Raises:
        KeyError, ValueError: as for `models.build`.
    """
    with _building:
        return _untrained(name)


@lru_cache(maxsize=4)
def _untrained(name: str) -> nn.Module:
    return start_of(name, normalise(example_pictures()))


def example_pictures() -> torch.Tensor:
    """(10, 3, 32, 32) uint8, in the order of the classes."""
    pictures = [example_picture(name) for name in CLASSES]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def example_picture(name: str) -> Image.Image:
    """The page's example of a class, 32x32, RGB."""
    return Image.open(EXAMPLES / f"{name}.png").convert("RGB")
