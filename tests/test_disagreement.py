"""The gallery of test pictures on which networks differ."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from models import data
from models.checkpoint import CHECKPOINTS, CheckpointError, read_facts, write_facts
from models.data import DataError
from models.results import disagreement, predictions

LABELS = np.arange(64) % 10


def write(folder, name: str, predicted: np.ndarray, labels: np.ndarray = LABELS) -> None:
    facts = {"name": name, "sha256": f"of {name}", "accuracy": 90.0, "test_images": len(labels)}
    write_facts(name, facts, folder)
    predictions.store(name, predicted, labels, facts, folder)


def changed(places: dict[int, int]) -> np.ndarray:
    """All right but for some places, which get this class."""
    predicted = LABELS.copy()
    predicted[[*places]] = [*places.values()]
    return predicted


def test_the_most_even_split_comes_first(tmp_path):
    write(tmp_path, "plain", changed({}))
    write(tmp_path, "se", changed({7: 0, 30: 5}))
    write(tmp_path, "cbam", changed({7: 1, 9: 2, 30: 5}))
    write(tmp_path, "sk", changed({9: 2}))
    found = disagreement.disagreement(tmp_path)
    order = [one["key"] for one in found["networks"]]
    assert sorted(order) == ["cbam", "plain", "se", "sk"]
    by_index = {one["index"]: dict(zip(order, one["answers"])) for one in found["pictures"]}
    # On each of them two of four agree, and of equal ones the first comes first; on the others all agree.
    assert [one["index"] for one in found["pictures"]] == [7, 9, 30]
    assert by_index[7] == {"plain": 7, "se": 0, "cbam": 1, "sk": 7}
    assert [one["label"] for one in found["pictures"]] == [7, 9, 0]
    assert len(disagreement.disagreement(tmp_path, most=2)["pictures"]) == 2


def test_one_network_disagrees_with_nobody(tmp_path):
    write(tmp_path, "plain", LABELS)
    with pytest.raises(CheckpointError, match="nothing to compare"):
        disagreement.disagreement(tmp_path)


def test_the_command_writes_the_pictures_of_the_test_set(tiny_cifar, tmp_path, monkeypatch, capsys):
    images, labels = data.load("cifar10", train=False)
    labels = labels.numpy()
    for shift, name in enumerate(("plain", "se")):
        predicted = labels.copy()
        predicted[:25] = (predicted[:25] + shift) % 10
        write(tmp_path, name, predicted, labels)
    monkeypatch.setattr(sys, "argv", ["disagreement", "--folder", str(tmp_path), "--into", str(tmp_path)])
    disagreement.main()
    assert "25 pictures on which 2 networks differ" in capsys.readouterr().out
    found = json.loads((tmp_path / "disagreement.json").read_text())
    assert [one["index"] for one in found["pictures"]] == list(range(25))
    mosaic = np.asarray(Image.open(tmp_path / "disagreement.png"))
    assert mosaic.shape == (64, 640, 3)
    assert np.array_equal(mosaic[32:, 4 * 32 : 5 * 32], images[24].permute(1, 2, 0).numpy())
    assert not mosaic[32:, 5 * 32 :].any()

    found["pictures"][0]["label"] = (found["pictures"][0]["label"] + 1) % 10
    with pytest.raises(DataError, match="are others"):
        disagreement.write(found, tmp_path)


def test_what_ships_is_what_the_networks_answered():
    """New weights need the command again: python -m models.results.disagreement."""
    found = json.loads((disagreement.EXAMPLES / "disagreement.json").read_text())
    width, height = Image.open(disagreement.EXAMPLES / "disagreement.png").size
    assert len(found["pictures"]) <= disagreement.MOST == width * height / disagreement.SIDE**2
    for place, network in enumerate(found["networks"]):
        facts = read_facts(network["key"], CHECKPOINTS)
        assert facts["sha256"] == network["sha256"], "run `python -m models.results.disagreement`"
        predicted, labels = predictions.read(network["key"], facts)
        for picture in found["pictures"]:
            assert predicted[picture["index"]] == picture["answers"][place]
            assert labels[picture["index"]] == picture["label"]
