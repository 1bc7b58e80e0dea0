"""The recipes: named settings of a training run, each with its unit; why, at the setting or at the recipe."""

import json
from dataclasses import asdict, dataclass
from operator import mul


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run. Fixed before the first entry was trained with it, the same for all.

    Args:
        epochs: passes over the training images.
        batch: images a step.
        lr: (epoch, learning rate) pairs, linear in between.
        weight_decay: on parameters with two or more axes; biases, norms and scalars have none. 5e-4 is the
            usual value for ResNets on CIFAR.
        nesterov: SGD's momentum of 0.9 in Nesterov's form, which looks ahead: better in few epochs.
        label_smoothing: share of the target spread over all classes; keeps short runs from overconfidence.
        padding, flip, cutout: see `data.Augmenter`. Mirrored borders look more like pictures than black
            ones, and alternating flips show each image both ways in any two epochs.
        sizes: (epoch, side) pairs: from this epoch on the pictures are resized to this side, in pixels.
        average_from: epoch from which an exponential moving average of the weights is kept and shipped.
        average_decay: of that average, per step.
        limit: train on this many images only.
    """

    epochs: int
    batch: int
    lr: tuple[tuple[float, float], ...]
    weight_decay: float = 5e-4
    nesterov: bool = True
    label_smoothing: float = 0.1
    padding: str = "reflect"
    flip: str = "alternating"
    cutout: int = 0
    sizes: tuple[tuple[int, int], ...] = ((0, 32),)
    average_from: int | None = None
    average_decay: float = 0.999
    limit: int | None = None


RECIPES = {
    # The usual long schedule of CIFAR repositories: x0.1 at epochs 80 and 120, after one epoch of warm-up.
    "paper": Recipe(
        epochs=160,
        batch=128,
        lr=((0, 0.0), (1, 0.1), (80, 0.1), (80, 0.01), (120, 0.01), (120, 0.001), (160, 0.001)),
        nesterov=False,
        label_smoothing=0.0,
        padding="constant",
        flip="random",
    ),
    # A minute or two on a large GPU: big batches, one triangle of learning rate, cutout against overfitting.
    "gpu": Recipe(epochs=45, batch=512, lr=((0, 0.0), (9, 0.4), (45, 0.0)), cutout=8, average_from=22),
    # One to four hours on a core with bfloat16, by mechanism and by what else runs: most epochs on small
    # pictures, where an image costs a third. Twelve epochs are what two cores can give forty networks; a
    # batch of 128 leaves enough steps, and a quarter of them warms up to a rate that suits so short a run.
    "cpu": Recipe(
        epochs=12, batch=128, lr=((0, 0.0), (3, 0.2), (12, 0.0)), sizes=((0, 16), (6, 24), (9, 32))
    ),
    # A few steps, to see that everything runs.
    "smoke": Recipe(epochs=1, batch=64, lr=((0, 0.02), (1, 0.02)), limit=512),
    # Every part of `gpu` in four steps, for `python -m models.train.sweep --dry-run`.
    "dry": Recipe(
        epochs=1, batch=128, lr=((0, 0.0), (1, 0.1)), cutout=8, average_from=0, average_decay=0.5, limit=512
    ),
}

ON_GPU = ("gpu", "paper")  # nobody would wait for these on a CPU

# Whose networks stand in `checkpoints/`, where the page and the table find them: one recipe for a GPU, one
# for a processor. `paper` repeats what others did, the rest are trials: they are told where to write.
SHIPPED = ("gpu", "cpu")


def settings(recipe: Recipe) -> dict:
    """A recipe as JSON gives it back."""
    return json.loads(json.dumps(asdict(recipe)))


def share_done(recipe: Recipe, epochs: float) -> float:
    """The share of a run's work, from 0 to 1, that so many epochs are.

    Epochs on small pictures are cheaper: on a CPU a third at 16 pixels, two thirds at 24, of one at 32.
    """
    starts, sides = zip(*recipe.sizes)
    ends = (*starts[1:], recipe.epochs)
    costs = [(side / 32) ** 1.5 for side in sides]  # of an epoch
    done = [max(0.0, min(epochs, end) - start) for start, end in zip(starts, ends)]  # epochs of each size
    whole = [end - start for start, end in zip(starts, ends)]
    return sum(map(mul, costs, done)) / sum(map(mul, costs, whole))
