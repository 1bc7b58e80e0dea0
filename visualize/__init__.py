"""What a network saw in one picture: as plain NumPy (`inspect`), and as the record that the page draws."""

from .images import load_image, to_network
from .inspection import Inspection, Map, inspect

__all__ = ["Inspection", "Map", "inspect", "load_image", "to_network"]
