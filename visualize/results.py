"""What the page shows of the results: every measured network, its accuracy and its cost, recipe by recipe."""

from pathlib import Path

from models.checkpoint import CHECKPOINTS
from models.results.table import caption, results


def results_value(folder: Path = CHECKPOINTS) -> dict:
    """The value of the component `results`: the blocks of `table.results`, each with its `caption`.

    Empty where nothing is measured; a network whose files are broken is left out.
    """
    blocks = results(folder)
    return {"blocks": [{**block, "caption": caption(block)} for block in blocks]}
