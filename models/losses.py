"""Losses that a mechanism brings along: one line in its forward, one context manager in training.

    add_loss(lambda labels: 0.4 * F.cross_entropy(region_logits, labels))     # in a mechanism's forward

    with collecting_losses() as losses:                                        # in training
        logits = model(images)
    loss = F.cross_entropy(logits, labels) + sum(extra(labels) for extra in losses)

Outside `collecting_losses` the line costs nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

Loss = Callable[[torch.Tensor], torch.Tensor]

_losses: ContextVar[list[Loss] | None] = ContextVar("losses", default=None)


def add_loss(loss: Loss) -> None:
    """Adds a function from labels (B,) to a scalar to the training loss of this forward."""
    if torch.compiler.is_compiling():
        return
    collected = _losses.get()
    if collected is not None:
        collected.append(loss)


@contextmanager
def collecting_losses() -> Iterator[list[Loss]]:
    """Collects what the mechanisms of one forward add."""
    token = _losses.set([])
    try:
        yield _losses.get()
    finally:
        _losses.reset(token)
