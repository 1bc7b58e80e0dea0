"""Networks that the visitor's own device can compute, beside a server.

They are offered where the static edition lies with the app: in the folder `site`, where `python -m
visualize.site site` puts it, or in the one that ATTNSCOPE_SITE names. It must belong to the page, the
weights and the averages of the server, or the two would answer differently.
"""

import filecmp
import json
import logging
import os
from pathlib import Path

from models.checkpoint import CHECKPOINTS, CheckpointError, read_facts
from models.results.averages import checksum

from .answers import PAGE

log = logging.getLogger("attnscope")
PARTS = "site"  # its folder of all that has a hash in its name; on the server it is found there, too
BROKEN = "The static edition in %s cannot be read: build it again to offer it here."
OTHER = "The static edition in %s was made from another version of the page: build it again to offer it here."


def edition() -> Path:
    """The folder of the static edition, whether it is there or not."""
    return Path(os.environ.get("ATTNSCOPE_SITE") or PAGE.parent.parent / "site")


def device() -> dict | None:
    """What the page must know to compute by itself, None where it cannot be offered.

    Returns:
        what `visualize.site` left in device.json, with `names`, the networks whose weights and averages are
        the server's, and the `megabytes` that are loaded at most, once for the engine and for each network.
    """
    folder = edition()
    if not (folder / "device.json").exists():
        return None
    try:
        return offered(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever somebody wrote into it
        log.warning(BROKEN, folder)
        return None


def offered(folder: Path) -> dict | None:
    found = json.loads((folder / "device.json").read_text("utf-8"))
    made = json.loads((folder / found["networks"]).read_text("utf-8"))
    ours, theirs = PAGE / "browser", folder / "page" / "browser"
    scripts = [script.name for script in ours.glob("*.js")]
    same, _, _ = filecmp.cmpfiles(ours, theirs, scripts, shallow=False)
    if len(same) < len(scripts):
        log.warning(OTHER, folder)
        return None
    networks = {
        name: facts
        for name, facts in made["networks"].items()
        if facts["sha256"] == weights_of(name) and facts["measured"] == checksum(name, CHECKPOINTS)
    }
    if not networks:
        return None
    parts = ("graph", "weights", "averages")
    each = max(sum(facts[part]["bytes"] for part in parts if facts[part]) for facts in networks.values())
    engine = max(sum(part["bytes"] for part in made[kind].values()) for kind in ("engine", "webgpu"))
    return found | {"names": list(networks), "megabytes": [round(size / 1e6, 1) for size in (engine, each)]}


def weights_of(name: str) -> str | None:
    """The checksum of the weights that the server has; None where they are missing or broken."""
    try:
        return read_facts(name, CHECKPOINTS)["sha256"]
    except CheckpointError:
        return None
