"""One training run: what an interruption must not lose, the step that changes it, and the files it writes."""

import ast
import hashlib
import io
import json
import math
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ..checkpoint import CHECKPOINTS, CheckpointError, locked, read_facts, save, write_atomically
from ..data import Augmenter, DataError, hold_out, home, load
from ..losses import collecting_losses
from ..networks import build, find
from ..results.evaluate import evaluate, logits_of, percent_correct
from .convolution import AsProducts
from .recipe import RECIPES, SHIPPED, settings, share_done

SAVE_EVERY = 120  # seconds; what a crash costs at most
RESUMED = "was stopped and can be resumed: give the command again."
AT_WORK = "Another process trains {name}."
ROOT = Path(__file__).parents[2]
SUM = hashlib.sha256().digest_size  # bytes at the beginning of `state.pt`


class TrainingError(Exception):
    """The run cannot go on; the message is one sentence for the user."""


class StoppedError(TrainingError):
    """The run was asked to stop: its state is saved, and the same command goes on from it."""


class Run:
    """One training run: everything that an interruption must not lose, and the step that changes it.

    Args:
        name: id in the catalogue.
        recipe: name in `RECIPES`.
        seed: of weights and data order.
        dataset: `cifar10` or `cifar100`.
        validate: train on 45,000 images and keep 5,000 for choosing recipes.
    """

    def __init__(
        self, name: str, recipe: str, seed: int = 0, dataset: str = "cifar10", validate: bool = False
    ):
        entry = find(name)  # an unknown name is refused before it costs a minute or leaves a folder
        self.code = sum_of_code(ROOT / entry.source)  # as it is now: somebody may rewrite it meanwhile
        self.name, self.recipe, self.seed = name, RECIPES[recipe], seed
        self.dataset, self.validate = dataset, validate
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.devices = [device_name(self.device)]  # and those of the run before it was interrupted
        self.folder = run_folder(name, recipe, seed, dataset, validate)
        self.folder.mkdir(parents=True, exist_ok=True)

        images, labels = load(dataset)
        self.classes = int(labels.max()) + 1
        if validate:
            kept, held = hold_out(labels)
            self.held_images, self.held_labels = images[held], labels[held]
            images, labels = images[kept], labels[kept]
        images, labels = images[: self.recipe.limit], labels[: self.recipe.limit]
        self.labels = labels.to(self.device)
        self.data = Augmenter(
            images.to(self.device), seed, self.recipe.padding, self.recipe.flip, self.recipe.cutout
        )
        self.steps = len(images) // self.recipe.batch  # a step has a full batch: BatchNorm likes that

        torch.manual_seed(seed)
        self.model = build(name, self.classes).to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(
            parameter_groups(self.model, self.recipe.weight_decay),
            lr=0.1,  # set anew at every step
            momentum=0.9,
            nesterov=self.recipe.nesterov,
            fused=True,
        )
        self.average = None
        if self.recipe.average_from is not None:
            ema = get_ema_multi_avg_fn(self.recipe.average_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=ema, use_buffers=True)
        # mechanisms with a schedule of their own, such as a temperature, are told how far the run is;
        # those in the average, too: the mean of a schedule would lag behind it
        networks = nn.ModuleList([self.model] if self.average is None else [self.model, self.average.module])
        self.scheduled = [module for module in networks.modules() if hasattr(module, "set_progress")]
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.losses, self.correct = [], []  # of this epoch, on the device

    def train(self, progress: bool = True) -> None:
        """Runs to the end of the recipe, from the beginning or from where an earlier run stopped."""
        self.resume()
        self.forget()
        per_epoch = self.steps * self.recipe.batch
        with (
            stopping_cleanly() as stop,
            tqdm(
                total=self.recipe.epochs * per_epoch,
                initial=self.epoch * per_epoch + self.step * self.recipe.batch,
                desc=self.name,
                unit="img",
                unit_scale=True,
                mininterval=2,
                disable=None if progress else True,  # None: no bar where nobody looks, as in a log
            ) as bar,
        ):
            saved = time.monotonic()
            self.began = saved - self.seconds  # as if the run had never been interrupted
            self.note()
            while self.epoch < self.recipe.epochs:
                self.data.start(self.epoch)
                self.epoch_began, self.epoch_began_at = time.monotonic(), self.step
                while self.step < self.steps:
                    self.train_step()
                    self.step += 1
                    bar.update(self.recipe.batch)
                    if stop or time.monotonic() - saved > SAVE_EVERY:
                        self.save_state()
                        self.note(stopped=bool(stop))
                        saved = time.monotonic()
                    if stop:
                        raise StoppedError(f"{self.name} {RESUMED}")
                self.finish_epoch()
                if self.epoch == self.recipe.epochs or time.monotonic() - saved > SAVE_EVERY:
                    self.save_state()  # not after each epoch: on a GPU one takes as long as this
                    saved = time.monotonic()
                bar.set_postfix(epoch=self.epoch, loss=f"{self.last_loss:.3f}")
            if stop:  # while the last state was saved: to measure the network takes minutes
                self.note(stopped=True)
                raise StoppedError(f"{self.name} {RESUMED}")

    def train_step(self) -> None:
        """One batch: forward (see `fast`), backward, one step of SGD."""
        at = self.epoch + self.step / self.steps  # in epochs
        epochs, rates = zip(*self.recipe.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = float(np.interp(at, epochs, rates)) * group.get("lr_scale", 1.0)
        images, chosen = self.data.batch(self.step, self.recipe.batch)
        labels = self.labels[chosen]
        side = [side for epoch, side in self.recipe.sizes if self.epoch >= epoch][-1]
        if side != images.shape[-1]:
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        images = images.contiguous(memory_format=torch.channels_last)
        for module in self.scheduled:
            module.set_progress(at / self.recipe.epochs)
        with collecting_losses() as extras, fast(self.device):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        loss = loss + sum(extra(labels) for extra in extras)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.average is not None and self.epoch >= self.recipe.average_from:
            self.average.update_parameters(self.model)
        self.losses.append(loss.detach())
        self.correct.append((logits.detach().argmax(1) == labels).float().mean())

    def finish_epoch(self) -> None:
        """Appends a line to the metrics.

        Raises:
            TrainingError: the loss is no longer finite.
        """
        self.last_loss = self.check_loss()  # waits for the device
        accuracy = 100 * torch.stack(self.correct).mean().item()
        images = (self.step - self.epoch_began_at) * self.recipe.batch
        speed = images / (time.monotonic() - self.epoch_began)
        self.epoch, self.step, self.losses, self.correct = self.epoch + 1, 0, [], []
        self.note(
            loss=round(self.last_loss, 5),
            train_accuracy=round(accuracy, 3),
            lr=self.optimizer.param_groups[0]["lr"],
            images_per_second=round(speed, 1),
        )

    def check_loss(self) -> float:
        """The mean loss of this epoch so far. Before a state is saved: a lost one replaces no good one.

        Raises:
            TrainingError: the loss or the weights are no longer finite.
        """
        loss = torch.stack(self.losses).mean().item() if self.losses else 0.0
        sound = all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())
        if not (math.isfinite(loss) and sound):
            what = f"loss of {self.name} is {loss}"
            if math.isfinite(loss):
                what = f"weights of {self.name} are no longer finite"
            found = f"The {what} in epoch {self.epoch + 1}: stopped."
            file = self.folder / "state.pt"
            raise TrainingError(f"{found} To start anew, move {file} away." if file.exists() else found)
        return loss

    def note(self, **facts: float | bool) -> None:
        """Appends a line to the metrics: how far the run is, and these facts."""
        line = {
            "epoch": self.epoch,
            **facts,
            "done": round(share_done(self.recipe, self.epoch + self.step / self.steps), 5),
            "seconds": round(time.monotonic() - self.began, 1),
        }
        try:
            note(self.folder, line)
        except OSError as error:
            raise self.cannot_write(error) from error

    def cannot_write(self, error: OSError) -> TrainingError:
        """What is said when the disk is full."""
        return TrainingError(
            f"{self.name} was stopped, for nothing can be written to {self.folder} ({error.strerror}): "
            "the state from before is still there, and the same command goes on from it."
        )

    def identity(self) -> dict:
        """What a resumed run must share with the interrupted one."""
        return {
            "name": self.name,
            "seed": self.seed,
            "validate": self.validate,
            "recipe": settings(self.recipe),
            "code": self.code,
        }

    def save_state(self) -> None:
        """Writes `state.pt`: a SHA-256 sum of 32 bytes, and what `torch.save` makes of the state.

        Raises:
            TrainingError: it cannot be written, or the loss is not finite; the state before is still there.
        """
        self.check_loss()
        self.seconds = time.monotonic() - self.began
        state = {
            "settings": self.identity(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "place": (self.epoch, self.step, self.seconds),
            "metrics": (self.losses, self.correct),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "devices": self.devices,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        try:
            write_atomically(self.folder / "state.pt", hashlib.sha256(content).digest() + content)
        except OSError as error:
            raise self.cannot_write(error) from error

    def resume(self) -> None:
        """Takes up the saved state, if there is one.

        Raises:
            TrainingError: the state belongs to other settings, is damaged, or is no state.
        """
        file = self.folder / "state.pt"
        try:
            content = file.read_bytes()
            if hashlib.sha256(content[SUM:]).digest() != content[:SUM]:
                raise ValueError("the checksum differs")
            state = torch.load(io.BytesIO(content[SUM:]), map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{file} is damaged or no state: move it away to start anew.") from error
        if {"code": self.code} | state[
            "settings"
        ] != self.identity():  # states of an older version have no code
            raise TrainingError(
                f"{file} belongs to a run with other settings or code: move it away to start anew."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.step, self.seconds = state["place"]
        self.losses, self.correct = (
            [value.to(self.device) for value in values] for values in state["metrics"]
        )
        torch.set_rng_state(state["random"])
        random = state["cuda_random"]  # a list, of all GPUs, in states of an older version
        random = random if isinstance(random, torch.Tensor) else next(iter(random or []), None)
        if self.device.type == "cuda" and random is not None:
            torch.cuda.set_rng_state(random)
        self.devices = [*dict.fromkeys([*state.get("devices", []), *self.devices])]

    def forget(self) -> None:
        """Drops from the metrics what is cut off, and the epochs after the saved state: they come again."""
        file, lines = self.folder / "metrics.jsonl", []
        text = file.read_text("utf-8") if file.exists() else ""
        for line in text.splitlines():
            with suppress(ValueError):
                found = json.loads(line)
                if "loss" not in found or found["epoch"] <= self.epoch:
                    lines.append(line + "\n")
        if "".join(lines) != text:
            write_atomically(file, "".join(lines).encode())

    def result(self) -> nn.Module:
        """The network to ship: the average where the recipe keeps one."""
        return (self.model if self.average is None else self.average.module).eval()


def train_one(
    name: str,
    seed: int = 0,
    recipe: str = "gpu",
    dataset: str = "cifar10",
    validate: bool = False,
    folder: Path | None = None,
    progress: bool = True,
    replace: bool = False,
) -> dict:
    """Trains one entry and writes one checkpoint pair, measured as far as the test images are there.

    Args:
        folder: of the checkpoint; by default `checkpoints/`, for what ships.
        replace: a checkpoint of another recipe, seed or data set that is there already.

    Returns:
        the facts in the JSON file; in validation mode `{"validation_accuracy": percent}`, and no files.

    Raises:
        TrainingError: the run cannot go on, or may not write there; the latter before it begins.
    """
    if not validate:
        folder = place(name, recipe, seed, dataset, folder, replace)
    run = Run(name, recipe, seed, dataset, validate)
    with locked(run.folder / "state.pt", AT_WORK.format(name=name), 0):
        run.train(progress)
        model = run.result()
        if validate:
            return {
                "validation_accuracy": percent_correct(logits_of(model, run.held_images), run.held_labels)
            }
        try:
            images, labels = load(dataset, train=False)
            images, labels = images[: run.recipe.limit], labels[: run.recipe.limit]
            unrounded = percent_correct(logits_of(model, images), labels)
        except DataError:  # a machine that was given the training images only
            unrounded = None
        facts = {
            "name": name,
            "recipe": recipe,
            "settings": settings(run.recipe),
            "dataset": dataset,
            "seed": seed,
            "epochs": run.recipe.epochs,
            "images_seen": run.recipe.epochs * run.steps * run.recipe.batch,
            "accuracy_unrounded": unrounded,
            "train_seconds": round(run.seconds, 1),
            "device": "; ".join(run.devices),
            "torch": torch.__version__,
            "command": f"python -m models.train {name} --recipe {recipe} --seed {seed}"
            + (f" --dataset {dataset}" if dataset != "cifar10" else ""),
        }
        place(name, recipe, seed, dataset, folder, replace)  # by now another run may have put its own there
        save(model, name, facts, folder)
        return evaluate(name, folder)


def place(
    name: str, recipe: str, seed: int, dataset: str, folder: Path | None, replace: bool = False
) -> Path:
    """The folder that a run may write its checkpoint to.

    Raises:
        TrainingError: a network that does not ship has no folder, nothing can be written there, or there is a
            checkpoint of another run.
    """
    if folder is None and (recipe not in SHIPPED or dataset != "cifar10"):
        raise TrainingError(
            f"A network by the recipe {recipe} on {dataset} does not ship: "
            "say where it is to go with --folder."
        )
    folder = CHECKPOINTS if folder is None else folder
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise TrainingError(f"{folder} is no folder that can be written to.")
    if replace or not (folder / f"{name}.json").exists():
        return folder
    try:
        facts = read_facts(name, folder)
    except CheckpointError:
        facts = {}
    if not is_of(facts, recipe, seed, dataset):
        there = f"recipe {facts.get('recipe')}, seed {facts.get('seed')}" if facts else "it cannot be read"
        raise TrainingError(
            f"{folder} holds {name} by another recipe, seed or settings ({there}): --replace puts this run's "
            "network in its place, --folder puts it elsewhere."
        )
    return folder


def is_of(facts: dict, recipe: str, seed: int, dataset: str) -> bool:
    """Whether a checkpoint's facts are those of this run: the recipe as it is now, the same seed and data."""
    return (
        facts.get("settings") == settings(RECIPES[recipe])
        and facts.get("seed") == seed
        and facts.get("dataset", "cifar10") == dataset
    )


def is_finished(name: str, recipe: str, seed: int, dataset: str, folder: Path) -> bool:
    """Whether the checkpoint of this run is there, and measured: else it was stopped just before."""
    if not (folder / f"{name}.safetensors").exists():
        return False
    try:
        facts = read_facts(name, folder)
    except CheckpointError:
        return False
    return is_of(facts, recipe, seed, dataset) and "accuracy" in facts


def note(folder: Path, line: dict) -> None:
    """Appends a line to the metrics of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def run_folder(
    name: str, recipe: str, seed: int = 0, dataset: str = "cifar10", validate: bool = False
) -> Path:
    """Where a run keeps its state and its metrics."""
    return home() / "runs" / "-".join([dataset, name, recipe, f"seed{seed}"] + ["validate"] * validate)


def sum_of_code(source: Path) -> str:
    """A SHA-256 sum of a file's code, without comments and docstrings: who rewrites these trains the same."""
    tree = ast.parse(source.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [one for one in node.body if not is_said(one)]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def is_said(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The parameters for the optimiser: matrices decay, the others do not.

    What lies in a module with an `lr_scale` learns at that share of the recipe's rate, in groups of its own,
    behind those that learn at the full rate.
    """
    scales = {
        p: part.lr_scale for part in model.modules() if hasattr(part, "lr_scale") for p in part.parameters()
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault((scales.get(parameter, 1.0), parameter.ndim >= 2), []).append(parameter)
    return [
        {"params": groups[scale, decays], "weight_decay": weight_decay * decays, "lr_scale": scale}
        for scale, decays in sorted(groups, reverse=True)
    ]


def reason_in(lines: list[str]) -> str:
    """The line of an output that says why it ended: of an exception its name and its first line, for CUDA and
    the cluster write more below it, else the last one."""
    lines = [line for line in lines if line.strip() and not line.startswith(("srun:", "slurmstepd:"))]
    traces = [at for at, line in enumerate(lines) if line.startswith("Traceback ")]
    raised = [line for line in lines[traces[-1] + 1 :] if not line.startswith(" ")] if traces else lines[-1:]
    return (raised or ["no output"])[0].strip()


@contextmanager
def fast(device: torch.device) -> Iterator[None]:
    """Within it, a forward pass takes the arithmetic that this machine is fast at."""
    gains = gains_by_bfloat16(device)
    products = AsProducts() if gains and device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=gains), products:
        yield


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether autocast pays: on GPUs and on processors that have instructions for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.cpu.get_capabilities().get('cpu_name', 'CPU')}, {torch.get_num_threads()} thread(s)"


@contextmanager
def stopping_cleanly():
    """Yields a list that gets an element when somebody asks the process to stop."""
    asked: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, frame: asked.append(number)) for number in signals]
    try:
        yield asked
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)
