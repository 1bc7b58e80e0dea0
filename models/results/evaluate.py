"""Measure a stored network: python -m models.results.evaluate se

    --latency         the time of one picture alone, on a quiet machine
    --predictions     the class of each test image alone

Everything is measured on the file that ships, after rounding to int8, and written into its JSON; the class of
each test image goes to `predictions.npz`.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ..checkpoint import CHECKPOINTS, CheckpointError, read_facts, restore, write_facts
from ..data import DataError, load
from ..preprocessing import normalise
from . import predictions

# The first test images also ship with the tests: what is counted on them can be checked anywhere.
SAMPLE = 200


def logits_of(model: nn.Module, images: torch.Tensor, batch: int = 100) -> torch.Tensor:
    """The logits (N, classes) on the CPU of uint8 images (N, 3, 32, 32), from a model in eval mode."""
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        parts = [model(normalise(part.to(device))).cpu() for part in images.split(batch)]
    return torch.cat(parts)


def percent_correct(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * (logits.argmax(1) == labels).double().mean().item()


def evaluate(name: str, folder: Path = CHECKPOINTS) -> dict:
    """Measures a stored network and writes what it found into its JSON.

    `accuracy` and `accuracy_mirror` in percent of the test images, with one look at each picture and with the
    logits of its mirror image added (None where the test images are not at hand); `correct_of_first_200`;
    `parameters`; `flops` of one 32x32 picture (two per multiply-add); `latency_ms` of one picture on the CPU
    (median of 20), and `latency_gpu_ms` where there is a GPU; `logits_check`, the logits of a fixed synthetic
    picture. The classes of the test images, with one look at each, go to `predictions.npz`.

    A network trained on the first N images only (recipe `smoke`) is scored on the first N test images.

    Returns:
        the facts in the JSON file.

    Raises:
        CheckpointError: no such pair of files, or a broken one.
    """
    model = restore(name, folder)
    facts = read_facts(name, folder)
    with torch.inference_mode():
        facts["logits_check"] = model(synthetic_picture())[0].tolist()
    facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    facts["flops"] = count_flops(model)
    facts["latency_ms"] = milliseconds(model)
    if torch.cuda.is_available():
        model.cuda()  # twenty thousand pictures take a second there, and a minute on one core
        facts["latency_gpu_ms"] = milliseconds(model)
    facts |= {"accuracy": None, "accuracy_mirror": None, "correct_of_first_200": None, "test_images": 0}
    try:
        images, labels = load(facts.get("dataset", "cifar10"), train=False)
    except DataError:
        write_facts(name, facts, folder)
        return facts
    limit = facts.get("settings", {}).get("limit")
    images, labels = images[:limit], labels[:limit]
    single, mirrored = logits_of(model, images), logits_of(model, images.flip(3))
    facts["accuracy"] = percent_correct(single, labels)
    facts["accuracy_mirror"] = percent_correct(single + mirrored, labels)
    facts["correct_of_first_200"] = int((single[:SAMPLE].argmax(1) == labels[:SAMPLE]).sum())
    facts["test_images"] = len(labels)
    write_facts(name, facts, folder)
    predictions.store(name, single.argmax(1), labels, facts, folder)
    return facts


def predict(name: str, folder: Path = CHECKPOINTS, keep: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Measures the classes of the test images alone; the JSON stays as it is.

    Args:
        keep: put them into `predictions.npz`.

    Returns:
        predicted and true classes, (N,) each.

    Raises:
        CheckpointError: no such pair of files, or a broken one.
        DataError: the test images are not at hand.
    """
    facts, model = read_facts(name, folder), restore(name, folder)
    images, labels = load(facts.get("dataset", "cifar10"), train=False)
    limit = facts.get("settings", {}).get("limit")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    predicted, labels = logits_of(model, images[:limit]).argmax(1), labels[:limit]
    if keep:
        predictions.store(name, predicted, labels, facts, folder)
    return predicted, labels


def milliseconds(model: nn.Module, rounds: int = 20) -> float:
    """Median time of one picture, with the threads that torch has. Means little on a busy machine."""
    device = next(model.parameters()).device
    picture, times = synthetic_picture().to(device), []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            started = time.perf_counter()
            model(picture).cpu()  # waits for a GPU
            times.append(1000 * (time.perf_counter() - started))
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
    parser.add_argument(
        "--latency", action="store_true", help="measure the latency alone, on a quiet machine"
    )
    parser.add_argument(
        "--predictions", action="store_true", help="measure the class of each test image alone"
    )
    arguments = parser.parse_args()
    for name in tqdm(arguments.names, unit="network"):
        try:
            if arguments.predictions:
                predicted, labels = predict(name, arguments.folder)
                right = int((predicted == labels).sum())
                tqdm.write(f"{name}: {right:,} of {len(labels):,} right, each one stored")
                continue
            if arguments.latency:
                latency = milliseconds(restore(name, arguments.folder))
                write_facts(
                    name, read_facts(name, arguments.folder) | {"latency_ms": latency}, arguments.folder
                )
                tqdm.write(f"{name}: {latency} ms a picture")
                continue
            facts = evaluate(name, arguments.folder)
        except (CheckpointError, DataError, KeyError) as error:
            sys.exit(str(error.args[0]))
        except OSError as error:
            sys.exit(f"{arguments.folder} cannot be written to ({error.strerror}).")
        if facts["accuracy"] is None:
            tqdm.write(f"{name}: the {facts['dataset']} test images are not here, so no accuracy")
        else:
            tqdm.write(f"{name}: {facts['accuracy']} % ({facts['accuracy_mirror']} % with mirror averaging)")


if __name__ == "__main__":
    main()
