"""Measure a stored network: python -m models.results.evaluate se

    --latency         the time of one picture alone, on a quiet machine; the networks named take turns
    --predictions     the class of each test image alone
    --threshold       alone, below which evidence the network finds a picture unusual

Everything is measured on the file that ships, after rounding to int8, and written into its JSON; the class of
each test image goes to `predictions.npz`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ..checkpoint import CHECKPOINTS, CheckpointError, add_facts, restore_with_facts
from ..data import DataError, load
from ..preprocessing import normalise
from ..statistics import UNUSUAL
from . import predictions

# The first test images also ship with the tests: what is counted on them can be checked anywhere.
SAMPLE = 200
TYPICAL = 2_000  # the first test images, which show how much evidence a network usually finds
TURNS = 5  # in which networks are timed one after the other: what disturbs the machine passes meanwhile


def logits_of(model: nn.Module, images: torch.Tensor, batch: int = 100) -> torch.Tensor:
    """The logits (N, classes) on the CPU of uint8 images (N, 3, 32, 32), from a model in eval mode."""
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        parts = [model(normalise(part.to(device))).cpu() for part in images.split(batch)]
    return torch.cat(parts)


def percent_correct(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * int((logits.argmax(1) == labels).sum()) / len(labels)


def threshold(logits: torch.Tensor) -> float:
    """The evidence, logsumexp of the logits (N, classes), that all but the least clear test images exceed."""
    evidence = logits[:TYPICAL].logsumexp(1).double().numpy()  # (at most TYPICAL,)
    return round(float(np.percentile(evidence, UNUSUAL)), 4)


def evaluate(name: str, folder: Path) -> dict:
    """Measures a stored network and writes what it found into its JSON.

    `accuracy` and `accuracy_mirror` in percent of the test images, with one look at each picture and with the
    logits of its mirror image added; `correct_of_first_200`; `unusual_below`, see `threshold` (where the test
    images are not at hand these stay as they were, None at first); `parameters`; `flops` of one 32x32 picture
    (two per multiply-add); `latency_ms` of one picture on the CPU (one thread, see `quietest`);
    `logits_check`, the logits of a fixed synthetic picture. The classes of the test images, with one look at
    each, go to `predictions.npz`.

    A network trained on the first N images only (recipe `smoke`) is scored on the first N test images.

    Returns:
        the facts in the JSON file.

    Raises:
        CheckpointError: no such pair of files, or a broken one.
    """
    model, facts = restore_with_facts(name, folder)
    with torch.inference_mode():
        measured = {"logits_check": model(synthetic_picture())[0].tolist()}
    measured["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    measured["flops"] = count_flops(model)
    (measured["latency_ms"],) = quietest([model])
    if torch.cuda.is_available():
        model.cuda()  # twenty thousand pictures take a second there, and a minute on one core
    counted = ("accuracy", "accuracy_mirror", "correct_of_first_200", "test_images", "unusual_below")
    measured |= {key: facts.get(key) for key in counted}
    try:
        images, labels = load(facts.get("dataset", "cifar10"), train=False)
    except DataError:
        return add_facts(name, measured, facts["sha256"], folder)
    limit = facts.get("settings", {}).get("limit")
    images, labels = images[:limit], labels[:limit]
    single, mirrored = logits_of(model, images), logits_of(model, images.flip(3))
    measured["accuracy"] = percent_correct(single, labels)
    measured["accuracy_mirror"] = percent_correct(single + mirrored, labels)
    measured["correct_of_first_200"] = int((single[:SAMPLE].argmax(1) == labels[:SAMPLE]).sum())
    measured["test_images"] = len(labels)
    measured["unusual_below"] = threshold(single)
    again = f"run `python -m models.results.evaluate {name} --folder {folder}`."
    # First the classes, for a run with an accuracy is done.
    predictions.store(name, single.argmax(1), labels, facts, folder, again)
    return add_facts(name, measured, facts["sha256"], folder)


def answers(name: str, folder: Path, most: int | None = None) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """What a stored network answers to the test images, or to the first `most`; nothing is written.

    Returns:
        logits (N, classes), true classes (N,), and the facts of the network.

    Raises:
        CheckpointError: no such pair of files, or a broken one.
        DataError: the test images are not at hand.
    """
    model, facts = restore_with_facts(name, folder)
    images, labels = load(facts.get("dataset", "cifar10"), train=False)
    limit = facts.get("settings", {}).get("limit")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = images[:limit][:most], labels[:limit][:most]
    return logits_of(model, images), labels, facts


def quietest(models: Sequence[nn.Module]) -> list[float]:
    """The `milliseconds` of each of these networks, in the quietest of its turns: so they compare, whatever
    else the machine did in some of them."""
    times = [[milliseconds(model) for model in models] for _ in tqdm(range(TURNS), unit="turn", leave=False)]
    return [min(own) for own in zip(*times)]


def milliseconds(model: nn.Module, rounds: int = 20) -> float:
    """Median time of one picture, with one thread. Means little on a busy machine."""
    device = next(model.parameters()).device
    picture, times, threads = synthetic_picture().to(device), [], torch.get_num_threads()
    torch.set_num_threads(1)  # so that all networks compare, whoever measured them
    try:
        with torch.inference_mode():
            for _ in range(rounds + 1):
                started = time.perf_counter()
                model(picture).cpu()  # waits for a GPU
                times.append(1000 * (time.perf_counter() - started))
    finally:
        torch.set_num_threads(threads)
    return round(median(times[1:]), 2)  # the first one warms up


def count_flops(model: nn.Module) -> int:
    """FLOPs of one 32x32 picture, two per multiply-add: convolutions, linear layers and matrix products."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(synthetic_picture())
    return counter.get_total_flops()


def synthetic_picture() -> torch.Tensor:
    """A fixed picture (1, 3, 32, 32), already normalised: coloured waves, the same on every machine."""
    along = torch.linspace(0, 6, 32)
    waves = [torch.sin((c + 1) * along[:, None]) * torch.cos((3 - c) * along[None, :]) for c in range(3)]
    return torch.stack(waves)[None] * 1.5


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.results.evaluate", description="Measure stored networks."
    )
    parser.add_argument("names", nargs="+", help="ids of trained entries, such as se")
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS)
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--latency", action="store_true", help="measure the latency alone, also on a GPU")
    alone.add_argument("--predictions", action="store_true", help="measure the class of each image alone")
    alone.add_argument("--threshold", action="store_true", help="measure alone when a picture is unusual")
    arguments = parser.parse_args()
    try:
        if arguments.latency:
            latencies(arguments.names, arguments.folder)
        else:
            for name in tqdm(arguments.names, unit="network"):
                tqdm.write(f"{name}: {measure(name, arguments)}")
    except (CheckpointError, DataError, KeyError) as error:
        sys.exit(str(error.args[0]))
    except OSError as error:
        sys.exit(f"{arguments.folder} cannot be written to ({error.strerror}).")
    except KeyboardInterrupt:
        sys.exit("Interrupted: what is measured so far is in the files.")


def latencies(names: Sequence[str], folder: Path) -> None:
    """Times these networks in turns, and writes what it found into their JSON files."""
    restored = [restore_with_facts(name, folder) for name in names]
    models = [model for model, _ in restored]
    found = {"latency_ms": quietest(models)}
    if torch.cuda.is_available():
        found["latency_gpu_ms"] = quietest([model.cuda() for model in models])
    for i, (name, (_, facts)) in enumerate(zip(names, restored)):
        own = {key: times[i] for key, times in found.items()}
        add_facts(name, own, facts["sha256"], folder)
        print(f"{name}: {', on the GPU '.join(map(str, own.values()))} ms a picture")


def measure(name: str, wanted: argparse.Namespace) -> str:
    """What the command does for one network, and what it says of it."""
    folder = wanted.folder
    if wanted.threshold:
        logits, _, facts = answers(name, folder, TYPICAL)
        found = add_facts(name, {"unusual_below": threshold(logits)}, facts["sha256"], folder)
        return f"unusual below {found['unusual_below']}"
    if wanted.predictions:
        logits, labels, facts = answers(name, folder)
        predicted = logits.argmax(1)
        predictions.store(name, predicted, labels, facts, folder)
        return f"{int((predicted == labels).sum()):,} of {len(labels):,} right, each one stored"
    facts = evaluate(name, folder)
    if facts["accuracy"] is None:
        return f"the {facts['dataset']} test images are not here, so no accuracy"
    return f"{facts['accuracy']} % ({facts['accuracy_mirror']} % with mirror averaging)"


if __name__ == "__main__":
    main()
