"""The static edition: a folder with the page and all that it needs, for any host that gives out files.

    index.html, page/        the page, as the server gives it out, and what it starts with
    device.json              what a server beside it must know to offer the same (see visualize/device.py)
    site/NAME.HASH.ending    everything that is fetched later; a browser may keep such a file for ever, for
                             another content gets another name:
        engine, webgpu  ONNX Runtime for browsers, from npm, as package-lock.json pins it: for the processor,
                    and for a graphics card or, where that fails, the processor
        graph       a network's graph (see `graph`), packed
        weights     the checkpoint's file, as it ships
        averages    its average attention and the best constants, float32, where they are measured
        networks    what the page must know of all that (see `network`)
        record, rows, card, evidence    the ten examples, texts and measurements

The same tree gives the same bytes.
"""

import gzip
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models import CATALOGUE, CLASSES, CheckpointError, load
from models.checkpoint import CHECKPOINTS, read_facts
from models.metadata import accuracy, mechanisms_table, parameters
from models.replacements import REPLACEMENTS, Attention, applies, attention_of
from models.results.averages import checksum, read

from ..answers import PAGE, page_with, start_value, whole_card
from ..device import PARTS
from ..inspection.engine import Question
from ..inspection.network import NotFiniteError, around, observe
from ..inspection.untrained import example_picture
from ..record.compare import answer, first_rows, record_of
from ..record.encoding import pack_cam, pack_map
from ..record.kinds import stays
from ..texts.evidence import evidence
from .graph import ExportError, export

HERE = Path(__file__).parent
ENGINE = Path("node_modules") / "onnxruntime-web"
MARK = "device.json"  # every edition has it
MADE = {"index.html", MARK, "page", PARTS}  # what may be replaced
ENGINES = {  # name: module and binary
    "engine": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
NOT_TRAINED = "{name} is not trained yet, and without a server the page shows trained networks only."
NOT_CHOSEN = "{name} was left out of this site: only what it makes of the ten examples can be looked at."
NOT_EXPORTED = "{name} cannot be computed in a browser yet: {reason}."
NOT_FINITE = "{name} gives no finite numbers."


class BuildError(Exception):
    """The folder cannot be made; the message is one sentence that says why."""


@dataclass(frozen=True)
class Site:
    """The folder while it is filled."""

    folder: Path

    def put(self, name: str, content: bytes | dict) -> str:
        """Writes a file, with a hash of its content in its name: its address."""
        if isinstance(content, dict):
            content = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        stem, _, ending = name.partition(".")
        address = f"{PARTS}/{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
        file = self.folder / address
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return address

    def sized(self, name: str, content: bytes) -> dict:
        """The same, for a file whose arrival the page reports byte by byte."""
        return {"file": self.put(name, content), "bytes": len(content)}


def build(
    out: Path, names: Iterable[str] | None = None, tell: Callable[[str], object] = print
) -> dict[str, str]:
    """Makes the folder, in the place of an older one.

    Args:
        names: networks that the browser can compute; by default all that are trained. What the others make
            of the examples is stored all the same.
        tell: is told of each step that is done.

    Returns:
        network -> why it has no graph.

    Raises:
        BuildError: npm does not answer, something else lies in the folder's place, a name is not known, or
            none of these networks, or not each that was named, can be computed. What was there stays.
    """
    held = {one.name for one in out.iterdir()} if out.is_dir() else {""} if out.exists() else set()
    if held and not {MARK} <= held <= MADE:
        raise BuildError(f"{out} holds something else: choose a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "made"
        failed = fill(Site(made), names, tell)
        old = Path(scratch) / "old"
        if out.exists():
            out.rename(old)
        try:
            made.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise
    return failed


def fill(site: Site, names: Iterable[str] | None, tell: Callable[[str], object]) -> dict[str, str]:
    table = mechanisms_table()
    usable = [row["key"] for row in table if row["trained"] and row["available"]]
    chosen = usable if names is None else list(names)
    if strange := [name for name in chosen if name not in usable]:
        raise BuildError(f"No trained network is called {' or '.join(strange)}.")
    engines, versions = engines_of(site)
    tell("engine")
    networks, failed, measured_of = {}, {}, {}
    for name in usable:
        try:
            if name in chosen:
                networks[name] = network(site, name)
        except ExportError as error:
            failed[name] = NOT_EXPORTED.format(name=CATALOGUE[name].title, reason=error)
        except NotFiniteError:
            failed[name] = NOT_FINITE.format(name=CATALOGUE[name].title)
        except CheckpointError as error:
            failed[name] = str(error)
        if found := evidence(name):
            measured_of[name] = site.put(f"{name}-evidence.json", found)
        tell(name)
    if not networks or (names is not None and failed.keys() & {*chosen}):
        raise BuildError(" ".join(failed.values()) or "No network is trained.")
    start = start_value()
    records = []
    for example in CLASSES:
        records.append(stored(site, example, usable))
        tell(example)
    for row in start["mechanisms"]:
        row["offered"] = row["key"] in networks
        if not row["offered"]:
            why = (NOT_CHOSEN if row["trained"] else NOT_TRAINED).format(name=row["name"])
            row["reason"] = failed.get(row["key"]) or (row["trained"] and row["reason"]) or why
    alone = {  # what computing takes
        "networks": site.put("networks.json", engines | {"networks": networks}),
        "versions": versions,
    }
    start["site"] = alone | {
        "records": records,
        "cards": {name: site.put(f"{name}-card.json", whole_card(name)) for name in CATALOGUE},
        "evidence": measured_of,
    }
    (site.folder / "device.json").write_text(json.dumps(alone), "utf-8")
    shutil.copytree(PAGE, site.folder / "page", ignore=shutil.ignore_patterns("index.html", "screenshot.png"))
    (site.folder / "index.html").write_bytes(page_with(start))
    tell("page")
    return failed


def steps() -> int:
    """How often `build` tells of a step."""
    return sum(row["trained"] and row["available"] for row in mechanisms_table()) + len(CLASSES) + 2


def packed(content: bytes) -> bytes:
    return gzip.compress(content, 9, mtime=0)


# The engine.


def engines_of(site: Site) -> tuple[dict, dict]:
    """Where the two files of either engine lie, and their version.

    Raises:
        BuildError: npm is missing, or cannot fetch it.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm is missing: it comes with Node.js and fetches the engine, for the build alone.")
    with tempfile.TemporaryDirectory() as scratch:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / file, scratch)
        quiet = ("--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")
        done = subprocess.run([npm, "ci", *quiet], cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(
                f"npm cannot fetch the engine: {(done.stderr.strip() or 'no reason given').splitlines()[0]}"
            )
        package = Path(scratch) / ENGINE
        version = json.loads((package / "package.json").read_text())["version"]
        found = {}
        for name, (module, binary) in ENGINES.items():
            found[name] = {
                "module": site.sized(f"{name}.mjs", (package / "dist" / module).read_bytes()),
                "binary": site.sized(f"{name}.wasm.gz", packed((package / "dist" / binary).read_bytes())),
            }
    return found, {"onnxruntime-web": version, "torch": torch.__version__}


# A network.


def network(site: Site, name: str) -> dict:
    """Its files, and what the page must know of it to make its column of the record.

    Raises:
        ExportError: as for `export`.
        CheckpointError: as for `load`.
        NotFiniteError: it answers with NaN or infinity.
    """
    facts, model = read_facts(name), load(name)
    maps = shown(model)  # first: where this fails, nothing is put into the folder
    weights = (CHECKPOINTS / f"{name}.safetensors").read_bytes()
    attention, averages = attention_of(model), read(name, facts["sha256"])
    return {
        "graph": site.sized(f"{name}.onnx.gz", packed(export(model, weights, f"{name}.safetensors"))),
        "weights": site.sized(f"{name}.safetensors", weights) | {"name": f"{name}.safetensors"},
        "averages": site.sized(f"{name}.averages", flat(attention, averages)) if averages else None,
        "sha256": facts["sha256"],
        "measured": checksum(name),
        "unusual_below": facts.get("unusual_below"),
        "about": {
            "key": name,
            "name": CATALOGUE[name].title,
            "family": CATALOGUE[name].family,
            "random": False,
            "accuracy": accuracy(facts),
            "parameters": parameters(name),
            "note": None,
        },
        "attention": [replaceable(each, averages) for each in attention.values()],
        **maps,
    }


def shown(model: torch.nn.Module) -> dict:
    """The entries of a column's `maps` without their numbers, and what CAMs and strengths are made from."""
    seen, numbers = observe(model, example_picture("cat")), ("data", "lo", "hi", "raw")
    entries = [
        pack_cam(block, np.zeros(output.shape[1:]), (0, 0)) | {"stays": False}
        for block, output in seen.activations.items()
    ]
    entries += [pack_map(path, one) | {"stays": stays(one)} for path, one in seen.maps.items()]
    return {
        "maps": [{key: value for key, value in entry.items() if key not in numbers} for entry in entries],
        "blocks": [{"block": b, "channels": len(output)} for b, output in seen.activations.items()],
        "changing": [(module, *around(module)) for module in seen.strength],
    }


def flat(attention: dict[str, Attention], averages) -> bytes:
    """m of every gate and share, then the best constants, if there are any: float32, as networks get them."""
    parts = []
    for group in (averages.average, averages.best):
        if all(path in group for path in attention):
            whole = [each.fit(group[path].float().expand(each.shape)) for path, each in attention.items()]
            parts += [values.contiguous().numpy().astype("<f4").tobytes() for values in whole]
    return b"".join(parts)


def replaceable(each: Attention, averages) -> dict:
    level = None
    if each.role == "share":
        level = 1 / each.choices
    elif averages and each.path in averages.average:
        level = float(averages.average[each.path].float().mean())
    return {
        "path": each.path,
        "block": each.block,
        "shape": each.shape,
        "level": level,
        "can": [name for name in REPLACEMENTS if name != "as trained" and applies(name, each)],
    }


# What is stored of the examples.


def stored(site: Site, example: str, names: list[str]) -> dict:
    """An example's record as the page first asks for it, and the parts of large maps that it then shows."""
    picture = example_picture(example)
    asked = Question(picture)
    record = record_of(asked, [answer(name, asked, on_gpu=False) for name in names])
    return {
        "starts": record["image"][:64],
        "record": site.put(f"{example}-record.json", record),
        "rows": site.put(f"{example}-rows.json", {"image": record["image"], "rows": first_rows(record)}),
    }
