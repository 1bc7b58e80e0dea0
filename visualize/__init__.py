"""What a network saw in one picture: as plain NumPy (`inspect`), and as the record that the page draws."""

from importlib import import_module

_HOMES = {
    "Inspection": "inspection.network",
    "Map": "inspection.network",
    "inspect": "inspection.network",
    "load_image": "picture",
    "to_network": "picture",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Imports what is asked for, when it is: to say that its port is taken, the server needs no network."""
    if name not in _HOMES:
        raise AttributeError(f"module 'visualize' has no attribute {name!r}")
    return getattr(import_module(f"visualize.{_HOMES[name]}"), name)
