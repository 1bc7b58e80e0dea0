"""Which class each stored network gives each test image: `predictions.npz` beside the checkpoints.

Two networks compare on the very same pictures, and whoever wants to see where they disagree needs no second
pass over the test set. Per network there is its array of classes under its id and, under `<id>.sha256`, the
checksum of the weights that gave them; the true classes stand under the name of the data set. Deflated that
is about 6 kB a network.
"""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..checkpoint import CHECKPOINTS, HELD, CheckpointError, locked, write_atomically

FILE = "predictions.npz"


def store(
    key: str, predicted: ArrayLike, labels: ArrayLike, facts: dict, folder: Path, again: str | None = None
) -> None:
    """Puts in one network's classes, or replaces them; all other networks keep theirs.

    Args:
        key: id of the network; `<id>-seed<seed>` for one whose weights do not ship.
        predicted: (N,) classes of the first N test images.
        labels: (N,) their true classes.
        facts: of the network's JSON: `sha256` of the weights, `dataset`.
        again: what to do where another process holds the file; by default, to measure the classes alone.

    Raises:
        CheckpointError: another process does not let go of the file, or it cannot be read.
    """
    dataset = facts.get("dataset", "cifar10")
    folder.mkdir(parents=True, exist_ok=True)
    again = again or f"run `python -m models.results.evaluate {key} --predictions`."
    with locked(folder / FILE, HELD + again):
        arrays = _read_all(folder)
        arrays[key], arrays[f"{key}.sha256"] = np.asarray(predicted, np.uint8), np.array(facts["sha256"])
        if len(labels) >= len(arrays.get(dataset, ())):
            arrays[dataset] = np.asarray(labels, np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: arrays[name] for name in sorted(arrays)})
        write_atomically(folder / FILE, buffer.getvalue())


def read(key: str, facts: dict, folder: Path = CHECKPOINTS) -> tuple[np.ndarray, np.ndarray] | None:
    """What a network answered, and what was right.

    Args:
        facts: of the network's JSON: they say which weights and how many images it must have been.

    Returns:
        predicted and true classes, (N,) uint8 each; None where nobody measured, or measured other weights.
    """
    try:
        with np.load(folder / FILE) as archive:
            if str(archive[f"{key}.sha256"]) != facts["sha256"]:
                return None
            predicted, labels = archive[key], archive[facts.get("dataset", "cifar10")]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    labels = labels[: len(predicted)]
    whole = predicted.shape == labels.shape == (facts.get("test_images"),)
    return (predicted, labels) if whole else None


def _read_all(folder: Path) -> dict[str, np.ndarray]:
    """All arrays; none where there is no file yet."""
    try:
        with np.load(folder / FILE) as archive:
            return dict(archive)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(  # some in it may be of networks whose weights do not ship
            f"{folder / FILE} cannot be read: move it away, then measure its networks again."
        ) from error
