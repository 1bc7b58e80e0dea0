"""Test pictures on which trained networks differ: python -m models.results.disagreement

Writes `disagreement.png`, the pictures side by side, and `disagreement.json` among the page's examples. Which
networks said what comes from the stored predictions (see `predictions`): no network is asked.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ..checkpoint import CHECKPOINTS, CheckpointError, write_atomically
from ..data import DataError, load
from . import predictions
from .table import trained

EXAMPLES = Path(__file__).parents[2] / "visualize" / "page" / "examples"
MOST, ACROSS, SIDE = 200, 20, 32  # pictures, of them side by side, pixels of one


def disagreement(folder: Path, most: int = MOST) -> dict:
    """The test pictures of CIFAR-10 on which the networks differ most.

    The most even split comes first: the fewer networks give the commonest answer, the earlier; of equal ones
    the first in the test set.

    Returns:
        `dataset`; `networks`, a list of {"key", "sha256"}; `pictures`, a list of {"index" (in the test set),
        "label", "answers"}, the classes as numbers and the answers in the networks' order.

    Raises:
        CheckpointError: fewer than two networks have stored predictions.
    """
    stored = []
    for facts in trained(folder):
        found = predictions.read(facts["name"], facts, folder)
        if found is not None and facts.get("dataset", "cifar10") == "cifar10":
            stored.append((facts, *found))
    most_images = max((len(predicted) for _, predicted, _ in stored), default=0)
    stored = [one for one in stored if len(one[1]) == most_images]
    if len(stored) < 2:
        raise CheckpointError("Fewer than two networks have stored predictions: there is nothing to compare.")
    answers = np.stack([predicted for _, predicted, _ in stored])  # (networks, N)
    votes = np.stack([(answers == label).sum(0) for label in range(answers.max() + 1)])  # (classes, N)
    commonest = votes.max(0)
    order = np.argsort(commonest, kind="stable")[:most]
    chosen = [int(index) for index in order if commonest[index] < len(stored)]
    labels = stored[0][2]
    return {
        "dataset": "cifar10",
        "networks": [{"key": facts["name"], "sha256": facts["sha256"]} for facts, *_ in stored],
        "pictures": [
            {"index": index, "label": int(labels[index]), "answers": answers[:, index].tolist()}
            for index in chosen
        ],
    }


def mosaic(images: np.ndarray) -> Image.Image:
    """Pictures (N, 32, 32, 3) in rows of `ACROSS`, black where none is left."""
    rows = -(-len(images) // ACROSS)
    cells = np.zeros((rows * ACROSS, SIDE, SIDE, 3), np.uint8)
    cells[: len(images)] = images
    cells = cells.reshape(rows, ACROSS, SIDE, SIDE, 3).swapaxes(1, 2)
    return Image.fromarray(cells.reshape(rows * SIDE, ACROSS * SIDE, 3))


def write(found: dict, folder: Path) -> None:
    """Puts both files there.

    Raises:
        DataError: the test images are not at hand.
    """
    images, labels = load(found["dataset"], train=False)
    chosen = [picture["index"] for picture in found["pictures"]]
    if labels[chosen].tolist() != [picture["label"] for picture in found["pictures"]]:
        raise DataError("The test images are others than those of the stored predictions.")
    buffer = io.BytesIO()
    mosaic(images[chosen].permute(0, 2, 3, 1).numpy()).save(buffer, "PNG", optimize=True)
    write_atomically(folder / "disagreement.png", buffer.getvalue())
    lines = ",\n".join(json.dumps(picture) for picture in found["pictures"])
    head = json.dumps({key: value for key, value in found.items() if key != "pictures"})
    write_atomically(folder / "disagreement.json", f'{head[:-1]}, "pictures": [\n{lines}\n]}}\n'.encode())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.results.disagreement",
        description="Collect the test pictures on which networks differ, for the page.",
    )
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS, help="of the checkpoints")
    parser.add_argument("--into", type=Path, default=EXAMPLES, metavar="FOLDER", help="where both files go")
    arguments = parser.parse_args()
    try:
        found = disagreement(arguments.folder)
        write(found, arguments.into)
    except (CheckpointError, DataError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{error.filename or 'The disk'} cannot be used ({error.strerror}).")
    print(f"{len(found['pictures'])} pictures on which {len(found['networks'])} networks differ")


if __name__ == "__main__":
    main()
