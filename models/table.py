"""The table of results, from the checkpoints' JSON files: python -m models.table [--write README.md]

With `--write` the table replaces what stands between the lines `<!-- table -->` and `<!-- /table -->`.
"""

import argparse
import math
import re
from pathlib import Path

from . import CATALOGUE
from .checkpoint import CHECKPOINTS, CheckpointError, read_facts


def wilson(percent: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of an accuracy, in percent.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    z, p = 1.959964, percent / 100
    centre = p + z * z / (2 * count)
    spread = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return tuple(100 * (centre + sign * spread) / (1 + z * z / count) for sign in (-1, 1))


def trained(folder: Path = CHECKPOINTS) -> list[dict]:
    """The facts of every entry that has a measured checkpoint, in the catalogue's order."""
    facts = []
    for name in CATALOGUE:
        try:
            found = read_facts(name, folder)
        except CheckpointError:
            continue
        if found.get("accuracy") is not None:
            facts.append(found)
    return facts


def markdown(folder: Path = CHECKPOINTS) -> str:
    """The table, with one row per trained network. Intervals say how far 10,000 test images can tell."""
    lines = [
        "| network | accuracy, 95 % interval | with mirror | before int8 | parameters | MFLOPs | recipe |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for facts in trained(folder):
        low, high = wilson(facts["accuracy"], facts["test_images"])
        unrounded = facts["accuracy_unrounded"]  # None where the test images were not there in training
        lines.append(
            f"| {CATALOGUE[facts['name']].title} | {facts['accuracy']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {facts['accuracy_mirror']:.2f} | {'-' if unrounded is None else f'{unrounded:.2f}'} "
            f"| {facts['parameters']:,} | {facts['flops'] / 1e6:,.0f} "
            f"| {facts['recipe']}, {facts['epochs']} epochs, seed {facts['seed']} |"
        )
    return "\n".join(lines)


def write_into(text: str, table: str) -> str:
    """`text` with the table between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    found = re.compile(r"(<!-- table -->\n).*?(<!-- /table -->)", re.DOTALL)
    if not found.search(text):
        raise ValueError("the marks <!-- table --> and <!-- /table --> are missing")
    return found.sub(lambda match: match[1] + table + "\n" + match[2], text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.table", description="Print the table of results.")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two marks")
    arguments = parser.parse_args()
    if arguments.write:
        arguments.write.write_text(write_into(arguments.write.read_text(), markdown()))
    else:
        print(markdown())


if __name__ == "__main__":
    main()
