"""Shared by all tests: one thread, random parameters, a tiny CIFAR-10."""

import gc
import hashlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from models import data

gc.disable()  # until all tests are collected

# One thread: the same bits on every machine, and no threads that wait for each other on a busy one.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # the same for the processes that tests start

PER_FILE = 64  # images in each file of the tiny CIFAR-10


# Files that start servers, other processes, a browser, or work with whole networks throughout.
SLOW = {
    *("test_cam", "test_checkpoint", "test_description", "test_device", "test_export", "test_figure"),
    *("test_inspection", "test_lab", "test_networks", "test_page", "test_record", "test_recording"),
    *("test_results", "test_serving", "test_site", "test_turns", "test_unfamiliar", "test_webgpu"),
    "test_what_if",
}
# The longest first, so that two processes end together.
FIRST = (
    *("test_page", "test_networks", "test_device", "test_description", "test_serving", "test_figure"),
    *("test_lab", "test_picture", "test_site", "test_sweep", "test_training", "test_checkpoint"),
    *("test_evidence", "test_record", "test_convolutions"),
)
# What these files make of networks is made once, where one process runs them all.
TOGETHER = dict.fromkeys(("test_figure", "test_description"), "figures")
TOGETHER |= dict.fromkeys(("test_record", "test_export", "test_unfamiliar", "test_what_if"), "records")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where the slow ones are left out, what they import is not needed either."""
    return True if config.option.markexpr == "not slow" and collection_path.stem in SLOW else None


@pytest.hookimpl(tryfirst=True)  # before the expression of -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    has_gpu = torch.cuda.is_available()
    for item in items:
        if item.path.stem in SLOW or any(map(item.get_closest_marker, ("browser", "gpu", "long"))):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    items.sort(key=lambda item: (*(item.path.stem != stem for stem in FIRST), item.path.stem not in SLOW))


def pytest_collection_finish() -> None:
    """What is there by now stays, and Python looks for rubbish more rarely, else in a tenth of the time."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 2)
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """With `--dist loadfile` one process runs a file's tests, or those of several (see `TOGETHER`); but those
    of the page on the static edition, which takes long to build, are another's."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            static = re.search(r"test_(page|lab)\.py::.*[\[-](static|whole)[]-]", nodeid)
            file = super()._split_scope(nodeid)
            return TOGETHER.get(Path(file).stem, file) + (", static" if static else "")

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random numbers, whichever ran before: none fails by chance."""
    torch.manual_seed(0)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every parameter and every statistic of a module a random value, and sets it to eval.

    Fresh modules hide faults: a gamma of zero multiplies any mistake away. Matrices keep the size of their
    outputs (standard deviation 1/sqrt(fan-in)), so that no softmax or sigmoid is driven to its end.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        values = torch.rand(like.shape, generator=generator, dtype=torch.float64)
        return values.mul_(high - low).add_(low)  # in place: networks have millions

    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.ndim >= 2:
                value.copy_(uniform(value, -1, 1).mul_((3 / value[0].numel()) ** 0.5))
            elif value.ndim == 0 and value.is_floating_point():
                value.copy_(uniform(value, 0.4, 0.8))  # gamma and its like
            elif key.endswith("running_var") or key.endswith("weight"):
                value.copy_(uniform(value, 0.5, 1.5))
            elif value.is_floating_point():
                value.copy_(uniform(value, -0.3, 0.3))
    return module.eval()


def pictures(count: int = 2, seed: int = 0) -> torch.Tensor:
    """Random pictures (count, 3, 32, 32), normalised, in float32."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def chromium_or_skip(playwright) -> None:
    from tests.screenshots import find_chromium

    if find_chromium(playwright) is None:
        reason = "no Chromium: install it (apt install chromium) or run `playwright install chromium`"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    """Chromium, for a file's tests one after the other."""
    from playwright.sync_api import sync_playwright

    from tests.screenshots import SHELL, launched  # most tests do without

    with sync_playwright() as playwright:
        chromium_or_skip(playwright)
        with launched(playwright, first=[SHELL]) as browser:
            yield browser


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the static edition of the stand-ins, beside `tree`: made once for all processes."""
    from tests import static  # with what starts servers, which most tests do without

    if shutil.which("npm") is None:
        reason = "no npm: install it (apt install npm)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "site.lock"):
        if not (shared / "site").exists():
            shutil.rmtree(shared / "tree", ignore_errors=True)  # of a build that failed, to hear why again
            static.make(shared)
    return shared / "site"


@pytest.fixture
def tiny_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for CIFAR-10 that any network learns at once: the folder that holds `cifar10`.

    Five training files and a test file in the official layout, 64 pictures each: a colour for each class,
    under coarse noise.
    """
    home = tmp_path / "home"
    monkeypatch.setenv("ATTNSCOPE_HOME", str(home))
    monkeypatch.setattr(data, "PER_FILE", PER_FILE)
    generator = np.random.default_rng(0)
    colours = generator.integers(40, 216, (10, 3, 1))
    (home / "cifar10").mkdir(parents=True)
    for name in data.MD5:
        labels = generator.permutation(np.arange(PER_FILE) % 10)
        noise = generator.integers(-40, 40, (PER_FILE, 3, 8, 8)).repeat(4, 2).repeat(4, 3)  # (64, 3, 32, 32)
        planes = colours[labels] + noise.reshape(PER_FILE, 3, 1024)
        content = np.concatenate([labels[:, None], planes.reshape(PER_FILE, -1)], axis=1).astype(np.uint8)
        (home / "cifar10" / name).write_bytes(content.tobytes())
        monkeypatch.setitem(data.MD5, name, hashlib.md5(content.tobytes()).hexdigest())
    return home
