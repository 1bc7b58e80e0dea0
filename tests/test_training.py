"""Training: that it learns, that an interruption leaves no trace, and what is shipped.

Most runs train a tiny network on a tiny data set, in the place of a catalogue entry.
"""

import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from conftest import PER_FILE
from filelock import FileLock
from torch import nn

import models
from models import checkpoint, data, preprocessing
from models.checkpoint import CheckpointError, add_facts
from models.data import DataError
from models.losses import add_loss
from models.results import evaluate, predictions, table
from models.train import __main__ as train_command
from models.train import run as train
from models.train import sweep
from models.train.recipe import RECIPES, SHIPPED, Recipe
from models.train.run import Run, TrainingError, train_one
from tests import throughput

TOY = Recipe(
    epochs=3,
    batch=32,
    lr=((0, 0.0), (1, 0.1), (3, 0.0)),
    cutout=8,
    sizes=((0, 16), (2, 32)),
    average_from=1,
    average_decay=0.9,
)
STEPS = 5 * PER_FILE // TOY.batch  # of one epoch


class Tiny(nn.Module):
    """One convolution, BatchNorm, and dropout: something of everything that a run has to keep."""

    def __init__(self, name: str, num_classes: int = 10):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.bn = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(torch.relu(self.bn(self.conv(images)))).mean((2, 3)))


@pytest.fixture
def toy(tiny_cifar, monkeypatch) -> Path:
    """`plain` is a tiny network, `toy` a recipe, CIFAR-10 has 320 pictures; the home folder."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(models, "build", Tiny)
    monkeypatch.setattr(train, "build", Tiny)
    monkeypatch.setitem(RECIPES, "toy", TOY)
    return tiny_cifar


def use_recipe(monkeypatch, **changes) -> Recipe:
    recipe = dataclasses.replace(TOY, **changes)
    monkeypatch.setitem(RECIPES, "toy", recipe)
    return recipe


def everything(run: Run) -> dict[str, torch.Tensor]:
    """All tensors that training changes, by name."""
    found = {f"model {key}": value for key, value in run.model.state_dict().items()}
    found |= {f"average {key}": value for key, value in run.average.state_dict().items()}
    for index, state in run.optimizer.state_dict()["state"].items():
        found[f"momentum {index}"] = state["momentum_buffer"]
    return {**found, "random": torch.get_rng_state()}


def notes(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def metrics(folder: Path) -> list[dict]:
    """What was noted at the end of each epoch."""
    return [line for line in notes(folder) if "loss" in line]


def history(folder: Path) -> list[dict]:
    """The metrics without what depends on the clock."""
    return [{key: line[key] for key in ("epoch", "loss", "train_accuracy", "lr")} for line in metrics(folder)]


# Learning.


def test_the_loss_falls(toy, monkeypatch):
    use_recipe(monkeypatch, epochs=6, lr=((0, 0.1), (6, 0.0)), batch=16, cutout=0)
    run = Run("plain", "toy")
    run.train(progress=False)
    lines = metrics(run.folder)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert lines[-1]["train_accuracy"] > 60
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert all(line["images_per_second"] > 0 for line in lines)


def test_a_share_of_the_target_goes_to_all_classes(toy, monkeypatch):
    use_recipe(monkeypatch, label_smoothing=0.2)
    run, seen = Run("plain", "toy"), []
    run.model.register_forward_hook(lambda module, images, logits: seen.append(logits.detach()))
    run.data.start(0)
    run.train_step()
    scores = seen[0].float().log_softmax(1)  # (B, 10)
    labels = run.labels[run.data.order[: TOY.batch]]
    right = scores[torch.arange(TOY.batch), labels].mean().item()
    assert run.losses[0].item() == pytest.approx(-0.8 * right - 0.2 * scores.mean().item(), rel=1e-5)
    assert run.losses[0].item() != pytest.approx(-right, rel=1e-3)


class Demanding(Tiny):
    """Brings a loss of 100 for every label, and wants to know how far the run is."""

    def __init__(self, name: str, num_classes: int = 10):
        super().__init__(name, num_classes)
        self.register_buffer("progress", torch.tensor(-1.0))

    def set_progress(self, progress: float) -> None:
        self.progress.fill_(progress)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        add_loss(lambda labels: 100 * torch.ones_like(labels).float().mean() + 0 * self.fc.bias.sum())
        return super().forward(images)


def test_a_mechanism_brings_its_loss_and_its_schedule(toy, monkeypatch):
    monkeypatch.setattr(train, "build", Demanding)
    run = Run("plain", "toy")
    run.train(progress=False)
    assert 100 < run.last_loss < 110
    last_step = (TOY.epochs - 1 / STEPS) / TOY.epochs
    assert run.model.progress.item() == pytest.approx(last_step)
    assert run.average.module.progress.item() == pytest.approx(last_step)  # not the mean of the schedule
    Demanding("plain")(torch.zeros(1, 3, 32, 32))  # outside training nobody collects


def test_the_dry_run_has_every_part_of_the_gpu_recipe():
    dry, gpu = RECIPES["dry"], RECIPES["gpu"]
    parts = ("weight_decay", "nesterov", "label_smoothing", "padding", "flip", "cutout", "sizes")
    assert [getattr(dry, part) for part in parts] == [getattr(gpu, part) for part in parts]
    assert dry.average_from is not None and gpu.average_from is not None
    assert (dry.epochs, dry.limit) == (1, 512)


@pytest.mark.parametrize("name", ["ocr", "dgc"])
def test_the_losses_of_ocr_and_dgc_are_trained(tiny_cifar, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    use_recipe(monkeypatch, batch=8, limit=8, cutout=0)
    collected, begin = [], train.collecting_losses

    @contextmanager
    def watched():
        with begin() as losses:
            yield losses
        collected.extend(losses)

    monkeypatch.setattr(train, "collecting_losses", watched)
    run = Run(name, "toy")
    run.data.start(0)
    run.train_step()
    assert collected and all(extra(run.labels[:8]).item() > 0 for extra in collected)


def test_the_temperature_of_dynamic_convolution_follows_the_run(tiny_cifar, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    use_recipe(monkeypatch, batch=8, limit=8)
    run = Run("dynamic_conv", "toy")
    in_network = [module for module in run.model.modules() if hasattr(module, "set_progress")]
    assert len(in_network) == 4 and len(run.scheduled) == 8  # those of the average, too
    told = []
    for module in run.scheduled:
        monkeypatch.setattr(module, "set_progress", told.append)
    run.epoch = 1
    run.data.start(1)
    run.train_step()
    assert told == [pytest.approx(1 / 3)] * 8


@pytest.mark.slow
def test_a_real_network_from_training_to_checkpoint(tiny_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    use_recipe(monkeypatch, epochs=1, batch=8, limit=16, average_from=0)
    facts = train_one("cbam", seed=3, recipe="toy", folder=tmp_path / "out", progress=False)
    assert facts == json.loads((tmp_path / "out" / "cbam.json").read_text())
    assert (facts["name"], facts["recipe"], facts["seed"], facts["images_seen"]) == ("cbam", "toy", 3, 16)
    assert facts["parameters"] == 11_263_842 and facts["test_images"] == 16
    assert facts["command"] == "python -m models.train cbam --recipe toy --seed 3"
    with torch.inference_mode():
        logits = checkpoint.restore_with_facts("cbam", tmp_path / "out")[0](evaluate.synthetic_picture())
    assert torch.equal(logits[0], torch.tensor(facts["logits_check"]))
    assert 1.1e9 < facts["flops"] < 1.3e9  # two per multiply-add


@pytest.mark.gpu
def test_one_step_on_a_gpu(tiny_cifar, monkeypatch):
    use_recipe(monkeypatch, epochs=1, limit=64)
    run = Run("se", "toy")
    assert run.device.type == "cuda"
    seen = []
    run.model.layer3[1].conv2.register_forward_hook(lambda module, inputs, output: seen.append(output))
    before = run.model.conv1.weight.detach().clone()
    run.train(progress=False)
    assert seen[0].dtype == torch.bfloat16
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert run.model.conv1.weight.dtype == torch.float32
    assert run.model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(run.model.conv1.weight, before) and math.isfinite(run.last_loss)
    again = Run("se", "toy")
    again.resume()
    assert again.epoch == 1 and torch.equal(again.model.conv1.weight, run.model.conv1.weight)


# Interruption.


class Crash(Exception):
    """As if the machine lost its power."""


@pytest.fixture
def uninterrupted(toy) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """How a run ends that nothing disturbs; its folder is moved out of the way."""
    run = Run("plain", "toy", seed=1)
    run.train(progress=False)
    state = {key: value.clone() for key, value in everything(run).items()}
    folder = run.folder.rename(run.folder.with_name("uninterrupted"))
    return state, history(folder)


def interrupt(monkeypatch, after: int, how) -> None:
    """Calls `how` at the end of the step with this number, counted from 1."""
    step, taken = Run.train_step, []

    def counted(run):
        step(run)
        taken.append(1)
        if len(taken) == after:
            how()

    monkeypatch.setattr(Run, "train_step", counted)


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def crash() -> None:
    raise Crash


def crash_at_once() -> None:
    """A crash of a run whose state is saved after each step and each epoch."""
    raise Crash


@pytest.mark.parametrize(
    "after, how",
    [
        (3, ask_to_stop),  # in mid-epoch
        (STEPS + 4, ask_to_stop),  # in mid-epoch, while the average is kept
        (2 * STEPS, ask_to_stop),  # with the last step of an epoch
        (STEPS + 1, crash),  # back to the beginning, for less than `SAVE_EVERY` has passed
        (3 * STEPS - 1, crash),
        (2 * STEPS, crash_at_once),  # back to the step before
        (2 * STEPS + 1, crash_at_once),  # back to the end of an epoch
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(uninterrupted, monkeypatch, after, how):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        interrupt(patch, after, how)
        if how is crash_at_once:
            patch.setattr(train, "SAVE_EVERY", 0)
        with pytest.raises(TrainingError if how is ask_to_stop else Crash):
            Run("plain", "toy", seed=1).train(progress=False)
    assert (train.run_folder("plain", "toy", 1) / "state.pt").exists() == (how is not crash)
    assert signal.getsignal(signal.SIGTERM) is before
    torch.manual_seed(99)  # another process, with other random numbers
    run = Run("plain", "toy", seed=1)
    run.train(progress=False)
    state, lines = uninterrupted
    ours = everything(run)
    assert sorted(ours) == sorted(state)
    for key, value in state.items():
        assert torch.equal(ours[key], value), key
    assert history(run.folder) == lines


def test_the_state_is_not_written_after_each_epoch(toy, monkeypatch):
    """It is 130 MB: on a GPU an epoch takes hardly longer than to write it."""
    written = []
    monkeypatch.setattr(Run, "save_state", lambda run: written.append(run.epoch))
    Run("plain", "toy").train(progress=False)
    assert written == [TOY.epochs]


def test_a_run_that_moved_to_another_machine_names_both(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "device_name", lambda device: "the first")
    with monkeypatch.context() as patch:
        interrupt(patch, 3, ask_to_stop)
        with pytest.raises(TrainingError):
            train_one("plain", recipe="toy", folder=tmp_path, progress=False)
    monkeypatch.setattr(train, "device_name", lambda device: "the second")
    assert (
        train_one("plain", recipe="toy", folder=tmp_path, progress=False)["device"] == "the first; the second"
    )


def test_a_failure_is_named_by_the_line_that_names_the_error():
    told = """Traceback (most recent call last):
  File "run.py", line 3, in <module>
torch.AcceleratorError: CUDA error: out of memory
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."""
    assert train.reason_in(told.splitlines()) == "torch.AcceleratorError: CUDA error: out of memory"
    assert train.reason_in(["Killed"]) == "Killed" and train.reason_in([]) == "no output"
    stopped = ["plain was stopped and can be resumed", "srun: error: task 0: Exited with exit code 1"]
    assert train.reason_in(stopped) == stopped[0]
    began = "Traceback (most recent call last):"
    chained = [began, "  in read", "KeyError: 'x'", "", began]
    assert train.reason_in([*chained, "  in run", "zipfile.BadZipFile: no"]) == "zipfile.BadZipFile: no"


@pytest.mark.parametrize(
    "line", ['{"failed": "The loss of plain is nan in epoch 3"}\n', '{"epoch": 3, "loss": 1.2']
)
def test_a_run_goes_on_whatever_its_metrics_end_with(toy, line):
    """Why it failed, which the sweep notes; what was written as the disk became full."""
    run = Run("plain", "toy")
    with (run.folder / "metrics.jsonl").open("a") as stream:
        stream.write(line)
    run.train(progress=False)
    assert [found["epoch"] for found in metrics(run.folder)] == [1, 2, 3]


def test_the_state_of_an_older_version_is_taken_up(stopped):
    content = torch.load(io.BytesIO(stopped.read_bytes()[train.SUM :]), weights_only=True)
    del content["devices"]
    torch.save({**content, "cuda_random": []}, buffer := io.BytesIO())
    stopped.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    run = Run("plain", "toy")
    run.resume()
    assert (run.epoch, run.step) == (0, 3)


def test_the_random_state_matters_here(toy):
    """The comparison above can fail: the toy network draws random numbers, and another seed changes it."""
    runs = [Run("plain", "toy", seed=seed) for seed in (1, 2)]
    for run in runs:
        run.train(progress=False)
    assert not torch.equal(runs[0].model.conv.weight, runs[1].model.conv.weight)
    run = Run("plain", "toy", seed=1)
    (run.folder / "state.pt").unlink()
    torch.manual_seed(99)  # after the network was made: only dropout differs
    run.train(progress=False)
    assert not torch.equal(run.model.conv.weight, runs[0].model.conv.weight)


def test_stopping_says_how_to_go_on(toy, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        interrupt(patch, 2, ask_to_stop)
        with pytest.raises(
            TrainingError, match="^plain was stopped and can be resumed: give the command again.$"
        ):
            train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    folder = train.run_folder("plain", "toy")
    begun, stopped = notes(folder)
    assert begun["done"] == 0 and "stopped" not in begun
    assert stopped["stopped"] and stopped["done"] == pytest.approx(
        2 / STEPS * 0.5**1.5 / (2 * 0.5**1.5 + 1), abs=1e-4
    )
    Run("plain", "toy").train(progress=False)
    again = notes(folder)[2:]
    assert again[0]["done"] == stopped["done"] and again[-1]["done"] == 1
    assert not any(line.get("stopped") for line in again)


def test_a_long_epoch_is_noted_on_the_way(toy, monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    run = Run("plain", "toy")
    run.train(progress=False)
    done = [line["done"] for line in notes(run.folder)]
    assert len(done) > TOY.epochs * STEPS and done == sorted(done)


@pytest.fixture
def stopped(toy, monkeypatch) -> Path:
    """The state of a run that was asked to stop."""
    with monkeypatch.context() as patch:
        interrupt(patch, 3, ask_to_stop)
        with pytest.raises(TrainingError):
            Run("plain", "toy").train(progress=False)
    return train.run_folder("plain", "toy") / "state.pt"


def flipped(content: bytes, at: float) -> bytes:
    index = int(at * (len(content) - 1))
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        *[lambda content, at=at: flipped(content, at) for at in (0, 0.001, 0.2, 0.4, 0.6, 0.8, 0.95, 1)],
        lambda content: content[:-1],
        lambda content: content[:10],
        lambda content: b"",
        lambda content: content[train.SUM :],  # as `torch.save` leaves it
        lambda content: hashlib.sha256(b"no state").digest() + b"no state",
    ],
)
def test_a_damaged_state_is_refused(stopped, tmp_path, damage):
    content = damage(stopped.read_bytes())
    stopped.write_bytes(content)
    with pytest.raises(
        TrainingError, match=r"state.pt is damaged or no state: move it away to start anew\.$"
    ):
        train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    assert stopped.read_bytes() == content and not (tmp_path / "out").exists()


def test_a_folder_in_place_of_the_state_is_refused(stopped):
    stopped.unlink()
    stopped.mkdir()
    with pytest.raises(TrainingError, match="state.pt is damaged or no state"):
        Run("plain", "toy").train(progress=False)


def full_disk(*arguments) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["state", "metrics"])
def test_a_full_disk_leaves_the_state_from_before(stopped, monkeypatch, place):
    before = stopped.read_bytes()
    with monkeypatch.context() as patch:
        if place == "state":
            patch.setattr(os, "fsync", full_disk)
        else:
            patch.setattr(train, "note", full_disk)
        with pytest.raises(
            TrainingError, match="^plain was stopped, for nothing can be .*No space left on dev"
        ):
            Run("plain", "toy").train(progress=False)
    assert stopped.read_bytes() == before
    assert sorted(file.name for file in stopped.parent.iterdir()) == ["metrics.jsonl", "state.pt"]
    run = Run("plain", "toy")
    run.resume()
    assert (run.epoch, run.step) == (0, 3)


def test_a_finished_run_trains_nothing_more(toy, monkeypatch, tmp_path):
    train_one("plain", recipe="toy", folder=tmp_path / "one", progress=False)
    monkeypatch.setattr(Run, "train_step", crash)
    train_one("plain", recipe="toy", folder=tmp_path / "two", progress=False)
    one, two = ((tmp_path / folder / "plain.safetensors").read_bytes() for folder in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    "change", [{"batch": 16}, {"weight_decay": 0.0}, {"epochs": 4}, {"sizes": ((0, 32),)}]
)
def test_a_changed_recipe_does_not_resume(toy, monkeypatch, change):
    with monkeypatch.context() as patch:
        interrupt(patch, 3, ask_to_stop)
        with pytest.raises(TrainingError):
            Run("plain", "toy").train(progress=False)
    use_recipe(monkeypatch, **change)
    with pytest.raises(TrainingError, match="belongs to a run with other settings"):
        Run("plain", "toy").train(progress=False)


SOURCE = """class Gate:
    {said}
    def forward(self, x):
        return {does}
"""


@pytest.fixture
def written(monkeypatch, tmp_path) -> Callable[..., None]:
    """Writes the file that makes `plain`."""
    file, entry = tmp_path / "gate.py", train.find("plain")
    monkeypatch.setattr(train, "find", lambda name: dataclasses.replace(entry, source=str(file)))
    return lambda does, said="pass": file.write_text(SOURCE.format(does=does, said=said))


@pytest.mark.parametrize("steps", [3, TOY.epochs * STEPS])
def test_changed_code_does_not_resume_and_changed_texts_do(toy, monkeypatch, tmp_path, written, steps):
    written("x", "'A sentence for the page.'")
    with monkeypatch.context() as patch, suppress(TrainingError):
        interrupt(patch, steps, ask_to_stop)
        Run("plain", "toy").train(progress=False)
    written("x  # the same", "'Another one.'")
    run = Run("plain", "toy")
    run.resume()
    assert run.epoch * STEPS + run.step == steps
    written("2 * x")
    with pytest.raises(TrainingError, match=r"belongs to a run with other settings or code: move it away"):
        train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False, replace=True)
    assert not (tmp_path / "out").exists()


def test_code_that_is_written_while_a_run_goes_on_is_not_what_it_runs(toy, written):
    written("x")
    run = Run("plain", "toy")
    written("2 * x")
    run.train(progress=False)
    with pytest.raises(TrainingError, match="belongs to a run with other settings or code"):
        Run("plain", "toy").resume()


def test_a_stop_in_the_last_moment_is_heard(toy, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        save = Run.save_state
        patch.setattr(Run, "save_state", lambda run: (save(run), ask_to_stop()))
        patch.setattr(train, "evaluate", crash)
        with pytest.raises(train.StoppedError):
            train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    assert notes(train.run_folder("plain", "toy"))[-1]["stopped"]
    monkeypatch.setattr(Run, "train_step", crash)  # all is trained
    assert train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)["accuracy"]


def test_runs_do_not_share_a_folder(toy, monkeypatch):
    monkeypatch.setattr(train, "hold_out", lambda labels: data.hold_out(labels, 100))
    runs = [
        Run("plain", "toy"),
        Run("plain", "toy", seed=1),
        Run("plain", "toy", validate=True),
        Run("se", "toy"),
    ]
    assert len({run.folder for run in runs}) == len(runs)
    assert all(run.folder.is_relative_to(toy / "runs") for run in runs)


def test_a_loss_that_is_not_finite_stops_the_run(toy, monkeypatch, tmp_path):
    use_recipe(monkeypatch, lr=((0, 1e20), (3, 1e20)))
    with pytest.raises(TrainingError, match=r"^The loss of plain is (nan|inf) in epoch 1: stopped\.$"):
        train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    assert not list((toy / "runs").glob("*/state.pt"))  # nothing to resume from
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    with pytest.raises(TrainingError, match=r"stopped\. To start anew, move .*state\.pt away\.$"):
        train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    (run := Run("plain", "toy")).resume()  # what is lost took the place of no state from before
    assert run.step and torch.stack(run.losses).isfinite().all()


# The settings.


@pytest.mark.parametrize(
    "name, rates",
    [
        ("paper", {0: 0.0, 0.5: 0.05, 1: 0.1, 79.9: 0.1, 80: 0.01, 119.9: 0.01, 120: 0.001, 159.9: 0.001}),
        ("gpu", {0: 0.0, 4.5: 0.2, 9: 0.4, 27: 0.2, 44.1: 0.01}),
        ("cpu", None),
        ("smoke", {0: 0.02, 0.9: 0.02}),
        ("dry", {0: 0.0, 0.5: 0.05}),
        ("toy", {0: 0.0, 0.5: 0.05, 1: 0.1, 2: 0.05}),
    ],
)
def test_learning_rates(toy, monkeypatch, name, rates):
    recipe = RECIPES[name]
    if rates is None:  # a triangle, whatever its length
        (start, low), (top, high), (end, last) = recipe.lr
        assert (start, low, end, last) == (0, 0.0, recipe.epochs, 0.0) and 0 < top < end / 2
        rates = {0: 0.0, top: high, (top + end) / 2: high / 2}
    assert recipe.lr[-1][0] == recipe.epochs
    monkeypatch.setitem(RECIPES, name, dataclasses.replace(recipe, batch=32, limit=None, sizes=((0, 32),)))
    run = Run("plain", name)
    for at, expected in rates.items():
        run.epoch, run.step = int(at), round((at - int(at)) * run.steps)
        run.data.start(run.epoch)
        run.train_step()
        assert [group["lr"] for group in run.optimizer.param_groups] == [pytest.approx(expected)] * 2, at


def test_weight_decay_acts_on_matrices_alone(toy):
    run = Run("plain", "toy")
    decayed, rest = run.optimizer.param_groups
    assert decayed["weight_decay"] == TOY.weight_decay and rest["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {id(run.model.conv.weight), id(run.model.fc.weight)}
    assert len(rest["params"]) == 4
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in run.optimizer.param_groups)


def test_pictures_grow_as_the_recipe_says(toy, monkeypatch):
    sides = []
    forward = Tiny.forward

    def watched(model, images):
        sides.append(images.shape[-1])
        return forward(model, images)

    monkeypatch.setattr(Tiny, "forward", watched)
    Run("plain", "toy").train(progress=False)
    assert sides == [16] * 2 * STEPS + [32] * STEPS


@pytest.mark.parametrize("name", ["paper", "gpu", "cpu", "smoke", "dry"])
def test_every_recipe_ends_on_whole_pictures(name):
    sizes = RECIPES[name].sizes
    assert sizes[0][0] == 0 and sizes[-1][1] == 32 and sizes[-1][0] < RECIPES[name].epochs


# What is shipped.


def test_the_average_is_shipped(toy, monkeypatch):
    use_recipe(monkeypatch, sizes=((0, 32),))
    weights, step = [], Run.train_step

    def watched(run):
        step(run)
        weights.append(run.model.fc.weight.detach().double().clone())

    monkeypatch.setattr(Run, "train_step", watched)
    run = Run("plain", "toy")
    run.train(progress=False)
    average = weights[STEPS]  # the average begins with the first step of epoch 1
    for value in weights[STEPS + 1 :]:
        average = 0.9 * average + 0.1 * value
    shipped = run.result()
    torch.testing.assert_close(shipped.fc.weight.double(), average, rtol=1e-5, atol=1e-6)
    assert (shipped.fc.weight - run.model.fc.weight).abs().max() > 1e-4
    assert not shipped.training
    assert not torch.equal(shipped.bn.running_mean, run.model.bn.running_mean)  # statistics too


def test_without_an_average_the_last_weights_are_shipped(toy, monkeypatch):
    use_recipe(monkeypatch, average_from=None)
    run = Run("plain", "toy")
    run.train(progress=False)
    assert run.average is None and run.result() is run.model and not run.model.training


def test_the_stored_file_is_what_is_measured(toy, tmp_path):
    facts = train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    images, labels = data.load(train=False)
    stored = checkpoint.restore_with_facts("plain", tmp_path / "out")[0]
    with torch.no_grad():
        single, mirrored = (stored(preprocessing.normalise(view)) for view in (images, images.flip(3)))
    assert facts["accuracy"] == pytest.approx(100 * (single.argmax(1) == labels).float().mean().item())
    both = (single + mirrored).argmax(1)
    assert facts["accuracy_mirror"] == pytest.approx(100 * (both == labels).float().mean().item())
    assert facts["test_images"] == PER_FILE
    assert facts["correct_of_first_200"] == (single.argmax(1) == labels).sum()  # 64 are all there are
    assert facts["epochs"] == 3 and facts["images_seen"] == 3 * STEPS * TOY.batch
    assert facts["settings"] == json.loads(json.dumps(dataclasses.asdict(TOY)))
    assert facts["train_seconds"] > 0 and facts["torch"] == torch.__version__
    assert abs(facts["accuracy_unrounded"] - facts["accuracy"]) < 5


def test_without_test_images_it_trains_all_the_same(toy, tmp_path):
    file = toy / "cifar10" / "test_batch.bin"
    file.rename(toy / "test_batch.bin")
    facts = train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    for key in ("accuracy", "accuracy_mirror", "accuracy_unrounded", "correct_of_first_200"):
        assert facts[key] is None
    (toy / "test_batch.bin").rename(file)
    facts = evaluate.evaluate("plain", tmp_path / "out")  # later, on a machine that has them
    assert facts["accuracy"] > 10 and facts["test_images"] == PER_FILE
    ((row,),) = (block["rows"] for block in table.results(tmp_path / "out"))
    assert facts["accuracy_unrounded"] is None and row["accuracy"]["value"] == round(facts["accuracy"], 2)


def test_measuring_again_without_test_images_keeps_the_accuracy(toy, tmp_path):
    before = train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    (toy / "cifar10" / "test_batch.bin").unlink()
    after = evaluate.evaluate("plain", tmp_path / "out")
    counted = ("accuracy", "accuracy_mirror", "correct_of_first_200", "test_images", "unusual_below")
    assert before["accuracy"] and [after[key] for key in counted] == [before[key] for key in counted]


def test_stopped_while_it_measures_a_network_is_not_called_finished(toy, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "store", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    facts = train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    assert predictions.read("plain", facts, tmp_path / "out") is not None


def test_of_two_processes_one_trains_a_network(toy, tmp_path):
    own = train.run_folder("plain", "toy")
    own.mkdir(parents=True)
    with (
        FileLock(own / ".state.pt.lock.tmp"),
        pytest.raises(CheckpointError, match=r"^Another process trains plain\.$"),
    ):
        train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_training_again_to_the_same_weights_keeps_what_was_measured_of_them(toy, tmp_path):
    facts = train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    add_facts("plain", {"evidence": {"sha256": facts["sha256"]}}, facts["sha256"], tmp_path / "out")
    again = train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False, replace=True)
    assert again["sha256"] == facts["sha256"] and again["evidence"] == {"sha256": facts["sha256"]}


def test_times_are_of_one_thread_whoever_measures():
    class Threads(nn.Linear):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return super().forward(x)

    seen, before = [], torch.get_num_threads()
    torch.set_num_threads(2)
    evaluate.milliseconds(Threads(32, 10), rounds=2)
    assert seen == [1, 1, 1] and torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_validation_ships_nothing(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "hold_out", lambda labels: data.hold_out(labels, 100))
    (toy / "cifar10" / "test_batch.bin").unlink()  # the test images have no part in it
    facts = train_one("plain", recipe="toy", validate=True, folder=tmp_path / "out", progress=False)
    assert list(facts) == ["validation_accuracy"] and 0 <= facts["validation_accuracy"] <= 100
    assert not (tmp_path / "out").exists()
    run = Run("plain", "toy", validate=True)
    assert run.data.count == 5 * PER_FILE - 100 and len(run.held_labels) == 100
    held = {image.numpy().tobytes() for image in run.held_images}
    inner = run.data.padded[:, :, 4:-4, 4:-4]
    assert held.isdisjoint(image.numpy().tobytes() for image in inner)


def test_all_training_images_are_used_otherwise(toy):
    assert Run("plain", "toy").data.count == 5 * PER_FILE


# Throughput (`python -m tests.throughput`).


def test_both_ways_of_training_take_turns(toy, monkeypatch):
    monkeypatch.setattr(throughput, "build", Tiny)
    ours = throughput.our_way(Run("plain", "toy"))
    usual = throughput.usual_way(torch.device("cpu"), batch=64)
    for _ in range(2):
        for steps in (ours, usual):
            assert throughput.images_per_second(steps, 3, torch.device("cpu"), untimed=1) > 0
    assert (next(ours), next(usual)) == (TOY.batch, 64)
    picture, label = throughput.Pictures()[7]
    assert picture.shape == (3, 32, 32) and abs(picture.mean()) < 3 and 0 <= label < 10


def test_the_time_to_an_accuracy_is_of_training_alone(toy, monkeypatch):
    monkeypatch.setitem(RECIPES, "gpu", TOY)
    said = []
    run = throughput.Watched((0.0, 101.0), said.append)
    run.train(progress=False)
    assert said[0].startswith("0.0 % after ") and ", 1 epochs" in said[0]
    assert "at the end" in said[1] and said[2] == "101.0 % not reached"
    assert not (run.folder / "state.pt").exists() and run.model.training


# The command lines.


def command(module, monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


def test_the_command_trains_and_prints_what_it_found(toy, monkeypatch, tmp_path, capsys):
    command(
        train_command,
        monkeypatch,
        "plain",
        "--recipe",
        "toy",
        "--seed",
        "4",
        "--folder",
        str(tmp_path / "out"),
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["seed"] == 4 and printed["accuracy"] is not None
    before = (tmp_path / "out" / "plain.safetensors").read_bytes()
    command(evaluate, monkeypatch, "plain", "--folder", str(tmp_path / "out"))
    assert f"{printed['accuracy']} %" in "".join(capsys.readouterr())
    assert (tmp_path / "out" / "plain.safetensors").read_bytes() == before  # measuring changes no weights


@pytest.mark.parametrize(
    "module, arguments, sentence",
    [
        (train_command, ("nothing", "--recipe", "toy"), "no mechanism 'nothing'"),
        (evaluate, ("nothing",), "no mechanism 'nothing'"),
        (evaluate, ("plain",), "plain is not trained yet"),
    ],
)
def test_the_commands_fail_with_a_sentence(tiny_cifar, tmp_path, monkeypatch, module, arguments, sentence):
    monkeypatch.setitem(RECIPES, "toy", TOY)
    with pytest.raises(SystemExit, match=sentence) as caught:
        command(module, monkeypatch, *arguments, "--folder", str(tmp_path / "out"))
    assert "\n" not in str(caught.value) and not str(caught.value).startswith('"')


def test_the_command_says_that_a_network_is_there_already(toy, monkeypatch, tmp_path, capsys):
    arguments = ("plain", "--recipe", "toy", "--folder", str(tmp_path / "out"))
    command(train_command, monkeypatch, *arguments)
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", crash)
        command(train_command, patch, *arguments)
    assert (
        capsys.readouterr().out == f"plain by the recipe toy with seed 0 is in {tmp_path / 'out'} already.\n"
    )
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


@pytest.fixture
def trained(toy, tmp_path) -> Path:
    """A folder with `plain` by the recipe `toy`."""
    train_one("plain", recipe="toy", folder=tmp_path / "out", progress=False)
    return tmp_path / "out"


OTHER = r"out holds plain by another recipe, seed or settings \(recipe toy, seed 0\): --replace puts "


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--recipe", "toy", "--seed", "1"), OTHER),
        (("--recipe", "smoke"), OTHER),
        (("--recipe", "cpu"), OTHER),
        (("--recipe", "toy", "--dataset", "cifar100"), OTHER),
    ],
)
def test_another_network_is_replaced_only_when_told(trained, monkeypatch, arguments, sentence):
    before = {file.name: file.read_bytes() for file in trained.iterdir()}
    monkeypatch.setattr(train, "Run", crash)  # nothing shall begin
    with pytest.raises(SystemExit, match=sentence) as caught:
        command(train_command, monkeypatch, "plain", *arguments, "--folder", str(trained))
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in trained.iterdir()} == before


def test_what_came_into_the_folder_meanwhile_is_not_replaced_either(trained, monkeypatch, tmp_path):
    begins = Run.train

    def train_beside(run: Run, progress: bool) -> None:
        begins(run, progress)
        shutil.copytree(trained, tmp_path / "late")  # of seed 0

    monkeypatch.setattr(Run, "train", train_beside)
    with pytest.raises(TrainingError, match="holds plain by another recipe, seed or settings"):
        train_one("plain", seed=1, recipe="toy", folder=tmp_path / "late", progress=False)
    assert json.loads((tmp_path / "late" / "plain.json").read_text())["seed"] == 0


def test_a_folder_that_is_none_is_refused_before_it_begins(toy, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(train, "Run", crash)
    for folder in (tmp_path / "file", tmp_path / "file" / "within"):
        with pytest.raises(TrainingError, match="is no folder that can be written to"):
            train_one("plain", recipe="toy", folder=folder, progress=False)


def test_a_network_whose_facts_cannot_be_read_is_not_replaced_either(trained, monkeypatch):
    (trained / "plain.json").write_text("{")
    with pytest.raises(TrainingError, match="it cannot be read"):
        train_one("plain", recipe="toy", folder=trained, progress=False)


def test_with_replace_another_network_takes_the_place(trained, monkeypatch, capsys):
    command(
        train_command,
        monkeypatch,
        "plain",
        "--recipe",
        "toy",
        "--seed",
        "1",
        "--folder",
        str(trained),
        "--replace",
    )
    assert json.loads(capsys.readouterr().out)["seed"] == 1
    assert json.loads((trained / "plain.json").read_text())["seed"] == 1


def test_a_run_that_was_stopped_before_it_was_measured_goes_on(trained):
    facts = json.loads((trained / "plain.json").read_text())
    accuracy = facts.pop("accuracy")
    (trained / "plain.json").write_text(json.dumps(facts))
    assert train_one("plain", recipe="toy", folder=trained, progress=False)["accuracy"] == accuracy


@pytest.mark.parametrize(
    "arguments",
    [
        *[("--recipe", recipe) for recipe in sorted(set(RECIPES) - {"gpu", "cpu"})],
        ("--recipe", "cpu", "--dataset", "cifar100"),
        ("--recipe", "dry", "--replace"),
    ],
)
def test_what_does_not_ship_needs_a_folder(toy, monkeypatch, arguments):
    monkeypatch.setattr(train, "Run", crash)
    with pytest.raises(SystemExit, match="does not ship: say where it is to go with --folder"):
        command(train_command, monkeypatch, "untrained", *arguments)
    assert set(SHIPPED) == {"gpu", "cpu"}
    for recipe in SHIPPED:
        assert train.place("untrained", recipe, 0, "cifar10", None) == checkpoint.CHECKPOINTS


@pytest.mark.parametrize("threads", ["0", "-1", "many"])
def test_a_wrong_number_of_threads_is_refused(monkeypatch, capsys, threads):
    with pytest.raises(SystemExit):
        command(train_command, monkeypatch, "plain", "--threads", threads)
    assert "is not a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "2147483648", "one"])
@pytest.mark.parametrize("module", [train_command, sweep])
def test_a_wrong_seed_is_refused(monkeypatch, capsys, module, seed):
    with pytest.raises(SystemExit):
        command(module, monkeypatch, "plain", "--seed", seed)
    assert "is not a whole number from 0 to 2147483647" in capsys.readouterr().err


@pytest.mark.parametrize(
    "module, arguments, part",
    [
        (train_command, ("plain",), "train_one"),
        (evaluate, ("plain",), "measure"),
        (table, ("--verify", "plain"), "verify"),
    ],
)
def test_interrupted_a_command_says_so(monkeypatch, tmp_path, module, arguments, part):
    monkeypatch.setattr(module, part, lambda *given, **named: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit, match=r"^Interrupted.*\.$"):
        command(module, monkeypatch, *arguments, "--folder", str(tmp_path))


def test_training_without_data_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="run `python -m models.data` first"):
        train_one("plain", recipe="smoke", folder=tmp_path / "out")
    with pytest.raises(CheckpointError, match="not trained yet"):
        evaluate.evaluate("plain", tmp_path / "out")
    with pytest.raises(SystemExit, match="run `python -m models.data` first"):
        command(throughput, monkeypatch)
