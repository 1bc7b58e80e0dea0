"""What is shown of a record, for page and figure alike: display.json, and how it writes numbers.

The file is data that two languages read: here and in page/maps/record.js. It holds the sections with their
order and words, how each kind is drawn, the scales and their ends, thresholds, colours, the view that a
visitor starts with, and the names of branches and methods.
"""

import json
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from pathlib import Path

EXACT = Context(prec=400)  # digits: more than the largest float has


@cache
def description() -> dict:
    """What display.json holds."""
    return json.loads(Path(__file__).with_name("display.json").read_text(encoding="utf-8"))


def rounded(x: float, decimals: int) -> str:
    """A number with so many decimals; ties go away from zero, as in JavaScript's toFixed."""
    return str(Decimal(float(x)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP, EXACT))


def number(x: float) -> str:
    """A number in a few digits."""
    rules, size = description()["numbers"], abs(x)
    if size == 0:
        return rounded(0.0, next(decimals for least, decimals in rules["decimals"] if least < 1))
    for least, decimals in rules["decimals"]:
        if size >= least:
            return rounded(x, decimals).replace("-", rules["minus"])
    return rules["below" if x > 0 else "above"]


def percent(share: float) -> str:
    """A share of one as a percentage, finer near the two ends."""
    rules = description()["percents"]
    if rules["almost_all"] <= share < 1:
        return rules["almost_all_text"]
    fine = share < rules["fine_below"] or rules["fine_above"] <= share < 1
    return rules["text"].format(number=rounded(100 * share, 1 if fine else 0))
