"""The table of results, from the checkpoints' JSON files: python -m models.results.table

    --write README.md     the table replaces what stands between `<!-- table -->` and `<!-- /table -->`
    --verify se           counts one published accuracy again, on the stored file; the exit status says
    --take FOLDER         takes in the figures, without the weights, of networks that were trained elsewhere

Networks of different recipes are never compared: each recipe has a table of its own. Within it every network
is compared with `plain` on the same test images, by McNemar's exact test. Among forty comparisons two would
look significant by chance at 5 %; so Holm's correction is applied over the comparisons of a table.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from ..checkpoint import (
    CHECKPOINTS,
    CheckpointError,
    facts_in_use,
    read_facts,
    write_atomically,
    write_facts,
)
from ..data import DataError
from ..networks import CATALOGUE
from ..statistics import UNKNOWN, holm, in_words, interval, mcnemar, verdict
from . import predictions

MEASURED = "measured"  # folder beside the checkpoints: facts of networks whose weights do not ship
# Images that may fall to the other side when an accuracy is measured again. None does on the machine that
# measured; elsewhere the sums of a convolution are taken in another order, and a picture between two classes
# may move.
MOST_MOVED = 5


def trained(folder: Path = CHECKPOINTS) -> list[dict]:
    """The facts of every entry that has a measured checkpoint, in the catalogue's order."""
    facts = []
    for name in CATALOGUE:
        try:
            found = facts_in_use(name, folder)
        except CheckpointError:
            continue
        if found.get("accuracy") is not None:
            facts.append(found | {"name": name})  # whatever the file calls itself
    return facts


def results(folder: Path = CHECKPOINTS) -> list[dict]:
    """One block per recipe, the largest first; two recipes of one name with other settings are two.

    Returns:
        dicts with `title`, `caption` and `rows`. A row has `key` (the id; `<id>-seed<seed>` where the weights
        do not ship), `name`, `title`, `ships`, `seed`, `accuracy` and `mirror` (see `statistics.interval`),
        `verdict` (see `statistics.verdict`; `better` counts the images right that plain gets wrong) and
        `beside`, the verdict in words (both None for the plain network that the others are compared with),
        `parameters`, `flops`, `latency_ms`, `latency_gpu_ms` and `train_seconds`. All of it can be sent as
        JSON.
    """
    rows: dict[str, list[tuple[dict, dict]]] = {}  # settings -> rows and their facts
    for key, facts in _measured(folder):
        group = json.dumps([facts.get(key) for key in ("dataset", "recipe", "settings")])
        rows.setdefault(group, []).append((_row(key, facts), facts))
    blocks, titles = [], set()
    for pairs in sorted(rows.values(), key=len, reverse=True):
        first = pairs[0][1]
        recipe, dataset, epochs = first["recipe"], first.get("dataset", "cifar10"), first["epochs"]
        title = f"Recipe {recipe}: {epochs} epochs on {dataset.upper().replace('R1', 'R-1')}"
        while title in titles:
            title += ", other settings"
        titles.add(title)
        count, listed = _compare(pairs, folder), [row for row, _ in pairs]
        devices = {one for _, facts in pairs for one in (facts.get("device") or "").split("; ")} - {""}
        blocks.append({"title": title, "caption": caption(listed, count, sorted(devices)), "rows": listed})
    return blocks


def beside_plain(name: str, folder: Path) -> dict | None:
    """The verdict on a network that ships, as in its row of `results`; None for the plain network itself."""
    rows = [row for block in results(folder) for row in block["rows"] if row["key"] == name]
    return rows[0]["verdict"] if rows else UNKNOWN


def _measured(folder: Path) -> list[tuple[str, dict]]:
    """Keys and facts: the checkpoints, then the networks whose weights do not ship; `plain` before all."""
    found = [(facts["name"], facts) for facts in trained(folder)]
    for file in sorted((folder / MEASURED).glob("*.json")):
        try:
            found.append((file.stem, read_facts(file.stem, file.parent)))
        except CheckpointError:
            continue
    needed, order = ("accuracy", "test_images", "recipe", "epochs"), list(CATALOGUE)
    complete = [
        (key, facts)
        for key, facts in found
        if facts.get("name") in order and all(facts.get(fact) is not None for fact in needed)
    ]
    return sorted(complete, key=lambda pair: order.index(pair[1]["name"]))  # stable: what ships comes first


def _row(key: str, facts: dict) -> dict:
    entry, count = CATALOGUE[facts["name"]], facts["test_images"]
    return {
        "key": key,
        "name": facts["name"],
        "title": entry.title,
        "ships": key == facts["name"],
        "seed": facts.get("seed"),
        "accuracy": interval(facts["accuracy"], count),
        "mirror": interval(facts.get("accuracy_mirror"), count),
        "verdict": None,
        "beside": None,
        **{key: facts.get(key) for key in ("parameters", "flops", "latency_ms", "latency_gpu_ms")},
        "train_seconds": facts.get("train_seconds"),
    }


def _compare(pairs: list[tuple[dict, dict]], folder: Path) -> int:
    """Fills in verdict and words of each row; the first plain network is the yardstick."""
    (plain, facts), *others = pairs  # plain is the catalogue's first
    yardstick = predictions.read(plain["key"], facts, folder) if plain["name"] == "plain" else None
    if plain["name"] != "plain":
        others = pairs
    counted = []  # row, better, worse
    for row, facts in others:
        row["verdict"] = UNKNOWN
        answered = predictions.read(row["key"], facts, folder)
        if yardstick is None or answered is None or len(answered[0]) != len(yardstick[0]):
            continue
        right, plain_right = (predicted == labels for predicted, labels in (answered, yardstick))
        counted.append((row, int((right & ~plain_right).sum()), int((plain_right & ~right).sum())))
    corrected = holm([mcnemar(better, worse) for _, better, worse in counted])
    for (row, better, worse), p in zip(counted, corrected):
        row["verdict"] = verdict(better, worse, p)
    for row, _ in others:
        row["beside"] = in_words(row["verdict"])
    return len(counted)


HEADER = (
    "| network | accuracy, 95 % interval | with mirror | beside plain | parameters | MFLOPs | ms, CPU | "
    "training, s | seed |",
    "|---|---|---|---|---:|---:|---:|---:|---:|",
)


def markdown(folder: Path = CHECKPOINTS) -> str:
    """The tables, one per recipe, with one row per measured network; the header alone where there is none."""
    blocks = results(folder)
    if not blocks:
        return "\n".join(HEADER)
    parts = []
    for block in blocks:
        on_gpu = any(row["latency_gpu_ms"] is not None for row in block["rows"])
        header = [line.replace("ms, CPU |", "ms, CPU | ms, GPU |") for line in HEADER] if on_gpu else HEADER
        if on_gpu:
            header[1] += "---:|"
        lines = [f"**{block['title']}**", "", *header]
        lines += [_line(row, on_gpu) for row in block["rows"]]
        lines += ["", block["caption"]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def caption(rows: list[dict], count: int, devices: list[str]) -> str:
    """How the table of a recipe is to be read: `count` comparisons were corrected together."""
    said = (
        "Intervals are Wilson's: what chance in the choice of test images can do, not what another seed can."
    )
    if count:
        said += (
            " Beside plain: McNemar's exact test on the same test images, at 5 %"
            + (f" after Holm's correction for the {count} comparisons of this table" if count > 1 else "")
            + "; + counts the images right that plain gets wrong, - the other way round."
        )
    said += (
        " The test compares these networks, not the mechanisms: another seed may change it."
        " With mirror: the logits of the picture and of its mirror image, added."
        " FLOPs count two for a multiplication and its addition."
        " Milliseconds are for one picture, on one thread of a CPU;"
        " differences of a few percent are the machine's."
        " Training times are from machines that also did other work: they cannot be compared."
    )
    if not all(row["ships"] for row in rows):
        said += " \\* Its weights do not ship."
    return said + (f" Trained on {'; '.join(devices)}." if devices else "")


def _line(row: dict, on_gpu: bool) -> str:
    def percent(found: dict | None) -> str:
        return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else "-"

    def number(value: float | None, form: str = ",.0f") -> str:
        return "-" if value is None else format(value, form)

    beside = row["beside"] or "-"
    if row["verdict"] and row["verdict"]["better"] is not None:
        beside += f" (+{row['verdict']['better']} -{row['verdict']['worse']})"
    cells = [
        row["title"] + ("" if row["ships"] else " \\*"),
        percent(row["accuracy"]),
        percent(row["mirror"]),
        beside,
        number(row["parameters"]),
        number(row["flops"] and row["flops"] / 1e6),
        number(row["latency_ms"], ".1f"),
        *([number(row["latency_gpu_ms"], ".1f")] if on_gpu else []),
        number(row["train_seconds"]),
        number(row["seed"]),
    ]
    return "| " + " | ".join(cells) + " |"


def verify(name: str, folder: Path) -> str:
    """Counts the right answers of a stored file again and compares them with the published accuracy.

    Returns:
        what was found, in one sentence.

    Raises:
        CheckpointError: the file is missing or damaged, or its accuracy is not the published one.
        DataError: the test images are not at hand.
    """
    from .evaluate import answers  # here: the table itself needs no network

    if read_facts(name, folder).get("accuracy") is None:
        raise CheckpointError(f"The accuracy of {name} was never measured.")
    logits, labels, facts = answers(name, folder)
    before, predicted = predictions.read(name, facts, folder), logits.argmax(1)
    right, published = int((predicted == labels).sum()), round(facts["accuracy"] * len(labels) / 100)
    found = f"{name}: {right:,} of {len(labels):,} right, published {published:,}"
    if before is not None and len(before[0]) == len(predicted):
        found += f"; {int((predicted.numpy() != before[0]).sum())} images have another answer than stored"
    if abs(right - published) > MOST_MOVED:
        raise CheckpointError(f"{found}: NOT the published figure.")
    return f"{found}: the published figure."


def take(source: Path, folder: Path) -> list[str]:
    """Takes in facts and predictions of the measured networks of another folder, without their weights.

    What is in the table already, by the same weights, is not taken in a second time.

    Returns:
        the keys under which they are now in the table, `<id>-seed<seed>`.

    Raises:
        CheckpointError: one of them is there already, by another recipe.
    """
    taken, there_by_now = [], {facts["sha256"] for facts in trained(folder)}
    for facts in trained(source):
        if facts["sha256"] in there_by_now:
            continue
        key = f"{facts['name']}-seed{facts['seed']}"
        if (folder / MEASURED / f"{key}.json").exists():
            there = read_facts(key, folder / MEASURED)
            if any(there.get(fact) != facts.get(fact) for fact in ("dataset", "recipe", "settings")):
                raise CheckpointError(f"{key} is there already, by the recipe {there.get('recipe')}.")
        (folder / MEASURED).mkdir(parents=True, exist_ok=True)
        write_facts(key, facts, folder / MEASURED)
        if (answered := predictions.read(facts["name"], facts, source)) is not None:
            predictions.store(key, *answered, facts, folder)
        taken.append(key)
    return taken


def write_into(text: str, table: str, mark: str = "table") -> str:
    """`text` with the table between its two marks, such as `<!-- table -->` and `<!-- /table -->`.

    Raises:
        ValueError: the marks are not there.
    """
    found = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if not found.search(text):
        raise ValueError(f"the marks <!-- {mark} --> and <!-- /{mark} --> are missing")
    return found.sub(lambda match: match[1] + table + "\n" + match[2], text)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.results.table", description="Print the table of results."
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with the two marks")
    action.add_argument("--verify", metavar="NAME", help="measure this network's accuracy again")
    action.add_argument("--take", type=Path, metavar="FOLDER", help="checkpoints whose figures to take in")
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS, help="of the checkpoints")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")  # names have letters that not every code page has
    try:
        if not arguments.folder.is_dir():
            raise CheckpointError(f"There is no folder {arguments.folder}.")
        if arguments.write:
            if not trained(arguments.folder):
                raise CheckpointError(f"No network in {arguments.folder} is trained.")
            text = write_into(arguments.write.read_text("utf-8"), markdown(arguments.folder))
            write_atomically(arguments.write, text.encode())
        elif arguments.verify:
            print(verify(arguments.verify, arguments.folder))
        elif arguments.take:
            print("taken:", ", ".join(take(arguments.take, arguments.folder)) or "nothing")
        else:
            print(markdown(arguments.folder))
    except (CheckpointError, DataError, KeyError, ValueError) as error:
        sys.exit(str(error.args[0]))
    except OSError as error:
        sys.exit(f"{error.filename or 'The disk'} cannot be used ({error.strerror}).")
    except KeyboardInterrupt:
        sys.exit("Interrupted.")


if __name__ == "__main__":
    main()
