"""Does a network use its attention? python -m models.results.evidence se cbam

    --averages         the averages and the best constants alone, which the page's "what if" asks with
    --images N         the first N test images at most, and N training images: for tests
    --table            print what was measured, as a table
    --write README.md  the same between `<!-- evidence -->` and `<!-- /evidence -->`

Without names, of all that are trained. Attention is replaced (see `models.replacements`), in all blocks at
once on the test images and in each block alone on the first 2,000 of them, and the network is compared with
itself as trained, by McNemar's exact test on the same images, with Holm's correction over all its rows.
Everything is measured on the stored file and goes into its JSON, under `evidence`, as soon as it is measured:
an interrupted run goes on where it stopped. The averages go to a file of their own, see `averages`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ..checkpoint import (
    CHECKPOINTS,
    COUNT,
    IMAGES,
    NUMBER,
    TEXT,
    CheckpointError,
    add_facts,
    is_plausible,
    locked,
    restore_with_facts,
    write_atomically,
)
from ..data import DataError, hold_out, load
from ..networks import CATALOGUE, find
from ..preprocessing import normalise
from ..recording import recording
from ..replacements import EVERYWHERE, REPLACEMENTS, Attention, applies, attention_of, derangement, replace
from ..statistics import holm, mcnemar, paired_interval, use_in_words, verdict
from . import averages, maps
from .averages import Advance, Averages, batches
from .prefix import outputs, starting_from
from .table import trained, write_into

ALONE = ("average", "another picture's", "level", "shuffled", "query ignored")  # measured in each block
TAKES_AWAY = (*ALONE, "best constant")
AT_ONCE = dict.fromkeys(TAKES_AWAY, (1.0,))  # in all blocks at once: replacement -> strengths
AT_ONCE |= {"strength": (0.5, 2.0), "factor 1": (1.0,)}
UNFAIR = ("level", "shuffled")  # they also take away the size that each channel's gate usually has
TRAINING_IMAGES, BLOCK_IMAGES = 5_000, 2_000
MAP_IMAGES, TWIN_IMAGES = 500, 100
ROW = ("replacement", "strength", "scope", "images")  # what a row is about
COUNTS = ("right", "right_only_intact", "right_only_replaced", "changed")
KINDS = {  # what stands in a complete row (see `checkpoint.KINDS`)
    **dict.fromkeys(("replacement", "scope", "verdict", "words"), TEXT),
    **{"strength": NUMBER, "images": IMAGES, "p": (float, 0, 1)},
    **dict.fromkeys(COUNTS, COUNT),
}
TABLES = ("tensors", "faithfulness", "twin", "agreement")  # path -> what was found
MEASURED_ON = ("test_images", "training_images", "map_images", "twin_images")


def measure(
    name: str,
    folder: Path,
    most: int | None = None,
    only_averages: bool = False,
    quiet: bool = False,
) -> dict:
    """Measures what is not measured yet, and stores it as it comes; one process at a time (see `alone`).

    Args:
        most: images at most, of each kind.
        only_averages: no test image is asked about; the rest is for another call.
        quiet: without a progress bar.

    Returns:
        what stands in the JSON under `evidence`: `sha256` of the weights; how many images of each kind
        (`test_images`, `block_images`, `training_images`, `map_images`, `twin_images`); `tensors`, path ->
        `averages.Tally.facts`; `averaged_over` (see `averages.shorten`); `replacements`, a list of rows (see
        `count`), each with `p` (corrected), `verdict` (see `statistics.verdict`; the network as trained is
        the first one) and `words`; `twin` and `agreement` (see `maps.compare_maps`); `faithfulness`, map ->
        `maps.faithfulness`. {} for a network without attention.

    Raises:
        CheckpointError: no such pair of files, a broken one, or another one than at the start; or more images
            than `most` have counted already.
        DataError: the images are not at hand.
    """
    model, facts = restore_with_facts(name, folder)
    attention = attention_of(model)
    if not attention:
        tqdm.write(f"{name} has no attention that could be replaced.")
        return {}
    dataset = facts.get("dataset", "cifar10")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    images, labels = (part[:most].to(device) for part in load(dataset, train=False))
    pictures, classes = (part.to(device) for part in training_pictures(dataset, most))
    evidence = begin(facts, len(labels), len(classes), most)
    starts = {int(part[0]) for part in batches(len(labels))}
    begun = {str(what(row)): row for row in evidence["replacements"] if row.get("counted", 0) in starts}
    found = averages.read(name, facts["sha256"], folder)
    before = evidence.get("tensors")
    if found and (
        found.images != evidence["training_images"]
        or found.average.keys() != attention.keys()
        or before is None
    ):
        found = None
    rows = evidence["replacements"] = [begun.get(str(row), afresh(row)) for row in plan(attention, evidence)]
    unfitted = found is None or not found.best

    parts = [] if only_averages else batches(len(labels))
    work = sum(row["images"] - row["counted"] for row in rows if "counted" in row and parts)
    work += (found is None) * len(classes) + unfitted * 4 * len(classes)
    with tqdm(total=work, desc=name, unit="image", unit_scale=True, disable=quiet) as bar:
        if found is None:
            found, evidence["tensors"] = averages.measure(model, attention, pictures, classes, bar.update)
            if evidence["tensors"] != before:  # what was counted with other averages or gates does not count
                rows[:] = map(afresh, rows)
                for other in ("twin", "agreement"):
                    evidence.pop(other, None)
                evidence["faithfulness"] = {}
            evidence["averaged_over"] = found.averaged_over
            averages.write(name, found, facts["sha256"], folder)
            store(name, evidence, folder)
        if unfitted:
            found.best = averages.fit_constants(
                model, attention, found.average, pictures, classes, bar.update
            )
            averages.write(name, found, facts["sha256"], folder)
        for part in parts:
            if due := [row for row in rows if row.get("counted") == int(part[0])]:
                count(model, attention, found, due, part, images, labels, bar.update)
                store(name, evidence, folder)
    if only_averages:
        return evidence
    judge(rows)
    store(name, evidence, folder)
    measure_maps(name, folder, model, attention, evidence, images, facts.get("seed", 0), quiet)
    return evidence


def measure_maps(
    name: str,
    folder: Path,
    model: nn.Module,
    attention: Mapping[str, Attention],
    evidence: dict,
    images: torch.Tensor,
    seed: int,
    quiet: bool,
) -> None:
    """Adds `twin`, `agreement` and `faithfulness` (see `maps`) to what is not measured yet, and stores it."""
    images = images[: evidence["map_images"]]
    missing = [shown for shown in maps.maps_of(attention) if shown not in evidence["faithfulness"]]
    untold = "twin" not in evidence
    work = len(missing) * maps.cost() * len(images) + untold * 4 * evidence["twin_images"]
    with tqdm(total=work, desc=f"{name}, maps", unit="image", unit_scale=True, disable=quiet) as bar:
        if untold:
            first = images[: evidence["twin_images"]]
            evidence |= maps.compare_maps(name, model, attention, first, seed, bar.update)
            store(name, evidence, folder)
        for shown in missing:
            evidence["faithfulness"][shown] = maps.faithfulness(model, attention, shown, images, bar.update)
            store(name, evidence, folder)


def training_pictures(dataset: str, most: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels to average over, as many of each class, mixed; the same every time."""
    images, labels = load(dataset)
    classes = int(labels.max()) + 1
    chosen = hold_out(labels, max(classes, min(most or TRAINING_IMAGES, TRAINING_IMAGES)))[1]
    chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))]
    return images[chosen], labels[chosen]


def begin(facts: dict, test_images: int, training_images: int, most: int | None) -> dict:
    """What was measured of these very weights on as many images; else a fresh start.

    Raises:
        CheckpointError: more was measured than `most` images.
    """
    settings = {
        "sha256": facts["sha256"],
        "test_images": test_images,
        "block_images": min(test_images, BLOCK_IMAGES),
        "training_images": training_images,
        "map_images": min(test_images, MAP_IMAGES),
        "twin_images": min(test_images, TWIN_IMAGES),
    }
    before = facts.get("evidence") or {}
    if most and before.get("sha256") == facts["sha256"] and before.get("test_images", 0) > test_images:
        raise CheckpointError(
            f"{facts['name']} was measured on {before['test_images']:,} images already: say another --folder."
        )
    if any(before.get(key) != value for key, value in settings.items()):
        before = {}
    return settings | {"replacements": [], "faithfulness": {}} | before


def plan(attention: Mapping[str, Attention], evidence: dict) -> list[dict]:
    """The rows to measure (see `ROW`)."""
    blocks: dict[str, list[Attention]] = {}
    for each in attention.values():
        blocks.setdefault(each.block, []).append(each)
    if len(blocks) == 1:  # alone is at once
        blocks = {}
    rows = [
        (replacement, strength, EVERYWHERE, evidence["test_images"])
        for replacement, strengths in AT_ONCE.items()
        for strength in strengths
        if any(applies(replacement, each) for each in attention.values())
    ]
    rows += [
        (replacement, 1.0, block, evidence["block_images"])
        for block, there in blocks.items()
        for replacement in ALONE
        if any(applies(replacement, each) for each in there)
    ]
    return [dict(zip(ROW, row)) for row in rows]


def what(row: dict) -> dict:
    """What a row is about, without what was found."""
    return {key: row[key] for key in ROW}


def afresh(row: dict) -> dict:
    """The row before anything was counted."""
    return what(row) | dict.fromkeys(("counted", *COUNTS), 0)


def store(name: str, evidence: dict, folder: Path) -> None:
    """Into the JSON, beside whatever stands there by now."""
    add_facts(name, {"evidence": evidence}, evidence["sha256"], folder)


def count(
    model: nn.Module,
    attention: Mapping[str, Attention],
    found: Averages,
    rows: list[dict],
    part: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    advance: Advance = lambda count: None,
) -> None:
    """Asks a network about some images, as trained and with the replacement of each row, and counts.

    Args:
        rows: `replacement`, `strength`, `scope`, `images`, how many of the first images count, and `counted`,
            how many have counted; it goes when all have. Counts of images: `right` with the replacement,
            `right_only_intact`, `right_only_replaced`, and `changed`, those with another answer.
        part: indices of images, one after the other.
        images, labels: (N, 3, 32, 32) uint8, true classes (N,).
    """
    pictures, labels = normalise(images[part]), labels[part]
    with torch.inference_mode(), recording(model) as records, outputs(model) as computed:
        intact = model(pictures).argmax(1)
    order = derangement(len(part))
    others = {path: records[path].tensor[order] for path in attention}
    for row in rows:
        replacement, scope, strength = row["replacement"], row["scope"], row["strength"]
        edits = replace(replacement, scope, attention, found.average, others, found.best, strength=strength)
        with torch.inference_mode(), recording(model, edits), starting_from(model, computed, edits):
            answered = model(pictures).argmax(1)
        right, before = answered == labels, intact == labels
        added = (right, before & ~right, right & ~before, answered != intact)
        these = min(len(part), row["images"] - row["counted"])
        for key, which in zip(COUNTS, added):
            row[key] += int(which[:these].sum())
        row["counted"] += these
        if row["counted"] == row["images"]:
            del row["counted"]
        advance(these)


def judge(rows: list[dict]) -> None:
    """Adds `p`, `verdict` and `words` to all rows of a network, with Holm's correction for their number."""
    corrected = holm([mcnemar(row["right_only_intact"], row["right_only_replaced"]) for row in rows])
    for row, p in zip(rows, corrected):
        judged = verdict(row["right_only_intact"], row["right_only_replaced"], p)
        row["p"], row["verdict"] = averages.rounded(p), judged["kind"]
        which = row["replacement"]
        tells = which in TAKES_AWAY and (which not in UNFAIR or judged["kind"] == "same")
        row["words"] = use_in_words(judged, row["images"], tells)


def evidence_of(facts: dict) -> dict | None:
    """What was measured of these weights; None where that is not complete, damaged, or belongs to others."""
    found = facts.get("evidence")
    if not isinstance(found, dict) or found.get("sha256") != facts["sha256"]:
        return None
    rows = found.get("replacements")
    sound = (
        isinstance(rows, list)
        and all(is_complete(row) for row in rows)
        and any([row[key] for key in ROW[:3]] == ["average", 1, EVERYWHERE] for row in rows)
        and all(is_plausible(found.get(kind), *IMAGES) for kind in MEASURED_ON)
        and all(is_complete_table(found.get(table, {})) for table in TABLES)
    )
    return found if sound else None


def is_complete_table(found: object) -> bool:
    """Whether a table has a dictionary for each path, and for each tensor a list of badges."""
    entries = found.values() if isinstance(found, dict) else [None]
    return all(isinstance(one, dict) and isinstance(one.get("badges", []), list) for one in entries)


def is_complete(row: object) -> bool:
    """Whether a row is measured, and its counts can be right."""
    return (
        isinstance(row, dict)
        and all(is_plausible(row.get(key), *kind) for key, kind in KINDS.items())
        and max(row["right"], row["right_only_intact"] + row["right_only_replaced"]) <= row["images"]
    )


def shown(row: dict) -> dict:
    """A row as pages show it: `right` in percent, and `lost`, the points of accuracy that the replacement
    costs with their 95 % interval (see `statistics.paired_interval`); negative where it helps."""
    more, fewer, images = row["right_only_intact"], row["right_only_replaced"], row["images"]
    kept = (*ROW, "p", "verdict", "words")
    return {key: row[key] for key in kept} | {
        "right": round(100 * row["right"] / images, 2),
        "lost": paired_interval(more, fewer, images),
    }


def at_once(facts: dict) -> dict | None:
    """What the replacements in all blocks at once do to a network, None where that was not measured.

    Returns:
        `key`, `title`, `images`, `replacements`, how many were tried, `right` (percent, as trained), `rows`,
        replacement -> see `shown` (of full strength), and `line`, the whole in a few words.
    """
    if (evidence := evidence_of(facts)) is None:
        return None
    rows = {
        row["replacement"]: row
        for row in evidence["replacements"]
        if row["scope"] == EVERYWHERE and row["strength"] == 1
    }
    first = rows["average"]
    right = first["right"] + first["right_only_intact"] - first["right_only_replaced"]
    found = {
        "key": facts["name"],
        "title": CATALOGUE[facts["name"]].title,
        "images": first["images"],
        "replacements": len(evidence["replacements"]),
        "right": round(100 * right / first["images"], 2),
        "rows": {replacement: shown(row) for replacement, row in rows.items()},
    }
    taken = [row for row in evidence["replacements"] if row["replacement"] in TAKES_AWAY]
    average = found["rows"]["average"]
    if average["verdict"] != "same":
        line = f"its average: {found['right']:.1f} → {average['right']:.1f}"
    elif all(row["verdict"] == "same" for row in taken):  # in single blocks, too
        line = "no measurable use"
    else:
        line = "its average: no clear loss"
    return found | {"line": line}


def networks_at_once(folder: Path) -> list[dict]:
    """`at_once` of every network that has evidence, in the catalogue's order."""
    return [found for facts in trained(folder) if (found := at_once(facts))]


def used(folder: Path = CHECKPOINTS) -> dict:
    """For the page: `networks` (see `at_once`), `questions`, replacement -> what it asks, `alone`, the
    replacements that are measured block by block, and `caption`."""
    networks = networks_at_once(folder)
    questions = {name: REPLACEMENTS[name] for name in (*TAKES_AWAY, "factor 1")}
    return {"networks": networks, "questions": questions, "alone": ALONE, "caption": caption(networks)}


def markdown(folder: Path = CHECKPOINTS) -> str:
    """A row per network that has evidence: points lost with each replacement in all blocks; "" for none.

    Of whom the measurements have begun and are not complete, the last sentence says so.
    """
    if not (networks := networks_at_once(folder)):
        return ""
    lines = [f"| network | as trained | {' | '.join(TAKES_AWAY)} |", "|---|---:|" + "---:|" * len(TAKES_AWAY)]
    for network in networks:
        cells = [network["title"], f"{network['right']:.2f}"]
        for replacement in TAKES_AWAY:
            row = network["rows"].get(replacement)
            cell = "-" if row is None else f"{0 - row['lost']['value']:+.2f}"
            cells.append(f"**{cell}**" if row and row["verdict"] != "same" else cell)
        lines.append("| " + " | ".join(cells) + " |")
    begun = [facts for facts in trained(folder) if "evidence" in facts and evidence_of(facts) is None]
    titles = ", ".join(CATALOGUE[facts["name"]].title for facts in begun)
    missing = f" Not measured yet: {titles}." if begun else ""
    return "\n".join([*lines, "", caption(networks) + missing])


def caption(networks: list[dict]) -> str:
    """How the table is to be read; "" where it has no row."""
    if not networks:
        return ""
    tried = sorted({network["replacements"] for network in networks})
    counts = " or ".join(f"{count:,}" for count in sorted({network["images"] for network in networks}))
    return (
        "Percent right with the attention as trained, and points more or less with a replacement in all "
        f"blocks at once, on {counts} test images. Bold: a difference by McNemar's exact test on the same "
        "images, at 5 % after Holm's correction for all replacements of a network, in all blocks and in one, "
        + (f"{tried[0]} to {tried[-1]} of them." if len(tried) > 1 else f"{tried[0]} of them.")
        + " What is shuffled gets one order, the same for every picture."
    )


@contextmanager
def alone(name: str, folder: Path) -> Iterator[None]:
    """Within it no other process measures this network, and it computes as when its accuracy was measured.

    Raises:
        CheckpointError: another process does, or there is no such folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder {folder}.")
    refusal = f"Another process measures {name}."
    with (
        locked(folder / f"{name}.evidence", refusal, 0),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        yield


def measure_all(names: Iterable[str], folder: Path, most: int | None, only_averages: bool = False) -> None:
    """Measures one after the other; a network that cannot be measured does not keep the next ones waiting.

    Raises:
        KeyError: a name is not known, said before hours are spent on the others.
        CheckpointError: some could not be measured, in one sentence each.
    """
    names, failed = [find(name).name for name in names], []
    for name in names:
        try:
            with alone(name, folder):
                measure(name, folder, most, only_averages)
        except (CheckpointError, ValueError) as error:
            failed.append(str(error))
    if failed:
        raise CheckpointError(" ".join(failed))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.results.evidence", description="Measure whether networks use their attention."
    )
    parser.add_argument("names", nargs="*", help="ids of trained entries (default: all)")
    parser.add_argument("--averages", action="store_true", help="averages and best constants alone")
    parser.add_argument("--images", type=int, metavar="N", help="at most so many, for tests")
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS, help="of the checkpoints")
    parser.add_argument("--table", action="store_true", help="print what was measured")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with the two marks")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")  # names have letters that not every code page has
    if arguments.images is not None and arguments.images < 2:
        parser.error("--images: at least 2, for each is given another one's attention")
    folder = arguments.folder
    torch.set_num_threads(1)  # several networks at once need one each
    try:
        if not folder.is_dir():
            raise CheckpointError(f"There is no folder {folder}.")
        if arguments.table:
            if table := markdown(folder):
                print(table)
        elif arguments.write:
            if not (table := markdown(folder)):
                raise CheckpointError(f"Nothing is measured in {folder}.")
            text = write_into(arguments.write.read_text("utf-8"), table, "evidence")
            write_atomically(arguments.write, text.encode())
        else:
            names = arguments.names or [facts["name"] for facts in trained(folder)]
            measure_all(names, folder, arguments.images, arguments.averages)
    except (CheckpointError, DataError, KeyError, ValueError) as error:
        sys.exit(str(error.args[0]))
    except OSError as error:
        sys.exit(f"{error.filename or 'The disk'} cannot be used ({error.strerror}).")
    except KeyboardInterrupt:
        sys.exit("Interrupted: the same command goes on from here.")


if __name__ == "__main__":
    main()
