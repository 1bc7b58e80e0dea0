"""What was used last is kept, within so many bytes."""

import os
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

MOST = 64 * 2**20  # bytes


class Cache:
    """Values by key, those used last; threads may share it.

    Args:
        most: bytes that all entries may take together, as `put` is told.
    """

    lock = Lock()  # one for all: nobody holds it for long

    def __init__(self, most: int = MOST):
        self.most, self.size = most, 0
        self.entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()  # with their sizes

    def get(self, key: Hashable) -> object | None:
        with self.lock:
            if key not in self.entries:
                return None
            self.entries.move_to_end(key)
            return self.entries[key][0]

    def put(self, key: Hashable, value: object, size: int) -> None:
        """In the place of an older one. `size`: bytes that key and value take, about."""
        with self.lock:
            _, old = self.entries.pop(key, (None, 0))
            self.entries[key] = value, size
            self.size += size - old
            while self.size > self.most:
                self.size -= self.entries.popitem(last=False)[1][1]


def _unlock() -> None:
    """See `models.checkpoint`: a forked process has no thread that would let go."""
    Cache.lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
