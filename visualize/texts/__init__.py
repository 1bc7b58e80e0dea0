"""What page and figure say, in files of their own."""

import json
from functools import cache
from pathlib import Path


@cache
def words() -> dict:
    """What the page and the figure say and how they colour, from one file."""
    return json.loads((Path(__file__).parent / "words.json").read_text(encoding="utf-8"))
