"""Stored networks: the format, every fault a file can have, and the files that ship."""

import errno
import hashlib
import json
import os
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import pictures, randomise
from filelock import FileLock
from PIL import Image
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as safetensors_bytes
from torch import nn

import models
from models import checkpoint, data, metadata
from models.checkpoint import CHECKPOINTS, CheckpointError
from models.results import averages, predictions
from models.results.evaluate import SAMPLE, logits_of, synthetic_picture
from models.results.evidence import evidence_of
from models.train.recipe import RECIPES

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return randomise(models.build("se"))


@pytest.fixture(scope="module")
def original(network, tmp_path_factory) -> Path:
    """A folder with one sound pair of files, called `se`."""
    folder = tmp_path_factory.mktemp("original")
    checkpoint.save(network, "se", {"name": "se", "seed": 7}, folder)
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    """A copy of that folder, to be spoilt."""
    return shutil.copytree(original, tmp_path / "checkpoints")


def weights_of(folder: Path) -> Path:
    return folder / "se.safetensors"


def facts_of(folder: Path) -> Path:
    return folder / "se.json"


# The format.


def test_large_parameters_are_int8_with_a_scale_per_slice(network, original):
    stored = parse_safetensors(weights_of(original).read_bytes())
    parameters, rest = dict(network.named_parameters()), dict(network.named_buffers())
    for key, value in parameters.items():
        if value.ndim < 2:
            rest[key] = value
            continue
        levels, scale = stored.pop(key), stored.pop(f"{key}.scale")
        assert levels.dtype == torch.int8 and levels.shape == value.shape, key
        assert scale.dtype == torch.float32 and scale.shape == value.shape[:1], key
        assert (levels.flatten(1).abs().amax(1) == 127).all(), key  # the range is used, and -128 is not
        scale = scale.view(-1, *[1] * (value.ndim - 1))
        assert ((levels * scale - value).abs() <= 0.5001 * scale).all(), key
    assert sorted(stored) == sorted(rest)
    for key, value in rest.items():
        assert stored[key].dtype == torch.float32 and torch.equal(stored[key], value.float()), key


def test_a_network_is_about_11_megabytes(original):
    assert 11.2e6 < weights_of(original).stat().st_size < 11.6e6


def test_the_facts_are_tied_to_the_weights(original):
    facts = json.loads(facts_of(original).read_text())
    assert facts == {
        "name": "se",
        "seed": 7,
        "sha256": hashlib.sha256(weights_of(original).read_bytes()).hexdigest(),
    }
    assert checkpoint.read_facts("se", original) == facts


def test_rounding_keeps_odd_tensors():
    state = {
        "weight": torch.zeros(4, 3),  # nothing to divide by
        "scale": torch.tensor([0.5, 2.0]),  # a parameter that has the name of a scale
        "table": torch.randn(2, 3),  # a buffer: never rounded
        "counter": torch.tensor(5),
        "single": torch.tensor([[1e-30]]),
    }
    stored = checkpoint.quantise(state, {"weight", "scale", "single"})
    assert {key for key, value in stored.items() if value.dtype == torch.int8} == {"weight", "single"}
    back = checkpoint.dequantise(stored)
    assert sorted(back) == sorted(state)
    for key, value in state.items():
        torch.testing.assert_close(back[key], value.float(), rtol=1e-6, atol=0)


def test_rounding_twice_changes_nothing_more(network):
    parameters = {key for key, _ in network.named_parameters()}
    once = checkpoint.dequantise(checkpoint.quantise(network.state_dict(), parameters))
    twice = checkpoint.dequantise(checkpoint.quantise(once, parameters))
    for key, value in once.items():
        torch.testing.assert_close(twice[key], value, rtol=1e-6, atol=0)


def test_restored_to_the_right_types(network, original):
    restored = checkpoint.restore_with_facts("se", original)[0]
    for key, value in network.state_dict().items():
        assert restored.state_dict()[key].dtype == value.dtype, key
    assert restored.bn1.num_batches_tracked.dtype == torch.int64
    assert not any(tensor.is_meta for tensor in restored.state_dict().values())


def test_the_number_of_classes_comes_from_the_file(tmp_path):
    checkpoint.save(models.build("plain", 100), "plain", {}, tmp_path)
    assert checkpoint.restore_with_facts("plain", tmp_path)[0].fc.out_features == 100


# Faults.


def rewrite(folder: Path, content: bytes) -> None:
    """New weights with their own sum in the facts: damage that the sum does not betray."""
    weights_of(folder).write_bytes(content)
    facts_of(folder).write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))


def change_state(folder: Path, change) -> None:
    stored = parse_safetensors(weights_of(folder).read_bytes())
    change(stored)
    rewrite(folder, safetensors_bytes(stored))


def flip_a_byte(folder: Path) -> None:
    content = bytearray(weights_of(folder).read_bytes())
    content[5_000_000] ^= 1
    weights_of(folder).write_bytes(content)


def cut(folder: Path) -> None:
    weights_of(folder).write_bytes(weights_of(folder).read_bytes()[:5_000_000])


def poison(value: float):
    return lambda stored: stored["bn1.weight"].__setitem__(3, value)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 11386776\n"

FAULTS = {
    "both missing": (lambda f: [file.unlink() for file in f.iterdir()], "not trained yet"),
    "no folder": (shutil.rmtree, "not trained yet"),
    "no facts": (lambda f: facts_of(f).unlink(), "not trained yet"),
    "no weights": (lambda f: weights_of(f).unlink(), "missing"),
    "weights are a folder": (lambda f: (weights_of(f).unlink(), weights_of(f).mkdir()), "missing"),
    "weights are a FIFO": (lambda f: (weights_of(f).unlink(), os.mkfifo(weights_of(f))), "missing"),
    "facts are a folder": (lambda f: (facts_of(f).unlink(), facts_of(f).mkdir()), "facts"),
    "facts are a FIFO": (lambda f: (facts_of(f).unlink(), os.mkfifo(facts_of(f))), "facts"),
    "facts are nested deeply": (lambda f: facts_of(f).write_text("[" * 10**5 + "]" * 10**5), "facts"),
    "facts are large": (lambda f: facts_of(f).write_text(" " * 2**20 + facts_of(f).read_text()), "facts"),
    "empty": (lambda f: weights_of(f).write_bytes(b""), "empty"),
    "cut": (cut, "damaged"),
    "a Git LFS pointer": (lambda f: weights_of(f).write_bytes(LFS), "git lfs pull"),
    "a web page": (lambda f: weights_of(f).write_bytes(b"\n<!DOCTYPE html><html>"), "web page"),
    "a flipped byte": (flip_a_byte, "damaged"),
    "no safetensors": (lambda f: rewrite(f, b"something else entirely"), "cannot be read"),
    "cut, with a sum": (
        lambda f: rewrite(f, weights_of(f).read_bytes()[:5_000_000]),
        "cannot be read",
    ),
    "a scale is gone": (lambda f: change_state(f, lambda s: s.pop("fc.weight.scale")), "cannot be read"),
    "a scale of another shape": (
        lambda f: change_state(f, lambda s: s.update({"conv1.weight.scale": torch.ones(63)})),
        "cannot be read",
    ),
    "a tensor is gone": (lambda f: change_state(f, lambda s: s.pop("bn1.weight")), "another version"),
    "a tensor too many": (
        lambda f: change_state(f, lambda s: s.update(extra=torch.ones(1))),
        "another version",
    ),
    "other shapes": (
        lambda f: change_state(f, lambda s: s.update({"bn1.weight": torch.ones(63)})),
        "another version",
    ),
    "the classifier has no axes": (
        lambda f: change_state(f, lambda s: s.update({"fc.weight": torch.ones(())})),
        "another version",
    ),
    "another network": (
        lambda f: checkpoint.save(models.build("plain"), "se", {}, f),
        "another version",
    ),
    "NaN": (lambda f: change_state(f, poison(float("nan"))), "not finite"),
    "infinity": (lambda f: change_state(f, poison(float("inf"))), "not finite"),
    "facts empty": (lambda f: facts_of(f).write_text(""), "facts"),
    "facts cut": (lambda f: facts_of(f).write_text(facts_of(f).read_text()[:40]), "facts"),
    "facts are no text": (lambda f: facts_of(f).write_bytes(b"\xff\xfe\x00{"), "facts"),
    "facts are a list": (lambda f: facts_of(f).write_text("[]"), "facts"),
    "facts without a sum": (lambda f: facts_of(f).write_text('{"name": "se"}'), "facts"),
    "facts with a number as sum": (lambda f: facts_of(f).write_text('{"sha256": 1}'), "facts"),
    "facts of other weights": (lambda f: facts_of(f).write_text('{"sha256": "00"}'), "damaged"),
}


WRONG_FACTS = {  # fact -> values that it cannot have
    "accuracy": ("92", 950, -3, float("nan"), float("inf"), [92.0], 10**400, True, {}),
    "accuracy_mirror": (101,),
    "accuracy_unrounded": ("",),
    "name": (3, ["se"]),
    "recipe": ({}, 1, "\ud800"),
    "dataset": (10,),
    "device": (["cpu"],),
    "settings": ([], "cpu"),
    "seed": ("0", 0.5),
    "epochs": (None, "12")[1:],
    "test_images": (-1, 0, 512.0),
    "parameters": ("11M", 1e7, 10**400),
    "flops": ([],),
    "latency_ms": ("7", 10**400),
    "latency_gpu_ms": (float("nan"),),
    "train_seconds": (False,),
    "unusual_below": ("3.3", 10**400),
    "sha256": (["5e"],),
}


def set_fact(folder: Path, fact: str, value: object) -> None:
    facts_of(folder).write_text(json.dumps(json.loads(facts_of(folder).read_text()) | {fact: value}))


def is_one_sentence(message: str) -> bool:
    """One line, one full stop at its end, neither a path nor a class name."""
    plain = (
        "\n" not in message and "/" not in message and not re.search(r"[A-Z]\w*(Error|Exception)", message)
    )
    return plain and message.endswith(".") and ". " not in message and len(message) < 120


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence(folder, fault):
    spoil, expected = FAULTS[fault]
    spoil(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.restore_with_facts("se", folder)[0]
    message = str(caught.value)
    assert is_one_sentence(message) and expected in message and "se" in message.split(), message


@pytest.mark.parametrize("fact", WRONG_FACTS)
def test_a_value_that_cannot_be_right_is_one_sentence(folder, fact):
    for value in WRONG_FACTS[fact]:
        set_fact(folder, fact, value)
        with pytest.raises(CheckpointError) as caught:
            checkpoint.read_facts("se", folder)
        assert is_one_sentence(str(caught.value)) and "facts" in str(caught.value), value


def test_what_is_not_known_is_no_fault(folder):
    for fact in set(WRONG_FACTS) - {"sha256"}:
        set_fact(folder, fact, None)
    set_fact(folder, "more", {"than": ["we", "know"]})
    checkpoint.read_facts("se", folder)


def test_a_broken_entry_leaves_the_others_alone(network, folder):
    """The page's list is made, whatever stands in one of the files; the entry says what is wrong with it."""
    good = {"recipe": "cpu", "accuracy": 92.0}
    checkpoint.save(network, "se", good, folder)
    for name in ("eca", "cbam", "danet", "sk"):
        shutil.copy(weights_of(folder), folder / f"{name}.safetensors")
        shutil.copy(facts_of(folder), folder / f"{name}.json")
    (folder / "eca.json").write_text(json.dumps(good | {"sha256": "", "accuracy": "92"}))
    (folder / "cbam.json").unlink()
    os.mkfifo(folder / "cbam.json")
    (folder / "danet.safetensors").unlink()
    os.mkfifo(folder / "danet.safetensors")
    (folder / "sk.json").write_text("[" * 10**5)
    rows = {row["key"]: row for row in metadata.mechanisms_table(folder) if row["trained"]}
    assert {key for key, row in rows.items() if row["available"]} == {"se"}
    assert set(rows) == {"se", "eca", "cbam", "danet", "sk"}
    assert all(is_one_sentence(row["reason"]) for key, row in rows.items() if key != "se")
    assert rows["se"]["accuracy"]["value"] == 92.0 and rows["eca"]["accuracy"]["value"] is None


@pytest.mark.parametrize("fault", ["empty", "a Git LFS pointer", "a web page", "cut", "weights are a FIFO"])
def test_a_fault_that_shows_at_a_glance_is_in_the_list(folder, fault):
    assert metadata.fault("se", folder) is None
    FAULTS[fault][0](folder)
    assert is_one_sentence(metadata.fault("se", folder))


def test_the_list_reads_no_weights(folder, monkeypatch):
    """To check the sums of forty networks would take seconds at every start."""
    opened, read = [], checkpoint.read_regular
    monkeypatch.setattr(checkpoint, "read_regular", lambda f, size=-1: opened.append(size) or read(f, size))
    assert metadata.fault("se", folder) is None
    flip_a_byte(folder)
    assert metadata.fault("se", folder) is None  # the column will say it
    assert opened and all(0 < size <= checkpoint.MOST_FACTS for size in opened)


def test_a_header_that_begins_like_a_web_page_is_none(tmp_path):
    """The length of the header comes first, and 15,392 is a space and a "<" for whoever sees text there."""
    content = (15_392).to_bytes(8, "little") + b"{" + b" " * 15_391
    (tmp_path / "se.safetensors").write_bytes(content)
    checkpoint.check_weights("se", tmp_path)


def test_nan_parameters_are_found_although_they_were_rounded(tmp_path):
    network = models.build("plain")
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] = float("nan")
    checkpoint.save(network, "plain", {}, tmp_path)
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.restore_with_facts("plain", tmp_path)[0]


def test_an_unknown_name_is_a_key_error(original):
    with pytest.raises(KeyError, match="no mechanism"):
        checkpoint.restore_with_facts("squeeze", original)[0]


# Writing.


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, call):
    file = tmp_path / "se.json"
    checkpoint.write_atomically(file, b"old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, call, full)
    with pytest.raises(OSError):
        checkpoint.write_atomically(file, b"new and longer")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]  # no scratch file stays
    monkeypatch.undo()
    checkpoint.write_atomically(file, b"new")
    assert file.read_bytes() == b"new" and list(tmp_path.iterdir()) == [file]


def test_the_new_file_is_complete_before_it_takes_the_name(tmp_path, monkeypatch):
    file, order = tmp_path / "se.json", []
    for name in ("fsync", "replace"):
        call = getattr(checkpoint.os, name)
        monkeypatch.setattr(
            checkpoint.os, name, lambda *a, call=call, name=name: (order.append(name), call(*a))
        )
    checkpoint.write_atomically(file, b"new")
    assert order == ["fsync", "replace"]


def test_interrupted_between_the_two_files(network, folder, monkeypatch):
    """Killed after the weights, before the facts: found out, and mended by saving again."""
    other = randomise(models.build("se"), seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_facts", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(other, "se", {}, folder)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.restore_with_facts("se", folder)[0]
    checkpoint.save(other, "se", {}, folder)
    checkpoint.restore_with_facts("se", folder)[0]


def test_what_two_processes_measure_at_once_is_all_kept(network, folder, monkeypatch):
    checkpoint.save(network, "se", {}, folder)
    sha256 = checkpoint.read_facts("se", folder)["sha256"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: checkpoint.add_facts("se", {f"fact{i}": i}, sha256, folder), range(40)))
    facts = checkpoint.read_facts("se", folder)
    assert [facts.get(f"fact{i}") for i in range(40)] == list(range(40))
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.05)
    with FileLock(folder / ".se.json.lock.tmp"), pytest.raises(CheckpointError, match="Another process"):
        checkpoint.add_facts("se", {"more": 1}, sha256, folder)


# Loading.


@pytest.fixture
def loads(folder, monkeypatch):
    """`models.load` reads from the folder; the list of the names it read."""
    read, restore = [], checkpoint.restore_with_facts
    monkeypatch.setattr(
        checkpoint, "restore_with_facts", lambda name, place: (read.append(name), restore(name, folder))[1]
    )
    monkeypatch.setattr(checkpoint, "_loaded", {})
    monkeypatch.setattr(checkpoint, "_faults", {})
    return read


@pytest.fixture
def served(loads, folder, monkeypatch) -> Path:
    """The folder, which is also that of the list."""
    monkeypatch.setattr(checkpoint, "CHECKPOINTS", folder)
    return folder


def test_load_gives_one_network_to_all_threads(loads):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: models.load("se"), range(8)))
    assert loads == ["se"] and all(network is found[0] for network in found)
    assert models.load("se", "cpu") is models.load("se", torch.device("cpu")) is found[0]


def test_load_gives_a_frozen_network_in_eval(loads, network):
    found = models.load("se")
    assert not any(module.training for module in found.modules())
    assert not any(parameter.requires_grad for parameter in found.parameters())
    before = {key: value.clone() for key, value in found.state_dict().items()}
    images = pictures(2)
    logits = found(images)
    assert not logits.requires_grad
    assert (logits - network(images)).abs().max() < 0.1 * logits.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in found.state_dict().items())


def test_a_failure_is_not_kept(loads, folder):
    content = weights_of(folder).read_bytes()
    weights_of(folder).write_bytes(b"")
    with pytest.raises(CheckpointError):
        models.load("se")
    weights_of(folder).write_bytes(content)
    assert models.load("se") is models.load("se")
    assert loads == ["se", "se"]


def test_a_fault_found_when_loading_is_in_the_list_until_the_files_change(served):
    sound = weights_of(served).read_bytes()
    flip_a_byte(served)
    with pytest.raises(CheckpointError) as caught:
        models.load("se")
    assert metadata.fault("se", served) == str(caught.value)
    weights_of(served).write_bytes(sound)
    os.utime(weights_of(served), (0, 0))
    assert metadata.fault("se", served) is None
    models.load("se")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_while_a_network_is_loaded_does_not_wait_for_it(served):
    """As a GPU that is lent has a process of its own, which is forked from a server with several threads."""
    with checkpoint._loading:
        child = os.fork()
        if child == 0:  # without a new lock it would wait here for ever
            signal.alarm(20)
            try:
                checkpoint.load_with_facts("se")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_the_facts_are_those_of_the_weights_that_answer(served, network, folder):
    """A checkpoint is replaced while the server runs: nothing changes until the next start."""
    checkpoint.save(network, "se", {"name": "se", "accuracy": 91.0}, folder)
    loaded, facts = checkpoint.load_with_facts("se")
    checkpoint.save(randomise(models.build("se"), seed=1), "se", {"name": "se", "accuracy": 95.0}, folder)
    assert checkpoint.read_facts("se", folder)["accuracy"] == 95.0
    assert checkpoint.load_with_facts("se") == (loaded, facts) and facts["accuracy"] == 91.0
    assert checkpoint.facts_in_use("se", folder) is facts
    row = next(row for row in metadata.mechanisms_table(folder) if row["key"] == "se")
    assert row["available"] and row["accuracy"]["value"] == 91.0
    for file in folder.iterdir():
        file.unlink()
    assert metadata.fault("se", folder) is None  # what is loaded works


# The files that ship.

AVERAGED = sorted(file.name.split(".")[0] for file in CHECKPOINTS.glob("*.averages.safetensors"))
FILES = {file.stem for file in CHECKPOINTS.iterdir() if file.suffix in (".json", ".safetensors")}
SHIPPED = sorted(FILES - {f"{name}.averages" for name in AVERAGED})
shipped = pytest.mark.parametrize("name", SHIPPED)
# Three have their turn each day, and all of them with `-m long`: the suite does not grow with their number.
TODAY = sorted({SHIPPED[(3 * date.today().toordinal() + index) % len(SHIPPED)] for index in range(3)})
ALL = [pytest.param(name, marks=pytest.mark.long) for name in SHIPPED]
KEYS = (
    *("name", "recipe", "settings", "seed", "epochs", "accuracy", "accuracy_mirror", "accuracy_unrounded"),
    *("parameters", "flops", "latency_ms", "train_seconds", "device", "torch", "command", "sha256"),
    *("logits_check", "correct_of_first_200", "unusual_below"),
)


@pytest.fixture(scope="module")
def first_200() -> tuple[torch.Tensor, torch.Tensor]:
    """The first 200 test images of CIFAR-10, (200, 3, 32, 32) uint8, and their labels.

    They ship as a mosaic of 20 columns and 10 rows, so that anybody can check a score without the data set.
    """
    mosaic = np.asarray(Image.open(HERE / "first_200.png"))  # (10 * 32, 20 * 32, 3)
    images = torch.tensor(mosaic).view(10, 32, 20, 32, 3).permute(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
    return images, torch.tensor(json.loads((HERE / "first_200.json").read_text()))


def test_the_200_pictures_are_the_first_of_the_test_set(first_200):
    images, labels = first_200
    assert len(images) == len(labels) == SAMPLE == 200
    try:
        official_images, official_labels = data.load(train=False)
    except data.DataError:
        pytest.skip("CIFAR-10 is not on this machine")
    assert torch.equal(images, official_images[:200]) and torch.equal(labels, official_labels[:200])


def test_only_pairs_lie_in_the_folder():
    stored = {file.name for file in CHECKPOINTS.iterdir() if not file.name.startswith(".")}
    pairs = {f"{name}{suffix}" for name in SHIPPED for suffix in (".safetensors", ".json")}
    beside = {"predictions.npz", *(f"{name}.averages.safetensors" for name in AVERAGED)}
    assert stored - {"measured"} == pairs | beside
    assert set(AVERAGED) <= set(SHIPPED) <= set(models.CATALOGUE)


@pytest.mark.parametrize("name", AVERAGED)
def test_shipped_averages_belong_to_the_shipped_weights(name):
    facts = checkpoint.read_facts(name)
    found = averages.read(name, facts["sha256"])
    tensors = facts["evidence"]["tensors"]
    assert found.average.keys() == found.by_class.keys() == tensors.keys()
    if evidence_of(facts):  # constants are fitted, and replacements tried, after the averages are there
        assert found.best.keys() == tensors.keys()
    for path, average in found.average.items():  # float16 keeps three digits
        assert float(average.float().mean()) == pytest.approx(tensors[path]["mean"], abs=2e-3)


@shipped
def test_shipped_facts_are_complete(name):
    facts = checkpoint.read_facts(name)
    lacking = [key for key in KEYS if facts.get(key) is None]
    assert not lacking, f"run `python -m models.results.evaluate {name}`: its JSON lacks {', '.join(lacking)}"
    assert facts["name"] == name and facts["recipe"] in RECIPES
    assert facts["command"].startswith(f"python -m models.train {name} --recipe {facts['recipe']}")
    assert facts["epochs"] == facts["settings"]["epochs"] and facts["settings"]["limit"] is None
    assert facts["parameters"] == metadata.parameters(name)
    content = (CHECKPOINTS / f"{name}.safetensors").read_bytes()
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    # int8 may move a handful of pictures, not more; the score of the sample goes with that of the whole
    assert abs(facts["accuracy"] - facts["accuracy_unrounded"]) < 0.3
    assert abs(facts["correct_of_first_200"] / 2 - facts["accuracy"]) < 8


@pytest.mark.parametrize(
    ("name", "whole"),
    [*((n, False) for n in sorted(TODAY)), *(pytest.param(n, True, marks=pytest.mark.long) for n in SHIPPED)],
)
def test_a_shipped_network_answers_as_its_facts_say(name, whole, first_200):
    """Equal on the machine that measured it.

    Elsewhere the sums of a convolution are taken in another order: the last digits of the logits differ, and
    a picture that lies between two classes may fall to the other side. One picture is let go for that.
    """
    network, facts = checkpoint.restore_with_facts(name)
    with torch.inference_mode():
        logits = network(synthetic_picture())[0]
    torch.testing.assert_close(logits, torch.tensor(facts["logits_check"]), rtol=0, atol=1e-3)
    images, labels = first_200
    stored = torch.tensor(predictions.read(name, facts)[0][:200])
    assert (stored == labels).sum().item() == facts["correct_of_first_200"]
    some = len(images) if whole else 50
    assert (logits_of(network, images[:some]).argmax(1) != stored[:some]).sum().item() <= 1


def test_a_checkpoint_is_not_written_while_another_process_adds_to_its_facts(tmp_path, monkeypatch):
    """It would write the old facts back, and the pair would not match."""
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.01)
    with checkpoint.locked(tmp_path / "se.json", "held"), pytest.raises(CheckpointError, match="try again"):
        checkpoint.save(nn.Linear(2, 2), "se", {"name": "se"}, tmp_path)
    assert not (tmp_path / "se.safetensors").exists()
    checkpoint.save(nn.Linear(2, 2), "se", {"name": "se"}, tmp_path)
    assert (tmp_path / "se.safetensors").exists()
