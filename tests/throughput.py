"""How fast training is beside the usual way of training: python -m tests.throughput

    --steps 20 --rounds 5     longer or shorter turns
    --threads 2               CPU threads of both (default: all)
    --batch 16                images a step of both, to see on a busy machine that it runs

The usual way is that of the CIFAR repositories that most people start from (kuangliu/pytorch-cifar): pictures
are decoded, cropped, flipped and normalised one by one by torchvision in two loader workers, the network runs
in float32 with images in the default layout, and loss and hits are copied to the host after every batch. Ours
is `models.train` as it is: the recipe `gpu` on a GPU, on a CPU the last epochs of the recipe `cpu`, on whole
pictures. Both train the same ResNet18, take turns on the same machine, and are printed as a ratio, the median
over the rounds. Run it on a quiet machine.

On a GPU a whole run of `plain` follows: seconds and epochs to 94 % and 95 % of the test images.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from models import build
from models.data import DataError, load
from models.preprocessing import MEAN, STD
from models.results.evaluate import logits_of, percent_correct
from models.train.recipe import RECIPES
from models.train.run import Run, device_name
from models.train.sweep import scratch_home

BARS = {"cpu": 1.7, "cuda": 5.0}
READY = 4  # batches that two loader workers hold ready: not timed, for they were made in the other's turn
AIRBENCH = (
    "    airbench (Jordan 2024), on an A100: 94 / 95 / 96 % in 2.6 / 10.4 / 27 s with small tuned networks,\n"
    "    96.0 % in about 420 s with a standard ResNet18"
)


class Pictures(Dataset):
    """CIFAR-10 as torchvision gives it: one PIL image at a time, transformed."""

    def __init__(self):
        images, self.labels = load()
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def usual_way(device: torch.device, batch: int) -> Iterator[int]:
    """Trains for ever, a step at each `next`, which gives the images of that step."""
    model = build("plain").to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(Pictures(), batch_size=batch, shuffle=True, num_workers=2)
    total, correct, seen = 0.0, 0, 0
    while True:
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            _, predicted = logits.max(1)
            seen += len(labels)
            correct += predicted.eq(labels).sum().item()
            yield len(labels)


def our_way(run: Run) -> Iterator[int]:
    """The same of our own loop, in the last epoch of its recipe."""
    run.epoch = run.recipe.epochs - 1
    while True:
        run.data.start(run.epoch)
        for step in range(run.steps):
            run.step = step
            run.train_step()
            yield run.recipe.batch


def images_per_second(steps: Iterator[int], count: int, device: torch.device, untimed: int) -> float:
    for _ in range(untimed):
        next(steps)
    wait(device)
    began = time.perf_counter()
    images = sum(next(steps) for _ in range(count))
    wait(device)
    return images / (time.perf_counter() - began)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Watched(Run):
    """A run that counts the right answers to the test images after each epoch, outside its own time.

    For this one figure only: how soon an accuracy is reached. No recipe and no network is chosen by it.
    """

    def __init__(self, targets: tuple[float, ...], say: Callable[[str], None]):
        super().__init__("plain", "gpu")
        self.test, self.targets, self.say = load(train=False), list(targets), say

    def save_state(self) -> None:
        """Nothing: this run is not resumed, and its seconds shall be those of training."""

    def finish_epoch(self) -> None:
        super().finish_epoch()
        stopped = time.monotonic()
        averaging = self.average is not None and self.epoch > self.recipe.average_from
        model = self.average.module if averaging else self.model
        accuracy = percent_correct(logits_of(model.eval(), self.test[0], batch=500), self.test[1])
        model.train()
        while self.targets and accuracy >= self.targets[0]:
            seconds = stopped - self.began
            self.say(f"{self.targets.pop(0)} % after {seconds:.1f} s, {self.epoch} epochs ({accuracy:.2f} %)")
        if self.epoch == self.recipe.epochs:
            self.say(f"{accuracy:.2f} % at the end, after {stopped - self.began:.1f} s, {self.epoch} epochs")
            for target in self.targets:
                self.say(f"{target} % not reached")
        self.began += time.monotonic() - stopped


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.throughput", description="Print the ratio.")
    parser.add_argument("--steps", type=int, default=20, help="timed in each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int, help="of both; by default 128, ours on a GPU 512")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with scratch_home():
        name = "gpu" if torch.cuda.is_available() else "cpu"
        if arguments.batch:
            RECIPES[name] = dataclasses.replace(RECIPES[name], batch=arguments.batch)
        try:
            run = Run("plain", name)
        except DataError as error:
            sys.exit(str(error))
        ours, usual = our_way(run), usual_way(run.device, arguments.batch or 128)
        print(
            f"{device_name(run.device)}, torch {torch.__version__}, recipe {name}, batch {run.recipe.batch}"
        )
        ratios = []
        for index in range(arguments.rounds):
            one = images_per_second(ours, arguments.steps, run.device, untimed=2)
            other = images_per_second(usual, arguments.steps, run.device, untimed=READY)
            ratios.append(one / other)
            print(
                f"round {index + 1}: ours {one:,.0f}, the usual way {other:,.0f} images a second", flush=True
            )
        ratio, bar = median(ratios), BARS[run.device.type]
        print(f"ours / the usual way: {ratio:.2f}   bar >= {bar}: {'met' if ratio >= bar else 'MISSED'}")
        del ours, usual, run
        if torch.cuda.is_available():
            print("plain by the recipe gpu, from the first step, test images counted after each epoch:")
            try:
                Watched((94.0, 95.0), lambda line: print(f"    {line}", flush=True)).train(progress=False)
            except DataError as error:  # a machine that was given the training images only
                print(f"    not measured: {error}")
            print(AIRBENCH)


if __name__ == "__main__":
    main()
