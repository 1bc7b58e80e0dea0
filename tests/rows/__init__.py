"""What each entry of the catalogue must be: one row per entry, in a file per family of papers."""

from rows import channel, context, convolutions, first, hybrid, spatial
from rows.row import Row

FILES = (first, channel, hybrid, spatial, convolutions, context)
ROWS: dict[str, Row] = {name: row for file in FILES for name, row in file.ROWS.items()}

__all__ = ["ROWS", "Row"]
