"""What a network saw in one picture: as plain NumPy (`inspect`), and as the record that the page draws."""

from .inspection.network import Inspection, Map, inspect
from .picture import load_image, to_network

__all__ = ["Inspection", "Map", "inspect", "load_image", "to_network"]
