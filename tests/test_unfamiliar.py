"""When the page says that a picture is unlike the ten classes: thresholds, votes, and the file that ships."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from models import data, metadata
from models.checkpoint import read_facts, restore, save
from models.results.evaluate import logits_of
from tests.networks import picture, randomised
from visualize.inspection import engine
from visualize.inspection import unfamiliar as typical
from visualize.inspection.network import inspect
from visualize.inspection.unfamiliar import is_unusual, measure, sentence
from visualize.record.compare import compare_record, stream_record

network = cache(randomised)
SHIPPED = json.loads(typical.FILE.read_text())


def test_evidence_is_the_logsumexp_of_the_logits():
    seen = inspect(network("plain"), picture())
    pixels = torch.tensor(np.array(picture())).permute(2, 0, 1)[None]
    logits = logits_of(network("plain"), pixels)[0].double()
    assert seen.evidence == pytest.approx(float(logits.exp().sum().log()), abs=1e-4)


def test_measure(tiny_cifar, tmp_path):
    for name in ("plain", "se"):
        save(network(name), name, {}, tmp_path)
    images, _ = data.load(train=False)  # 64
    found = measure(images, tmp_path)

    assert list(found["networks"]) == ["plain", "se"]
    below = []
    for name, one in found["networks"].items():
        evidence = logits_of(restore(name, tmp_path), images).exp().sum(1).log().numpy()
        assert sum(evidence[:32] < one["threshold"]) == 2  # 5 % of 32
        below.append(evidence[32:] < one["threshold"])
        assert one["below"] == pytest.approx(100 * below[-1].mean(), abs=0.01)
        assert one["sha256"] == read_facts(name, tmp_path)["sha256"]
    assert found["false_alarms"] == pytest.approx(100 * (below[0] & below[1]).mean(), abs=0.01)
    assert json.loads(json.dumps(found)) == found


def test_only_the_weights_that_were_measured_say(tmp_path, monkeypatch):
    file = tmp_path / "typical.json"
    monkeypatch.setattr(typical, "FILE", file)
    assert is_unusual(-99.0, "abc", "se") is None  # no file
    file.write_text("{")
    assert is_unusual(-99.0, "abc", "se") is None
    file.write_text(json.dumps({"networks": {"se": {"threshold": 3.0, "sha256": "abc"}}}))
    assert is_unusual(2.9, "abc", "se") is True
    assert is_unusual(3.1, "abc", "se") is False
    assert is_unusual(2.9, "changed", "se") is None
    assert is_unusual(2.9, None, "se") is None
    assert is_unusual(2.9, "abc", "cbam") is None


@pytest.mark.parametrize(
    ("unusual", "pending", "who"),
    [
        ([], 0, None),
        ([None, None], 0, None),
        ([True], 0, "it finds"),
        ([True, False], 0, None),
        ([True, None], 0, "it finds"),
        ([True, True, False, None], 0, "2 of 3 find"),
        ([True], 1, None),  # the second one could still disagree
        ([True, True], 1, "2 of 2 find"),
    ],
)
def test_the_majority_speaks(unusual, pending, who):
    said = sentence(unusual, pending)
    assert said is None if who is None else who in said
    assert said is None or said.endswith("95 % of the test pictures.")


@pytest.fixture
def stored(monkeypatch, tmp_path):
    """Three networks with checkpoints and thresholds that no picture reaches; sk has neither."""
    file = tmp_path / "typical.json"
    networks = {name: {"threshold": 1e9, "sha256": "abc"} for name in ("plain", "se", "cbam")}
    file.write_text(json.dumps({"networks": networks}))
    for name in networks:
        (tmp_path / f"{name}.json").write_text('{"sha256": "abc"}')
    monkeypatch.setattr(typical, "FILE", file)
    monkeypatch.setattr(engine, "read_facts", lambda name: read_facts(name, tmp_path))
    monkeypatch.setattr(engine, "is_trained", lambda name: name in networks)
    monkeypatch.setattr(engine, "load", lambda name, device: network(name))
    return file


def test_the_sentence_comes_once_it_is_certain(stored):
    steps = list(stream_record(picture(), ["plain", "sk", "se", "cbam"], random_weights=True))
    assert [shown["unusual"] for shown in steps[-1]["mechanisms"]] == [True, None, True, True]
    said = [step["unlike"] and step["unlike"].split(": ")[1][:11] for step in steps]
    assert said == [None, None, "2 of 2 find", "3 of 3 find"]
    stored.write_text(stored.read_text().replace("1000000000.0", "-1000000000.0"))
    assert compare_record(picture(), ["plain", "se"])["unlike"] is None


def test_random_weights_take_no_part(stored):
    assert compare_record(picture(), ["sk"], random_weights=True)["unlike"] is None


def test_the_file_is_of_the_checkpoints_that_ship():
    trained = [name for name in metadata.networks() if metadata.is_trained(name)]
    assert {name: one["sha256"] for name, one in SHIPPED["networks"].items()} == {
        name: read_facts(name)["sha256"] for name in trained
    }, "run `python -m visualize.inspection.unfamiliar`"
    assert 0 < SHIPPED["false_alarms"] < 6


def test_the_page_speaks_of_a_flat_picture_and_not_of_its_first_example():
    names = list(SHIPPED["networks"])[:3]
    cat = Image.open(typical.FILE.parent / "examples" / "cat.png").convert("RGB")
    assert compare_record(Image.new("RGB", (32, 32), (120, 120, 120)), names)["unlike"]
    assert compare_record(cat, names)["unlike"] is None
