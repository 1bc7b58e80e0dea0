"""How a network shows its inner tensors: one line in a mechanism, one context manager around a forward.

    gate = record(self, "gate", gate, "b c 1 1")           # in a mechanism's forward

    with recording(model) as records:                       # in a viewer
        logits = model(images)
    records["layer3.1.refine.gate"].tensor                  # (B, C, 1, 1), with its graph

Outside `recording` the line costs nothing. Nothing is stored on the module and no hook is set: the open
recording lives in a context variable, so threads that share one network do not see each other's tensors.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import nn

Edit = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Record:
    """One recorded tensor: still attached to its graph, with one letter or `1` per axis.

    `static` says that it does not depend on the picture (filters, bases, fusion weights).
    """

    tensor: torch.Tensor
    axes: str
    static: bool


@dataclass(frozen=True)
class _Observer:
    paths: dict[int, str]  # id of a module -> its dotted path in the observed model
    edits: Mapping[str, Edit]
    records: dict[str, Record]


_observer: ContextVar[_Observer | None] = ContextVar("observer", default=None)


def record(
    module: nn.Module, name: str, tensor: torch.Tensor, axes: str, static: bool = False
) -> torch.Tensor:
    """Shows `tensor` to whoever is recording, and returns the tensor that the forward must go on with.

    Args:
        module: the caller, `self`; its dotted path becomes the first part of the record's path.
        name: local name of the tensor, such as `gate`.
        axes: one letter per axis, batch first, `1` for an axis of one: `"b c 1 1"`, `"b head q k"`.
        static: the tensor does not depend on the picture.

    Returns:
        `tensor` itself, or what an edit made of it. In compiled code always `tensor`, without a trace.

    Raises:
        ValueError: the path has been recorded already.
    """
    if torch.compiler.is_compiling():
        return tensor
    observer = _observer.get()
    if observer is None or id(module) not in observer.paths:
        return tensor
    path = f"{observer.paths[id(module)]}.{name}".lstrip(".")
    if path in observer.records:
        raise ValueError(f"{path} was recorded twice: one recording holds one forward")
    if path in observer.edits:
        tensor = observer.edits[path](tensor)
    observer.records[path] = Record(tensor, axes, static)
    return tensor


def is_recording() -> bool:
    """Whether somebody is looking: pairwise mechanisms then form the weights that a lean kernel hides."""
    return not torch.compiler.is_compiling() and _observer.get() is not None


@contextmanager
def recording(model: nn.Module, edits: Mapping[str, Edit] | None = None) -> Iterator[dict[str, Record]]:
    """Collects what `model` records during one forward, by dotted path, in the order of computation.

    Args:
        model: the network; tensors that other modules record in the meantime are left alone.
        edits: path -> function from tensor to tensor, applied before the network goes on:
            `{"layer3.1.refine.gate": torch.ones_like}` switches one gate off.

    Raises:
        KeyError: at the end, when an edit named a path that the forward never recorded.
    """
    edits = edits or {}
    paths = {id(module): path for path, module in model.named_modules()}
    observer = _Observer(paths, edits, {})
    token = _observer.set(observer)
    try:
        yield observer.records
    finally:
        _observer.reset(token)
    if missing := sorted(set(edits) - set(observer.records)):
        raise KeyError(f"no such record to edit: {', '.join(missing)}")
