"""How much the pictures cost beside the predictions: python -m tests.benchmark [--threads N]

Prints ratios, each with the bar we set ourselves. Run it on a quiet machine: a ratio is the median over
rounds in which both sides were timed one after the other.
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import models
from models.checkpoint import restore_with_facts
from models.preprocessing import normalise
from visualize.inspection.cam import METHODS
from visualize.inspection.engine import Question
from visualize.inspection.network import explain, inspect, observe
from visualize.record.compare import answer, record_of

ROUNDS = 15


def ratio(ours: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of time(ours) / time(other), after one round to warm up."""
    ours(), other()
    ratios = []
    for _ in range(rounds):
        times = []
        for call in (ours, other):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        ratios.append(times[0] / times[1])
    return median(ratios)


def bare_forward(network: nn.Module, picture: Image.Image) -> torch.Tensor:
    """A prediction and nothing else."""
    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        return network(normalise(pixels))[0].softmax(0)


def usual_way(network: nn.Module, picture: Image.Image) -> None:
    """What the libraries' own examples do for one network: predict, Grad-CAM at the eight blocks, a hook for
    every attention tensor, and a figure with all of it."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    images = normalise(pixels)
    kept, hooks = {}, []
    for path, module in network.named_modules():
        if path.endswith(("refine", "conv1")) or path.startswith("stage"):
            hooks.append(
                module.register_forward_hook(lambda m, i, o, path=path: kept.update({path: o.detach()}))
            )
    target = int(network(images)[0].argmax())
    for hook in hooks:
        hook.remove()
    maps = []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in layer:
            with GradCAM(network, [block.act2]) as cam:
                maps.append(cam(images, [ClassifierOutputTarget(target)])[0])
    figure = Figure(figsize=(12, 3))
    FigureCanvasAgg(figure)
    for column, values in enumerate(maps):
        axes = figure.add_subplot(1, len(maps), column + 1)
        axes.imshow(show_cam_on_image(np.array(picture) / 255, values, use_rgb=True))
        axes.axis("off")
    figure.canvas.draw()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description="Print the ratios.")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    networks = {}
    for name in models.CATALOGUE:
        try:
            networks[name] = models.load(name)
        except models.CheckpointError as error:
            print(f"left out: {error}")
    if not networks:
        raise SystemExit("There is no checkpoint to measure.")
    pictures = [
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)) for i in range(64)
    ]
    turn = iter(pictures * 1000)

    def forwards() -> None:
        picture = next(turn)
        for network in networks.values():
            bare_forward(network, picture)

    def answers(stage: str) -> None:
        picture = next(turn)
        for network in networks.values():
            inspect(network, picture, stage=stage)

    def record(picture: Image.Image) -> None:
        asked = Question(picture)
        record_of(asked, [answer(name, asked) for name in networks])

    unfrozen = [copy.deepcopy(network).requires_grad_() for network in networks.values()]
    first = next(iter(networks))
    model = networks[first]

    def methods(stage: str, chosen: tuple[str, ...] = METHODS) -> None:
        seen = observe(model, next(turn), stage=stage)
        for method in chosen:
            explain(seen, method)

    rows = [
        (
            "whole answer, Grad-CAM at layer4.1 / bare forwards",
            ratio(lambda: answers("layer4.1"), forwards),
            "<=",
            1.3,
        ),
        (
            "whole answer, all eight blocks / bare forwards",
            ratio(lambda: answers("layer1.0"), forwards),
            "<=",
            2.5,
        ),
        (
            "the page's record, packed / bare forwards",
            ratio(lambda: record(next(turn)), forwards),
            "<=",
            None,
        ),
        (
            "six CAM methods / one, at layer4.1",
            ratio(lambda: methods("layer4.1"), lambda: methods("layer4.1", METHODS[:1])),
            "<=",
            1.2,
        ),
        (
            "six CAM methods / one, at all eight blocks",
            ratio(lambda: methods("layer1.0"), lambda: methods("layer1.0", METHODS[:1])),
            "<=",
            None,
        ),
        (
            "cold load / one forward",
            ratio(lambda: restore_with_facts(first)[0], lambda: bare_forward(model, next(turn))),
            "<=",
            3.0,
        ),
        (
            "the usual way / ours",
            ratio(
                lambda: [usual_way(network, next(turn)) for network in unfrozen],
                lambda: answers("layer1.0"),
                rounds=3,
            ),
            ">=",
            5.0,
        ),
    ]
    print(f"{len(networks)} networks, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for what, value, sign, bar in rows:
        verdict = ""
        if bar is not None:
            verdict = f"bar {sign} {bar}: " + ("met" if (value <= bar) == (sign == "<=") else "MISSED")
        print(f"{what:<55} {value:6.2f}   {verdict}")


if __name__ == "__main__":
    main()
