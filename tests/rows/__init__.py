"""What each entry of the catalogue must be: one row per entry, in a file per family of papers."""

from models import CATALOGUE
from rows import channel, context, convolutions, first, hybrid, spatial
from rows.row import Row

FILES = (first, channel, hybrid, spatial, convolutions, context)
HOMES = {"pairwise": "spatial", "kernel": "convolutions", "module": "context"}  # by family, where not its own


class Rows(dict[str, Row]):
    """Rows by the name of their entry; one that lacks its row is told where to put it."""

    def __missing__(self, name: str) -> Row:
        family = CATALOGUE[name].family
        raise LookupError(
            f'{name} has no row: add "{name}": Row(parameters of the network, parameters of one module at 64 '
            "channels, paths and axes of what it records) "
            f"to ROWS in tests/rows/{HOMES.get(family, family)}.py."
        )


ROWS = Rows({name: row for file in FILES for name, row in file.ROWS.items()})

__all__ = ["ROWS", "Row", "Rows"]
