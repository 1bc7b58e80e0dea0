"""Whether a picture is unlike those a network knows.

    python -m visualize.inspection.unfamiliar      measures the thresholds

A network that knows ten classes calls any picture one of them. What it finds in the picture, its evidence, is
the logsumexp of its logits: large where some class is well supported, small where none is. A network finds a
picture unusual where its evidence lies below that of 95 % of the test images. The thresholds stand in
page/typical.json, each with the checksum of the weights that it was measured on; with any other weights, or
without a threshold, a network does not say. One network is wrong about five test images in a hundred by
definition, so the page speaks only when a majority agrees.

Evidence is the negative energy of Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020. It
was chosen over the largest probability on pictures of none of the ten classes. A majority of plain, se and
non_local found unusual, by the one and by the other: 58 % and 52 % of 25 photographs in both crops, 58 % and
41 % of 192 textures and details, 80 % and 44 % of 50 plain colours, 42 % and 50 % of 50 pieces of text. With
the first percentile in place of the fifth it was 26 % of the photographs. Many are missed either way,
portraits and single digits nearly always: silence proves nothing.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from models.checkpoint import CHECKPOINTS, read_facts, restore, write_atomically
from models.data import DataError, load
from models.metadata import is_trained, networks
from models.results.evaluate import logits_of

FILE = Path(__file__).parent.parent / "page" / "typical.json"
PERCENTILE = 5  # of the evidence in test images
IMAGES = 4_000  # the first half gives the thresholds, the second half shows how often they err


def is_unusual(evidence: float, sha256: str | None, name: str) -> bool | None:
    """Whether a network finds less in a picture than in most test images.

    Args:
        evidence: logsumexp of its logits (`Inspection.evidence`).
        sha256: checksum of its weights, from the facts of its checkpoint.
        name: its id.

    Returns:
        None where nobody measured this network with these weights.
    """
    try:
        measured = json.loads(FILE.read_text())["networks"].get(name, {})
    except (OSError, ValueError):
        return None
    return evidence < measured["threshold"] if sha256 and measured.get("sha256") == sha256 else None


def sentence(unusual: list[bool | None], pending: int = 0) -> str | None:
    """What the page says when most networks find a picture unusual; None when there is nothing to say.

    Args:
        unusual: what each network finds (see `is_unusual`); None takes no part.
        pending: how many networks have not answered yet. While they could still turn the majority nothing is
            said, so that the sentence never has to be taken back.
    """
    known = [finding for finding in unusual if finding is not None]
    if 2 * sum(known) <= len(known) + pending:
        return None
    them, who = "these networks know", f"{sum(known)} of {len(known)} find"
    if len(known) == 1:
        them, who = "this network knows", "it finds"
    return (
        f"This picture is unlike most that {them}: {who} less evidence for any class in it than in "
        f"{100 - PERCENTILE} % of the test pictures."
    )


def measure(images: torch.Tensor, folder: Path = CHECKPOINTS) -> dict:
    """The thresholds of all trained networks, and how often the page would speak on test images.

    Args:
        images: (N, 3, 32, 32) uint8, test images.
        folder: of the checkpoints.

    Returns:
        `networks`: id -> `threshold`, `sha256` of the weights, and `below`, the percent of the second half of
        the images that lie below; `false_alarms`: the percent of them that a majority finds unusual; and what
        it was measured with.
    """
    first, second = images[: len(images) // 2], images[len(images) // 2 :]
    found, votes = {}, []
    for name in tqdm([name for name in networks() if is_trained(name, folder)], unit="network"):
        evidence = logits_of(restore(name, folder), images).logsumexp(1).double().numpy()  # (N,)
        threshold = float(np.percentile(evidence[: len(first)], PERCENTILE))
        votes.append(evidence[len(first) :] < threshold)
        found[name] = {
            "threshold": round(threshold, 4),
            "below": round(100 * float(votes[-1].mean()), 2),
            "sha256": read_facts(name, folder)["sha256"],
        }
    majority = 2 * np.sum(votes, axis=0) > len(votes)  # (N / 2,)
    return {
        "score": "logsumexp of the logits",
        "percentile": PERCENTILE,
        "threshold_images": len(first),
        "other_images": len(second),
        "false_alarms": round(100 * float(majority.mean()), 2),
        "networks": found,
        "torch": torch.__version__,
        "command": "python -m visualize.inspection.unfamiliar",
    }


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m visualize.inspection.unfamiliar",
        description="Measure the thresholds of all trained networks.",
    ).parse_args()
    try:
        images, _ = load(train=False)
    except DataError as error:
        sys.exit(str(error))
    measured = measure(images[:IMAGES])
    write_atomically(FILE, (json.dumps(measured, indent=1) + "\n").encode())
    print(f"{FILE}: {len(measured['networks'])} networks, {measured['false_alarms']} % false alarms")


if __name__ == "__main__":
    main()
