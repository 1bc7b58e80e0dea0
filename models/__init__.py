"""CIFAR ResNet18 with any attention mechanism.

CATALOGUE              id -> Entry: title, family, slot, paper, explanation
build("se")            an untrained network
load("se")             the pretrained one, shared and frozen
CLASSES                the ten CIFAR-10 names in label order
normalise(pixels)      uint8 pixels to what a network takes
"""

from importlib import import_module

_HOMES = {
    "CATALOGUE": "networks",
    "build": "networks",
    "find": "networks",
    "load": "checkpoint",
    "CheckpointError": "checkpoint",
    "Entry": "catalogue",
    "Site": "catalogue",
    "CLASSES": "preprocessing",
    "normalise": "preprocessing",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Imports what is asked for, when it is: `python -m models.data` needs no mechanism."""
    if name not in _HOMES:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(f"models.{_HOMES[name]}"), name)
