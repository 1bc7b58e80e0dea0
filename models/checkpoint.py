"""Trained networks on disk: `<name>.safetensors` (int8 weights) beside `<name>.json` (facts, all measured).

Every parameter with two or more axes is stored as int8 with one float32 scale per slice along axis 0
(under `<key>.scale`); the rest stays float32. That is 11.4 MB a network instead of 45 MB. No pickle.
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

import safetensors
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as safetensors_bytes
from torch import nn

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
PATIENCE = 60  # seconds; another process that writes needs less than one
HELD = "Another process holds {}: when it has ended, "
LEVELS = 127  # on each side of zero
SCALE = ".scale"
MOST_FACTS = 2**20  # bytes of a JSON file that are read
START = 64  # bytes of a weights file that show what it is

TEXT, COUNT, NUMBER, PERCENT = (str,), (int, 0, 10**15), (float, -1e15, 1e15), (float, 0, 100)
IMAGES = (int, 1, 10**9)
KINDS = {  # what a fact has to be where it is known: its type, and for numbers the least and the greatest one
    "name": TEXT,
    "recipe": TEXT,
    "settings": (dict,),
    "dataset": TEXT,
    "seed": COUNT,
    "epochs": COUNT,
    "images_seen": COUNT,
    "test_images": IMAGES,
    "accuracy": PERCENT,
    "accuracy_mirror": PERCENT,
    "accuracy_unrounded": PERCENT,
    "parameters": COUNT,
    "flops": NUMBER,
    "latency_ms": NUMBER,
    "latency_gpu_ms": NUMBER,
    "train_seconds": NUMBER,
    "device": TEXT,
    "sha256": TEXT,
    "unusual_below": NUMBER,
}


class CheckpointError(Exception):
    """A checkpoint is missing or not usable; the message is one sentence for the user."""


def quantise(state: dict[str, torch.Tensor], parameters: set[str]) -> dict[str, torch.Tensor]:
    """Rounds a state dict to what is stored: int8 and scales for the large parameters, else float32."""
    stored = {}
    for key, value in state.items():
        value = value.detach().float().cpu().contiguous()
        if key in parameters and value.ndim >= 2:
            scale = value.abs().flatten(1).amax(1) / LEVELS  # (slices along axis 0,)
            steps = value / scale.clamp(min=torch.finfo().tiny).view(-1, *[1] * (value.ndim - 1))
            stored[key] = steps.round().to(torch.int8)
            stored[key + SCALE] = scale
        else:
            stored[key] = value
    return stored


def dequantise(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict, all float32, that the stored tensors stand for."""
    state = {}
    for key, value in stored.items():
        if value.dtype == torch.int8:
            scale = stored[key + SCALE].view(-1, *[1] * (value.ndim - 1))
            state[key] = value.float().mul_(scale)  # in place: fresh memory costs most
        elif not (key.endswith(SCALE) and stored.get(key.removesuffix(SCALE), value).dtype == torch.int8):
            state[key] = value
    return state


def save(model: nn.Module, name: str, facts: dict, folder: Path) -> None:
    """Writes the pair of files, weights first; the JSON's `sha256` ties it to them.

    A reader that comes between the two sees a mismatch and says so; it never sees half a file. What else was
    measured of the very same weights stays in the JSON.

    Raises:
        CheckpointError: another process does not let go of the JSON.
    """
    parameters = {key for key, _ in model.named_parameters()}
    content = safetensors_bytes(quantise(model.state_dict(), parameters))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.json", HELD + "try again."):
        sha256, before = hashlib.sha256(content).hexdigest(), {}
        with suppress(CheckpointError):
            before = read_facts(name, folder)
        if before.get("sha256") != sha256:
            before = {}
        write_atomically(folder / f"{name}.safetensors", content)
        write_facts(name, {**before, **facts, "sha256": sha256}, folder)


def write_facts(name: str, facts: dict, folder: Path) -> None:
    write_atomically(folder / f"{name}.json", (json.dumps(facts, indent=1) + "\n").encode())


def add_facts(name: str, measured: dict, sha256: str, folder: Path) -> dict:
    """Writes what was measured of some weights into the JSON, beside whatever stands there by now: all of it.

    Raises:
        CheckpointError: the weights are others by now, or another process does not let go of the file.
    """
    with locked(folder / f"{name}.json", HELD + "try again."):
        facts = read_facts(name, folder)
        if facts["sha256"] != sha256:
            raise CheckpointError(f"The weights of {name} changed while they were measured.")
        write_facts(name, facts | measured, folder)
    return facts | measured


@contextmanager
def locked(file: Path, refusal: str, patience: float | None = None) -> Iterator[None]:
    """Within it no other process changes the file: of two that read and then wrote, one would lose its entry.

    Args:
        refusal: what is said where another process does not let go; `{}` in it is the lock.
        patience: seconds to wait for that; by default `PATIENCE`.

    Raises:
        CheckpointError: another process does not let go of the file.
    """
    lock = file.with_name(f".{file.name}.lock.tmp")  # git ignores it by its ending
    try:
        held = FileLock(lock).acquire(PATIENCE if patience is None else patience)
    except Timeout as error:
        raise CheckpointError(refusal.format(lock)) from error
    with held:
        yield


def read_facts(name: str, folder: Path = CHECKPOINTS) -> dict:
    """What the files say of a stored network (see `facts_in_use`).

    Raises:
        CheckpointError: when there is none, its JSON cannot be read, or a value in it cannot be right.
    """
    try:
        facts = json.loads(read_regular(folder / f"{name}.json", MOST_FACTS))
    except FileNotFoundError as error:
        raise CheckpointError(f"{name} is not trained yet.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"The facts file of {name} cannot be read.") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
        raise CheckpointError(f"The facts file of {name} is not a checkpoint's.")
    for fact in KINDS:
        if facts.get(fact) is not None and not is_plausible(facts[fact], *KINDS[fact]):
            raise CheckpointError(f"The facts file of {name} is damaged: its {fact} cannot be right.")
    return facts


def is_plausible(value: object, kind: type, least: float = 0, most: float = 0) -> bool:
    """Whether a value is of a kind (see `KINDS`); NaN lies between no two numbers."""
    if kind is str:
        return isinstance(value, str) and value.isprintable()  # half a surrogate pair could not be sent
    if kind is dict:
        return isinstance(value, dict)
    numbers = int if kind is int else int | float
    return isinstance(value, numbers) and not isinstance(value, bool) and least <= value <= most


def read_regular(file: Path, size: int = -1) -> bytes:
    """The first bytes of a file, or all of it.

    Raises:
        OSError: there is none, or it is a folder or a FIFO, which one would wait for for ever.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(f"{file} is not a file.")
    with file.open("rb") as stream:
        return stream.read(size)


def check_weights(name: str, folder: Path, parameters: int = 0) -> None:
    """Finds at a glance what cannot be the weights of a network; the contents are checked when it is loaded.

    Args:
        parameters: how many it has: each one takes a byte or four.

    Raises:
        CheckpointError: the file is missing, empty, of an impossible size, or something else.
    """
    file = folder / f"{name}.safetensors"
    try:
        start, size = read_regular(file, START), file.stat().st_size
    except OSError as error:
        raise CheckpointError(f"The weights of {name} are missing.") from error
    if not start:
        raise CheckpointError(f"The weights of {name} are an empty file.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"The weights of {name} are a Git LFS pointer: run `git lfs pull`.")
    if start.lstrip()[:1] == b"<" and start[8:9] != b"{":  # there the header of safetensors begins
        raise CheckpointError(f"The weights of {name} are a web page, not a checkpoint.")
    if parameters and not parameters <= size <= 8 * parameters + 2**20:  # buffers and names come on top
        raise CheckpointError(f"The weights of {name} are damaged: the file has an impossible size.")


def read_weights(name: str, sha256: str, folder: Path) -> dict[str, torch.Tensor]:
    """The state dict of a stored network, checked against the sum in its facts.

    Raises:
        CheckpointError: when the file is missing, empty, cut, changed, or something else.
    """
    check_weights(name, folder)
    try:
        content = read_regular(folder / f"{name}.safetensors")
    except OSError as error:
        raise CheckpointError(f"The weights of {name} are missing.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(f"The weights of {name} are damaged: they do not match their facts file.")
    try:
        state = dequantise(parse_safetensors(content))
    except (safetensors.SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"The weights of {name} cannot be read.") from error
    if not all(math.isfinite(value.sum()) for value in state.values()):
        raise CheckpointError(f"The weights of {name} are not finite.")
    return state


def restore_with_facts(name: str, folder: Path = CHECKPOINTS) -> tuple[nn.Module, dict]:
    """Builds a network and gives it its stored weights: on the CPU, in eval mode, parameters frozen.

    Returns:
        the network, and the facts of these very weights.

    Raises:
        KeyError: unknown name.
        ValueError: the entry makes no network.
        CheckpointError: on any fault of the files, shapes included.
    """
    from . import build  # here: for facts alone no catalogue is needed
    from .networks import find_network, shapes_only

    find_network(name)
    facts = read_facts(name, folder)
    state = read_weights(name, facts["sha256"], folder)
    classifier = state.get("fc.weight")
    classes = len(classifier) if classifier is not None and classifier.ndim == 2 else 10
    with shapes_only():  # every tensor comes from the file
        model = build(name, classes)
    wanted = model.state_dict()
    if sorted(wanted) != sorted(state) or any(wanted[key].shape != state[key].shape for key in wanted):
        raise CheckpointError(f"The weights of {name} belong to another version of the network.")
    model.load_state_dict({key: state[key].to(wanted[key].dtype) for key in wanted}, assign=True)
    return model.eval().requires_grad_(False), facts


def load(name: str, device: str = "cpu") -> nn.Module:
    """The pretrained network of a catalogue entry, ready for inference, shared by all callers, read once.

    Args:
        name: id in `CATALOGUE`.
        device: where it is to live, such as `"cpu"` or `"cuda"`.

    Returns:
        (B, 3, 32, 32) normalised floats -> (B, classes) logits; in eval mode, parameters frozen.

    Raises:
        KeyError: unknown name.
        ValueError: the entry makes no network.
        CheckpointError: a fault of the files, in one sentence.
    """
    return load_with_facts(name, device)[0]


def load_with_facts(name: str, device: str = "cpu") -> tuple[nn.Module, dict]:
    """Like `load`, with the facts of the weights that answer; a newer file changes neither."""
    key, stamp = (name, str(device)), stamp_of(name, CHECKPOINTS)
    with _loading:  # the second caller waits for the first one's network
        if key not in _loaded:
            try:
                with torch.inference_mode(False):  # else the first caller's mode would stay in the weights
                    network, facts = restore_with_facts(name, CHECKPOINTS)
                    _loaded[key] = network.to(device), facts
            except CheckpointError as error:  # the next caller tries again, for it may have been the disk
                _faults[name] = stamp, str(error)
                raise
        return _loaded[key]


def stamp_of(name: str, folder: Path) -> tuple:
    """Changes when the files of a checkpoint do."""
    stamp = []
    for file in (folder / f"{name}.json", folder / f"{name}.safetensors"):
        found = file.stat() if file.exists() else None
        stamp.append(found and (found.st_mtime_ns, found.st_size))
    return tuple(stamp)


def fault_when_loaded(name: str, folder: Path) -> str | None:
    """What was wrong with these very files when they were last loaded."""
    stamp, sentence = _faults.get(name, (None, None))
    return sentence if folder == CHECKPOINTS and stamp == stamp_of(name, folder) else None


def facts_in_use(name: str, folder: Path) -> dict:
    """The facts of the network that answers: of the loaded one, or else of the files.

    Raises:
        CheckpointError: as for `read_facts`.
    """
    return loaded_facts(name, folder) or read_facts(name, folder)


def loaded_facts(name: str, folder: Path) -> dict | None:
    """The facts of the network that `load` keeps, on a GPU before the CPU; None where it keeps none."""
    for device in ("cuda", "cpu"):
        if folder == CHECKPOINTS and (name, device) in _loaded:
            return _loaded[name, device][1]
    return None


_loaded: dict[tuple[str, str], tuple[nn.Module, dict]] = {}  # bounded by the catalogue
_faults: dict[str, tuple[tuple, str]] = {}  # of the files with this stamp
_loading = Lock()


def _unlock() -> None:
    """A process that was forked while another thread was loading (a lent GPU's is) must not wait for it."""
    global _loading
    _loading = Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_unlock)


def write_atomically(file: Path, content: bytes) -> None:
    """A reader finds the old content or the new one, never a part, even after a power cut."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)
