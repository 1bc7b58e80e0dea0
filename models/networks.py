"""From a name to a network: the catalogue, filled, and what builds its entries."""

from difflib import get_close_matches

import torch
from torch import nn

from .catalogue import Entry, discover
from .resnet import ResNet18

CATALOGUE = discover()


def find(name: str) -> Entry:
    """The catalogue's entry.

    Raises:
        KeyError: no such entry; the message lists near names.
    """
    if name not in CATALOGUE:
        near = get_close_matches(str(name), CATALOGUE, n=3, cutoff=0.4)
        raise KeyError(f"no mechanism {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    return CATALOGUE[name]


def build(name: str, num_classes: int = 10) -> nn.Module:
    """An untrained network: (B, 3, 32, 32) normalised floats -> (B, num_classes) logits.

    Raises:
        KeyError: no such entry; the message lists near names.
        ValueError: the entry is a module without a place in a classifier.
    """
    entry = find(name)
    if name == "plain":
        return ResNet18(num_classes)
    if not entry.is_network:
        raise ValueError(f"{name} has no place in a classifier, so it makes no network")
    return ResNet18(num_classes, entry)


def start_of(name: str, pictures: torch.Tensor, seed: int = 0, num_classes: int = 10) -> nn.Module:
    """A network as its training would start, ready for inference: what it answers means nothing.

    The weights are the initial ones of the seed: a module that starts with no effect has none here.

    Args:
        pictures: (N, 3, 32, 32) normalised floats. The statistics of the BatchNorms are those of these
            pictures, without which the maps fade from layer to layer.

    Raises:
        KeyError, ValueError: as for `build`.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(name, num_classes)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None  # the running statistics become those of the one batch below
        model.train()(pictures.cpu())
    return model.eval().requires_grad_(False)
