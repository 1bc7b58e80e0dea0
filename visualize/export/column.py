"""One network on one picture, for the files that a visitor takes along."""

from dataclasses import dataclass

from models import CATALOGUE
from models.metadata import accuracy, parameters

from ..inspection.engine import Question, inspect_by_name
from ..inspection.network import Inspection, Map


@dataclass(frozen=True, eq=False)
class Column:
    """One network on one picture. `random`: nobody trained it; `sha256`: of its checkpoint's weights."""

    key: str
    title: str
    random: bool
    accuracy: dict
    parameters: int
    sha256: str | None
    inspection: Inspection


def inspect_column(name: str, asked: Question) -> Column:
    """Looks at the picture with one network.

    Raises:
        CheckpointError, ReplacementError, NotFiniteError: as for `inspect_by_name`.
    """
    inspection, facts, _ = inspect_by_name(name, asked)
    title, digest = CATALOGUE[name].title, facts.get("sha256")
    return Column(name, title, not facts, accuracy(facts), parameters(name), digest, inspection)


def all_maps(inspection: Inspection) -> dict[str, Map]:
    """The CAMs of all blocks, as `layer4.1.cam`, then what the mechanism recorded."""
    cams = {f"{block}.cam": Map("h w", values) for block, values in inspection.cams.items()}
    return cams | inspection.maps
