"""What the maps of a network are worth: are they faithful, were they learned, do they agree with Grad-CAM?

Faithfulness: a map that shows what an answer rests on names the pixels whose loss costs most. Every map is
read as an order of the pixels, ties broken by lot, and is measured beside three that know nothing of the
network.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..networks import start_of
from ..preprocessing import normalise
from ..recording import recording
from ..replacements import Attention
from ..statistics import Z
from .averages import Advance, batches, rounded

CAM_BLOCK = "layer4.1"  # where Grad-CAM is usually taken
GRAD_CAM, CONTROLS = "Grad-CAM", ("random", "centre", "Sobel")
PERCENTILES = (20, 50, 80)  # of the pixels that ROAD removes
STEPS = 5  # parts in which pixels are deleted and inserted
BATCH = 50


def spatial_map(each: Attention, t: torch.Tensor) -> torch.Tensor | None:
    """A tensor (B, ...) as one map (B, h, w): the mean over all other axes. None where it has no places.

    Shares that are dealt out at each place, over something else, have the same sum everywhere: no map.
    """
    letters = each.axes.split()
    if not {"h", "w"} <= set(letters) or (each.role == "share" and each.over != "h w"):
        return None
    others = [at for at, letter in enumerate(letters) if at and letter not in ("h", "w")]
    return t.mean(others) if others else t


def grad_cam(output: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) of a block, and the gradients of each picture's class -> (B, h, w), not negative.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017. The package needs a picture at a time, and NumPy; these two
    lines are its arithmetic.
    """
    weights = gradient.mean((2, 3), keepdim=True)
    return torch.relu((weights * output).sum(1))


def observe(
    model: nn.Module, pictures: torch.Tensor, blocks: Sequence[str] = ()
) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What a network computes for normalised pictures (B, 3, 32, 32).

    Returns:
        logits (B, classes); what it recorded, by path; and Grad-CAM of the predicted classes at these blocks,
        (B, h, w) each.
    """
    with torch.inference_mode(not blocks), torch.set_grad_enabled(bool(blocks)), recording(model) as records:
        logits = model(pictures.clone().requires_grad_(bool(blocks)))
    cams = {}
    if blocks:
        outputs = [records[f"{block}.output"].tensor for block in blocks]
        # Pictures do not see each other, so one backward pass serves all.
        gradients = torch.autograd.grad(logits.amax(1).sum(), outputs)
        cams = {
            block: grad_cam(output.detach(), gradient)
            for block, output, gradient in zip(blocks, outputs, gradients)
        }
    return logits.detach(), {path: record.tensor.detach() for path, record in records.items()}, cams


# Were they learned?


def compare_maps(
    name: str,
    model: nn.Module,
    attention: Mapping[str, Attention],
    images: torch.Tensor,
    seed: int,
    advance: Advance = lambda count: None,
) -> dict[str, dict]:
    """Each tensor beside that of the same network before its training, and beside Grad-CAM at its block.

    Rank correlation within a picture, then mean and 95 % interval over pictures. Near 1, the twin says that
    training did not make the map.

    Args:
        images: (N, 3, 32, 32) uint8, on the network's device.
        seed: of the training.

    Returns:
        `twin` and `agreement`, each path -> {"mean", "low", "high", "images"}; tensors that are flat on every
        picture, or have no map of the block's size, are not there.
    """
    classes = observe(model, normalise(images[:1]))[0].shape[1]
    twin = start_of(name, normalise(images), seed, classes).to(images.device)
    blocks = sorted({each.block for each in attention.values() if each.block.startswith(("layer", "stage"))})
    found: dict[str, dict[str, list]] = {"twin": {}, "agreement": {}}
    for part in batches(len(images), BATCH):
        pictures = normalise(images[part])
        before = observe(twin, pictures)[1]
        _, records, cams = observe(model, pictures, blocks)
        for path, each in attention.items():
            found["twin"].setdefault(path, []).append(rank_correlation(records[path], before[path]))
            shown, cam = spatial_map(each, records[path]), cams.get(each.block)
            if shown is not None and cam is not None and shown.shape == cam.shape:
                found["agreement"].setdefault(path, []).append(rank_correlation(shown, cam))
        advance(4 * len(part))
    return {
        kind: {path: value for path, parts in group.items() if (value := summary(np.concatenate(parts)))}
        for kind, group in found.items()
    }


def rank_correlation(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """Spearman's, (B,), of two tensors (B, ...) picture by picture; NaN where one is flat."""
    from scipy.stats import rankdata  # a second to import

    ranks = [rankdata(t.flatten(1).cpu().numpy(), axis=1) for t in (one, other)]
    ranks = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    spread = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ranks[0] * ranks[1]).sum(1) / spread


def summary(values: np.ndarray) -> dict | None:
    """Mean over pictures and its 95 % interval, without NaN; None where most are: the rest stands for few."""
    values = np.asarray(values, np.float64)
    total, values = len(values), values[np.isfinite(values)]
    if 2 * len(values) < max(total, 1):
        return None
    mean = values.mean()
    spread = Z * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    low, high = (rounded(float(mean + sign * spread)) for sign in (-1, 1))
    return {"mean": rounded(float(mean)), "low": low, "high": high, "images": len(values)}


# Are they faithful?


def maps_of(attention: Mapping[str, Attention]) -> list[str]:
    """What is measured: Grad-CAM, each spatial attention map by its path, and the controls."""
    paths = [
        path
        for path, each in attention.items()
        if spatial_map(each, torch.empty(1, *each.shape, device="meta")) is not None
    ]
    return [GRAD_CAM, *paths, *CONTROLS]


def faithfulness(
    model: nn.Module,
    attention: Mapping[str, Attention],
    shown: str,
    images: torch.Tensor,
    advance: Advance = lambda count: None,
) -> dict[str, dict]:
    """How much the predicted class depends on the pixels that a map names first.

    Args:
        shown: one of `maps_of`.
        images: (N, 3, 32, 32) uint8, on the network's device.

    Returns:
        `road`: probability lost without the first pixels, less that lost without the last ones, halved (the
        package's ROADCombined; more is better). `deletion`: mean probability while pixels turn to the mean
        colour, the first ones first (less is better). `insertion`: the same while they come back into a
        blurred picture (more is better). Each {"mean", "low", "high", "images"}.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022;
    Petsiuk et al., RISE, BMVC 2018.
    """
    from torchvision.transforms.functional import gaussian_blur  # a second to import

    scores: dict[str, list[np.ndarray]] = {"road": [], "deletion": [], "insertion": []}
    with torch.inference_mode():
        blank = model(normalise(images[:1]) * 0).softmax(1)[0]  # what any picture ends as
    for number, part in enumerate(batches(len(images), BATCH)):
        pictures = normalise(images[part])
        logits, records, cams = observe(model, pictures, [CAM_BLOCK] if shown == GRAD_CAM else ())
        target = logits.argmax(1)

        def probability(changed: torch.Tensor, target: torch.Tensor = target) -> torch.Tensor:
            with torch.inference_mode():
                return model(changed).softmax(1).gather(1, target[:, None])[:, 0]

        if shown == GRAD_CAM:
            drawn = cams[CAM_BLOCK]
        elif shown in CONTROLS:
            drawn = control(shown, pictures, number)
        else:
            drawn = spatial_map(attention[shown], records[shown])
        ranks = order_of(drawn, number)
        scores["road"].append(road(model, pictures, logits, ranks, number))
        ends = logits.softmax(1).gather(1, target[:, None])[:, 0], blank[target]
        scores["deletion"].append(curve(probability, pictures, torch.zeros_like(pictures), ranks, ends))
        blurred = gaussian_blur(pictures, 11, 5.0)
        ends = probability(blurred), ends[0]
        scores["insertion"].append(curve(probability, blurred, pictures, ranks, ends))
        advance(cost() * len(part))
    return {kind: summary(np.concatenate(parts)) for kind, parts in scores.items()}


def cost() -> int:
    """Forward passes that a picture costs in `faithfulness`, about."""
    return 2 * len(PERCENTILES) + 2 * (STEPS - 1) + 2


def control(name: str, pictures: torch.Tensor, number: int) -> torch.Tensor:
    """A map (B, h, w) that knows nothing of the network: noise, a blob in the centre, or the edges."""
    count, _, height, width = pictures.shape
    if name == "random":
        generator = torch.Generator().manual_seed(number)
        return torch.rand(count, height, width, generator=generator).to(pictures.device)
    if name == "centre":
        along = [torch.linspace(-1, 1, size, device=pictures.device) for size in (height, width)]
        return (-along[0][:, None].square() - along[1].square()).expand(count, -1, -1)
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], device=pictures.device)
    grey = F.pad(pictures.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None]).square().sum(1)


def order_of(drawn: torch.Tensor, number: int) -> torch.Tensor:
    """A map (B, h, w), enlarged, as ranks (B, 32, 32) from 0 to 1; ties fall by lot, the same every time."""
    flat = F.interpolate(drawn[:, None].float(), (32, 32), mode="bilinear")[:, 0].flatten(1)
    lots = torch.rand(flat.shape, generator=torch.Generator().manual_seed(1000 + number)).argsort(1)
    lots = lots.to(flat.device)
    mixed = flat.gather(1, lots).argsort(dim=1, stable=True)  # places among the lots, lowest value first
    order = lots.gather(1, mixed)
    ranks = torch.empty_like(flat)
    steps = torch.linspace(0, 1, flat.shape[1], device=flat.device).expand_as(flat)
    return ranks.scatter(1, order, steps).unflatten(1, (32, 32))


def curve(
    probability: Callable[[torch.Tensor], torch.Tensor],
    before: torch.Tensor,
    after: torch.Tensor,
    ranks: torch.Tensor,
    ends: tuple[torch.Tensor, torch.Tensor],
) -> np.ndarray:
    """Area (B,) under the probability while `before` turns into `after`, pixels of high rank first."""
    points = [ends[0]]
    for step in range(1, STEPS):
        changed = (ranks > 1 - step / STEPS)[:, None]
        points.append(probability(torch.where(changed, after, before)))
    return torch.trapezoid(torch.stack([*points, ends[1]]), dx=1 / STEPS, dim=0).cpu().numpy()


def road(
    model: nn.Module, pictures: torch.Tensor, logits: torch.Tensor, ranks: torch.Tensor, seed: int
) -> np.ndarray:
    """(B,): see `faithfulness`."""
    from pytorch_grad_cam.metrics.road import ROADCombined  # seconds to import
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    def answer(asked: torch.Tensor) -> torch.Tensor:  # the package asks for the whole pictures each time
        with torch.inference_mode():
            return logits if asked is pictures else model(asked)

    targets = [ClassifierOutputSoftmaxTarget(int(target)) for target in logits.argmax(1)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # its imputation adds a little noise
        return ROADCombined(list(PERCENTILES))(pictures, ranks.cpu().numpy(), targets, answer)
