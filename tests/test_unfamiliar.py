"""When the page says that a picture is unlike the ten classes: thresholds and votes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import metadata
from models.checkpoint import read_facts
from models.results.evaluate import logits_of
from tests.networks import compare_record, network, picture, stand_in
from visualize.inspection.network import inspect
from visualize.inspection.unfamiliar import is_unusual, sentence

ROOT = Path(__file__).parent.parent


def test_evidence_is_the_logsumexp_of_the_logits():
    seen = inspect(network("plain"), picture())
    pixels = torch.tensor(np.array(picture())).permute(2, 0, 1)[None]
    logits = logits_of(network("plain"), pixels)[0].double()
    assert seen.evidence == pytest.approx(float(logits.exp().sum().log()), abs=1e-4)


def test_a_network_says_what_was_measured_of_it():
    assert is_unusual(2.9, {"unusual_below": 3.0}) is True
    assert is_unusual(3.1, {"unusual_below": 3.0}) is False
    assert is_unusual(-99.0, {"unusual_below": None}) is is_unusual(-99.0, {}) is None


@pytest.mark.parametrize(
    ("unusual", "who"),
    [
        ([], None),
        ([None, None], None),
        ([True], "it finds"),
        ([True, False], None),
        ([True, None], "it finds"),
        ([True, True, False, None], "2 of 3 find"),
    ],
)
def test_the_majority_speaks(unusual, who):
    said = sentence(unusual)
    assert said is None if who is None else who in said
    assert said is None or said.endswith("95 % of the test pictures.")


@pytest.fixture
def thresholds(monkeypatch):
    """Three networks with checkpoints and thresholds that no picture reaches; sk has neither."""
    found = {name: {"unusual_below": 1e9} for name in ("plain", "se", "cbam")}
    stand_in(monkeypatch, network, found)
    return found


def test_the_record_says_what_most_of_its_networks_find(thresholds):
    found = compare_record(picture(), ["plain", "sk", "se", "cbam"], random_weights=True)
    assert [shown["unusual"] for shown in found["mechanisms"]] == [True, None, True, True]
    assert "3 of 3 find" in found["unlike"]
    for facts in thresholds.values():
        facts["unusual_below"] = -1e9
    assert compare_record(picture(), ["plain", "se"])["unlike"] is None


def test_random_weights_take_no_part(thresholds):
    assert compare_record(picture(), ["sk"], random_weights=True)["unlike"] is None


def test_every_network_that_ships_has_its_threshold():
    names = [name for name in metadata.networks() if metadata.is_trained(name)]
    lacking = [name for name in names if read_facts(name).get("unusual_below") is None]
    assert not lacking, f"run `python -m models.results.evaluate --threshold {' '.join(lacking)}`"


def test_the_page_speaks_of_a_flat_picture_and_not_of_its_first_example():
    names = ["plain", "se", "non_local"]
    cat = Image.open(ROOT / "visualize" / "page" / "examples" / "cat.png").convert("RGB")
    assert compare_record(Image.new("RGB", (32, 32), (120, 120, 120)), names)["unlike"]
    assert compare_record(cat, names)["unlike"] is None
