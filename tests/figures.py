"""What was measured of the app, each figure with its bar, the day and the machine: figures.json."""

import json
import os
import platform
import re
from contextlib import suppress
from datetime import date
from pathlib import Path

import torch

FIGURES = Path(__file__).parent / "figures.json"


def store(name: str, entry: dict, file: Path = FIGURES) -> None:
    """Puts one entry among those that are there: values with their units, `what`, `bar`, `holds`."""
    figures = json.loads(file.read_text()) if file.exists() else {}
    machine = {"date": date.today().isoformat(), "cpu": cpu(), "torch": torch.__version__}
    figures[name] = entry | machine
    file.write_text(json.dumps(figures, indent=1) + "\n")


def cpu() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return f"{found[1]}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


def markdown(file: Path = FIGURES) -> str:
    """A table of what was measured against a bar."""
    lines = ["| what | measured | bar | holds |", "|---|---|---|---|"]
    about = ("what", "bar", "holds", "date", "cpu", "torch")
    for entry in json.loads(file.read_text()).values():
        if "bar" not in entry:
            continue
        values = ", ".join(
            f"{key.replace('_', ' ')} {value:,}" if isinstance(value, int | float) else f"{key} {value}"
            for key, value in entry.items()
            if key not in about
        )
        holds = "yes" if entry["holds"] else "**no**"
        lines.append(f"| {entry.get('what', '')} | {values} | {entry['bar']} | {holds} |")
    return "\n".join(lines)
