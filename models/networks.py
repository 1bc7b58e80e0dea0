"""From a name to a network: the catalogue, filled, and what builds its entries."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .catalogue import Entry, discover
from .resnet import ResNet18

CATALOGUE = discover()


def find(name: str) -> Entry:
    """The catalogue's entry.

    Raises:
        KeyError: no such entry; the message lists near names.
    """
    if name not in CATALOGUE:
        near = get_close_matches(str(name).lower(), CATALOGUE, n=3, cutoff=0.4)
        raise KeyError(f"no mechanism {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    return CATALOGUE[name]


def find_network(name: str) -> Entry:
    """The same, of an entry that makes a network.

    Raises:
        KeyError: no such entry; the message lists near names.
        ValueError: the entry is a module without a place in a classifier.
    """
    entry = find(name)
    if not entry.is_network:
        raise ValueError(f"{name} has no place in a classifier, so it makes no network")
    return entry


def build(name: str, num_classes: int = 10) -> nn.Module:
    """An untrained network: (B, 3, 32, 32) normalised floats -> (B, num_classes) logits.

    Raises:
        KeyError: no such entry; the message lists near names.
        ValueError: the entry is a module without a place in a classifier.
    """
    entry = find_network(name)
    return ResNet18(num_classes, None if name == "plain" else entry)


@contextmanager
def shapes_only() -> Iterator[None]:
    """What is built in it has shapes and no values: no memory, no random numbers."""
    with torch.device("meta"), Unfilled():
        yield


class Unfilled(TorchFunctionMode):
    """Nobody draws initial values: where no memory holds them, that would first import the compiler."""

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        draws = func in (torch.Tensor.normal_, torch.Tensor.uniform_)
        if draws or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


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
