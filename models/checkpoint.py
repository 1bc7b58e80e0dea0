"""Trained networks on disk: `<name>.safetensors` (int8 weights) beside `<name>.json` (facts, all measured).

Every parameter with two or more axes is stored as int8 with one float32 scale per slice along axis 0
(under `<key>.scale`); the rest stays float32. That is 11.4 MB a network instead of 45 MB. No pickle.
"""

import hashlib
import json
import math
import os
from functools import cache
from pathlib import Path
from threading import Lock

import safetensors
import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as safetensors_bytes
from torch import nn

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
LEVELS = 127  # on each side of zero
SCALE = ".scale"


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


def save(model: nn.Module, name: str, facts: dict, folder: Path = CHECKPOINTS) -> None:
    """Writes the pair of files, weights first; the JSON's `sha256` ties it to them.

    A reader that comes between the two sees a mismatch and says so; it never sees half a file.
    """
    parameters = {key for key, _ in model.named_parameters()}
    content = safetensors_bytes(quantise(model.state_dict(), parameters))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.safetensors", content)
    write_facts(name, {**facts, "sha256": hashlib.sha256(content).hexdigest()}, folder)


def write_facts(name: str, facts: dict, folder: Path = CHECKPOINTS) -> None:
    write_atomically(folder / f"{name}.json", (json.dumps(facts, indent=1) + "\n").encode())


def read_facts(name: str, folder: Path = CHECKPOINTS) -> dict:
    """What is known of a stored network.

    Raises:
        CheckpointError: when there is none, or its JSON cannot be read.
    """
    try:
        facts = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{name} is not trained yet.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The facts file of {name} cannot be read.") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
        raise CheckpointError(f"The facts file of {name} is not a checkpoint's.")
    return facts


def read_weights(name: str, folder: Path = CHECKPOINTS) -> dict[str, torch.Tensor]:
    """The state dict of a stored network, checked against its JSON.

    Raises:
        CheckpointError: when the file is missing, empty, cut, changed, or something else.
    """
    facts = read_facts(name, folder)
    try:
        content = (folder / f"{name}.safetensors").read_bytes()
    except OSError as error:
        raise CheckpointError(f"The weights of {name} are missing.") from error
    if not content:
        raise CheckpointError(f"The weights of {name} are an empty file.")
    if content.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"The weights of {name} are a Git LFS pointer: run `git lfs pull`.")
    if content.lstrip()[:1] == b"<":
        raise CheckpointError(f"The weights of {name} are a web page, not a checkpoint.")
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise CheckpointError(f"The weights of {name} are damaged: they do not match their facts file.")
    try:
        state = dequantise(parse_safetensors(content))
    except (safetensors.SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"The weights of {name} cannot be read.") from error
    if not all(math.isfinite(value.sum()) for value in state.values()):
        raise CheckpointError(f"The weights of {name} are not finite.")
    return state


def restore(name: str, folder: Path = CHECKPOINTS) -> nn.Module:
    """Builds a network and gives it its stored weights: on the CPU, in eval mode, parameters frozen.

    Raises:
        KeyError: unknown name.
        CheckpointError: on any fault of the files, shapes included.
    """
    from . import build, find  # here: to read facts and weights, no catalogue is needed

    find(name)
    state = read_weights(name, folder)
    classifier = state.get("fc.weight")
    classes = len(classifier) if classifier is not None and classifier.ndim == 2 else 10
    with torch.device("meta"):  # no memory, no random numbers: every tensor comes from the file
        model = build(name, classes)
    wanted = model.state_dict()
    if sorted(wanted) != sorted(state) or any(wanted[key].shape != state[key].shape for key in wanted):
        raise CheckpointError(f"The weights of {name} belong to another version of the network.")
    model.load_state_dict({key: state[key].to(wanted[key].dtype) for key in wanted}, assign=True)
    return model.eval().requires_grad_(False)


def load(name: str, device: str = "cpu") -> nn.Module:
    """The pretrained network of a catalogue entry, ready for inference, shared by all callers, read once.

    Args:
        name: id in `CATALOGUE`.
        device: where it shall live, such as `"cpu"` or `"cuda"`.

    Returns:
        (B, 3, 32, 32) normalised floats -> (B, classes) logits; in eval mode, parameters frozen.

    Raises:
        KeyError: unknown name.
        CheckpointError: a fault of the files, in one sentence.
    """
    with _loading:  # the second caller waits for the first one's network
        return _load(name, str(device))


@cache  # bounded by the catalogue; a failure is not kept
def _load(name: str, device: str) -> nn.Module:
    with torch.inference_mode(False):  # else the first caller's mode would stay in the weights for ever
        return restore(name).to(device)


_loading = Lock()


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
