"""What a network's attention is on average, and how much of it follows the picture.

`<name>.averages.safetensors` lies beside each checkpoint (float16, at most 2 MB) and holds, for every gate
and share, without the batch:

    average/<path>    the average over training pictures, each class as often
    class/<path>      (classes, ...): the same for each class; over places too where there are channels, and
                      over those who ask
    best/<path>       the constant that loses least in its place, fitted on the same pictures

Its metadata say which weights it belongs to, and which tensors are averaged over an axis for want of room.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import nn

from ..checkpoint import CHECKPOINTS, write_atomically
from ..preprocessing import normalise
from ..recording import recording
from ..replacements import EVERYWHERE, Attention, replace

MOST = 2_000_000  # bytes of a file
HEADER = 50_000  # of them for names
CONSTANT, SATURATED, UNIFORM = 0.05, 0.95, 0.99  # where the badges begin
END = 0.02  # of the range between a gate's bounds: so near to one, a value has arrived
NOISE = 1e-6  # a variance below this part of the mean square is rounding, in sums of float32
BATCH = 100
FITTED, RATE = 50, 0.05  # pictures a step, and Adam's step, in logits

Advance = Callable[[int], object]  # is told of pictures that are done


@dataclass
class Averages:
    """The file's contents: path -> float16 without batch, with axes of length one where it was averaged."""

    images: int
    average: dict[str, torch.Tensor]
    by_class: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    averaged_over: dict[str, str] = field(default_factory=dict)  # path -> letters, for want of room


def write(name: str, found: Averages, sha256: str, folder: Path) -> None:
    """Puts the file beside the checkpoint with these weights."""
    parts = {"average": found.average, "class": found.by_class, "best": found.best}
    tensors = {
        f"{part}/{path}": t.cpu().contiguous() for part, group in parts.items() for path, t in group.items()
    }
    metadata = {
        "sha256": sha256,
        "images": str(found.images),
        "averaged_over": json.dumps(found.averaged_over),
    }
    content = safetensors_bytes(tensors, metadata)
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True).encode()  # else in any order
    header += b" " * (-len(header) % 8)
    content = len(header).to_bytes(8, "little") + header + content[8 + size :]
    write_atomically(file_of(name, folder), content)


def read(name: str, sha256: str, folder: Path = CHECKPOINTS) -> Averages | None:
    """What the file says; None where there is none, it cannot be read, or it belongs to other weights.

    Args:
        sha256: of the weights that it must belong to.
    """
    groups = {"average": {}, "class": {}, "best": {}}
    try:
        with safe_open(file_of(name, folder), "pt") as stream:
            metadata = stream.metadata() or {}
            for key in stream.keys():  # noqa: SIM118 (no mapping)
                part, path = key.split("/")
                groups[part][path] = stream.get_tensor(key).clone()  # not the file, which may be cut
        images, averaged_over = int(metadata["images"]), json.loads(metadata["averaged_over"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
    if metadata.get("sha256") != sha256:
        return None
    return Averages(images, groups["average"], groups["class"], groups["best"], averaged_over)


def load(name: str, sha256: str, folder: Path = CHECKPOINTS) -> Averages | None:
    """Like `read`, but kept until the file is another one: shared by all callers, and nobody writes to it."""
    file = file_of(name, folder)
    try:
        found = file.stat()
    except OSError:
        return None
    stamp = sha256, found.st_mtime_ns, found.st_size
    if _kept.get(file, (None,))[0] != stamp:
        _kept[file] = stamp, read(name, sha256, folder)
    return _kept[file][1]


_kept: dict[Path, tuple[tuple, Averages | None]] = {}  # bounded by the catalogue, and by `MOST` for each file


def file_of(name: str, folder: Path) -> Path:
    return folder / f"{name}.averages.safetensors"


def checksum(name: str, folder: Path = CHECKPOINTS) -> str | None:
    """SHA-256 of the file; None where there is none."""
    try:
        return hashlib.sha256(file_of(name, folder).read_bytes()).hexdigest()
    except OSError:
        return None


def batches(count: int, size: int = BATCH) -> list[torch.Tensor]:
    """Indices in parts of one size or one less, so that no picture is left alone at the end."""
    return list(torch.arange(count).tensor_split(max(1, math.ceil(count / size))))


def measure(
    model: nn.Module,
    attention: Mapping[str, Attention],
    images: torch.Tensor,
    labels: torch.Tensor,
    advance: Advance = lambda count: None,
) -> tuple[Averages, dict[str, dict]]:
    """One pass over training pictures.

    Args:
        images: (N, 3, 32, 32) uint8, on the network's device; labels: (N,).

    Returns:
        the averages, and what `Tally.facts` says of each tensor, by path.
    """
    classes = int(labels.max()) + 1
    tallies = {path: Tally(each, classes, images.device) for path, each in attention.items()}
    for part in batches(len(images)):
        with torch.inference_mode(), recording(model) as records:
            model(normalise(images[part]))
        for path, tally in tallies.items():
            tally.add(records[path].tensor, labels[part])
        advance(len(part))
    found = Averages(
        len(images),
        {path: tally.average.float() for path, tally in tallies.items()},
        {path: tally.by_class.half().cpu() for path, tally in tallies.items()},
    )
    shorten(found, attention)
    found.average = {path: t.half().cpu() for path, t in found.average.items()}
    return found, {path: tally.facts() for path, tally in tallies.items()}


def shorten(found: Averages, attention: Mapping[str, Attention], most: int = MOST) -> None:
    """Averages the largest tensors over an axis after another, until the file has room for all.

    Places come first, for a convolution treats them alike, then the longest axis; never one along which
    shares sum to one.

    Raises:
        ValueError: there is no room even so.
    """

    def size() -> int:  # the best constants are as large as the averages
        return sum(4 * t.numel() for t in found.average.values()) + sum(
            2 * t.numel() for t in found.by_class.values()
        )

    while size() > most - HEADER:
        path = max(found.average, key=lambda path: found.average[path].numel())
        t, letters = found.average[path], attention[path].axes.split()
        free = [dim for dim in range(-t.ndim, 0) if dim not in attention[path].over_dims and t.shape[dim] > 1]
        if not free:
            raise ValueError(f"{path} is too large to keep its average.")
        chosen = max(free, key=lambda dim: (letters[dim] in ("h", "w"), t.shape[dim]))
        found.average[path] = t.mean(chosen, keepdim=True)
        found.averaged_over[path] = f"{found.averaged_over.get(path, '')} {letters[chosen]}".strip()


class Tally:
    """Running sums of one tensor over pictures."""

    def __init__(self, each: Attention, classes: int, device: torch.device):
        self.each = each
        self.sum = torch.zeros(each.shape, dtype=torch.float64, device=device)
        self.count, self.per_class = 0, torch.zeros(classes, dtype=torch.float64, device=device)
        self.by_class_sum, self.low, self.high = None, math.inf, -math.inf
        self.squares = self.between_queries = self.entropy = self.at_an_end = 0.0  # sums over pictures

    def add(self, t: torch.Tensor, labels: torch.Tensor) -> None:
        """(B, ...) of these pictures, and their classes (B,)."""
        each = self.each
        self.count += len(t)
        self.sum += t.sum(0)
        self.squares += mean_square(t) * len(t)
        self.low, self.high = min(self.low, float(t.min())), max(self.high, float(t.max()))
        if each.role == "gate" and all(map(math.isfinite, each.bounds)):
            low, high = each.bounds
            near = END * (high - low)
            self.at_an_end += float(((t < low + near) | (t > high - near)).double().mean()) * len(t)
        if each.choices > 1:
            entropy = -torch.xlogy(t, t).sum(each.over_dims) / math.log(each.choices)
            self.entropy += float(entropy.double().mean()) * len(t)
        if each.query_dims:
            own = t - t.mean(each.query_dims, keepdim=True)  # what a query has for itself
            self.between_queries += mean_square(own) * len(t)
        profile = t.mean(dims, keepdim=True) if (dims := profile_dims(each)) else t
        if self.by_class_sum is None:
            self.by_class_sum = torch.zeros(
                len(self.per_class), *profile.shape[1:], dtype=torch.float64, device=t.device
            )
        self.by_class_sum.index_add_(0, labels.to(t.device), profile.double())
        self.per_class += torch.bincount(labels.to(t.device), minlength=len(self.per_class))

    @property
    def average(self) -> torch.Tensor:
        return self.sum / self.count

    @property
    def by_class(self) -> torch.Tensor:
        """(classes, ...); 0 for a class that was not there."""
        return self.by_class_sum / self.per_class.clamp(min=1).view(-1, *[1] * len(self.each.shape))

    def facts(self) -> dict:
        """What is known of the tensor, for JSON: role, mean, low, high, from_picture, and by its role more.

        `from_picture`: the share of its variance that comes from the picture, 1 - variance of the average /
        whole variance; `saturated` (gates): share of values within 2 % of an end; `entropy` (shares): over
        the greatest there can be; `from_query` (shares of one's own): the share of variance that comes from
        who asks. `badges`: constant, saturated, uniform.
        """
        each, average = self.each, self.average
        square = self.squares / self.count
        variance = square - float(average.mean()) ** 2
        varies = variance > NOISE * square
        from_picture = 1 - float(average.var(correction=0)) / variance if varies else 0.0
        facts = {
            "role": each.role,
            "mean": rounded(float(average.mean())),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "from_picture": rounded(max(0.0, from_picture)),
        }
        badges = ["constant"] if from_picture < CONSTANT else []
        if each.role == "gate" and all(map(math.isfinite, each.bounds)):
            facts["saturated"] = rounded(self.at_an_end / self.count)
            badges += ["saturated"] if facts["saturated"] > SATURATED else []
        if each.choices > 1:
            facts["entropy"] = rounded(self.entropy / self.count)
            badges += ["uniform"] if facts["entropy"] > UNIFORM else []
        if each.query_dims:
            facts["from_query"] = rounded(self.between_queries / self.count / variance if varies else 0.0)
        return facts | {"badges": badges}


def profile_dims(each: Attention) -> tuple[int, ...]:
    """What a class profile is averaged over: those who ask; of gates places, where there are channels too."""
    if each.role == "share":
        return each.query_dims
    long, places = each.long_dims
    return places if len(places) < len(long) else ()


def mean_square(t: torch.Tensor) -> float:
    return float(t.double().square().mean())


def rounded(number: float) -> float:
    """To six digits: what lies beyond differs from machine to machine."""
    return float(f"{number:.6g}")


def fit_constants(
    model: nn.Module,
    attention: Mapping[str, Attention],
    averages: Mapping[str, torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    advance: Advance = lambda count: None,
) -> dict[str, torch.Tensor]:
    """Constants in place of all attention with which the network loses least, from the averages on.

    One pass of Adam over the pictures, with a step that falls to zero. Should the network lose less with the
    averages, on the first half of the pictures, these are returned.

    Args:
        images: (N, 3, 32, 32) uint8, in random order, on the network's device; labels: (N,).

    Returns:
        path -> float16, shaped like the averages.
    """
    device = images.device
    start = {path: m.float().to(device) for path, m in averages.items()}
    with torch.inference_mode(False), torch.enable_grad():
        free = {path: unbounded(attention[path], m).requires_grad_() for path, m in start.items()}
        optimiser = torch.optim.Adam(free.values(), lr=RATE)
        parts = batches(len(images), FITTED)
        for step, part in enumerate(parts):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / len(parts))
            constants = {path: bounded(attention[path], x) for path, x in free.items()}
            optimiser.zero_grad()
            loss(model, attention, constants, images[part], labels[part]).backward()
            optimiser.step()
            advance(3 * len(part))  # a backward pass costs as much as two forward ones
        fitted = {path: bounded(attention[path], x).detach() for path, x in free.items()}

    def whole_loss(constants: dict[str, torch.Tensor]) -> float:
        total = 0.0
        with torch.inference_mode():
            for part in batches(max(1, len(images) // 2)):
                total += float(loss(model, attention, constants, images[part], labels[part])) * len(part)
                advance(len(part))
        return total

    best = min((start, fitted), key=whole_loss)
    return {path: constant.half().cpu() for path, constant in best.items()}


def loss(
    model: nn.Module,
    attention: Mapping[str, Attention],
    constants: Mapping[str, torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    with recording(model, replace("best constant", EVERYWHERE, attention, constants=constants)):
        return F.cross_entropy(model(normalise(images)), labels.to(images.device))


def unbounded(each: Attention, m: torch.Tensor) -> torch.Tensor:
    """What `bounded` makes m of: any real numbers, so that a step cannot leave the bounds."""
    low, high = each.bounds
    if each.role == "share":
        return m.clamp(min=1e-8).log()
    if math.isinf(low):
        return m.clone()
    if math.isinf(high):
        return (m - low).clamp(min=1e-4).log()
    return ((m - low) / (high - low)).logit(eps=1e-4)


def bounded(each: Attention, x: torch.Tensor) -> torch.Tensor:
    low, high = each.bounds
    if each.role == "share":
        return (x - x.logsumexp(each.over_dims, keepdim=True)).exp()
    if math.isinf(low):
        return x
    return low + (x.exp() if math.isinf(high) else (high - low) * torch.sigmoid(x))
