"""What is said of a mechanism: figures from its files, limits from what it records, its place and source."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import CATALOGUE, load, metadata
from models.checkpoint import save, write_facts
from models.preprocessing import normalise
from models.recording import recording
from models.results.evaluate import logits_of
from tests.networks import randomised
from visualize import inspect
from visualize.texts import cards

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "visualize" / "page"
GUIDE = " ".join((ROOT / "visualize" / "texts" / "reading.md").read_text(encoding="utf-8").split())
FACTS = {"accuracy": 93.0, "accuracy_mirror": 93.5, "recipe": "cpu", "epochs": 12, "seed": 0, "flops": 1.11e9}

network = cache(randomised)


def test_wilson_interval():
    """Reference values by hand: p = 0.95, n = 100 gives 0.8882 to 0.9785; it never leaves 0..1."""
    assert metadata.wilson(95, 100) == pytest.approx((88.825, 97.846), abs=2e-3)
    assert metadata.wilson(100, 10) == pytest.approx((72.247, 100), abs=1e-3)
    assert metadata.wilson(0, 10) == pytest.approx((0, 27.753), abs=1e-3)


def test_table_and_card_of_stored_networks(tmp_path):
    save(network("se"), "se", FACTS, tmp_path)
    save(network("sk"), "sk", {"recipe": "cpu"}, tmp_path)
    save(network("cbam"), "cbam", FACTS, tmp_path)
    (tmp_path / "cbam.safetensors").write_bytes(b"")
    rows = {row["key"]: row for row in metadata.mechanisms_table(tmp_path)}
    assert list(rows) == metadata.networks()
    assert rows["plain"] == {
        "key": "plain",
        "name": "Plain ResNet18",
        "family": "module",
        "parameters": 11_173_962,
        "accuracy": {"value": None, "low": None, "high": None},
        "recipe": None,
        "trained": False,
        "available": False,
        "reason": "plain is not trained yet.",
    }
    assert rows["se"]["available"]
    assert rows["se"]["reason"] is None
    assert rows["se"]["recipe"] == "cpu"
    assert rows["se"]["accuracy"] == {"value": 93.0, "low": 92.48, "high": 93.48}
    assert rows["sk"]["available"]  # trained, not measured
    assert rows["sk"]["accuracy"]["value"] is None
    assert rows["cbam"]["reason"] == "The weights of cbam are an empty file."
    json.dumps(list(rows.values()), allow_nan=False)

    text = cards.card("se") + cards.measured("se", tmp_path)
    for part in (
        "### Squeeze-and-Excitation",
        "$$",
        "<https://arxiv.org/abs/1709.01507>",
        "| Parameters | 11,263,042 | 11,173,962 |",
        "| 93.00 % (92.48 to 93.48) |  |",  # plain is not there
        "| 93.50 % |",
        "| 1,110.0 |",
        "`cpu` recipe, 12 epochs, seed 0",
    ):
        assert part in text
    for part in ("models/attention/se.py", "slot `refine`", "all eight blocks", "Family channel"):
        assert part in text
    assert "None" not in text
    assert " % (" not in cards.figures("sk", tmp_path)


def test_every_entry_has_a_card(tmp_path):
    for name, entry in CATALOGUE.items():
        text = cards.card(name)
        assert text.startswith(f"### {entry.title}\n")
        assert (ROOT / cards.sources()[name]).is_file()
        assert f'"{name}"' in (ROOT / cards.sources()[name]).read_text() or name == "plain"
        assert ("not trained yet" in cards.measured(name, tmp_path)) == (name in metadata.networks())


def test_a_repaired_checkpoint_is_seen_without_a_restart(tmp_path):
    assert metadata.fault("se", tmp_path) == "se is not trained yet."
    save(network("se"), "se", FACTS, tmp_path)
    assert metadata.fault("se", tmp_path) is None
    write_facts("se", {**FACTS, "sha256": "0" * 64}, tmp_path)
    assert "damaged" in metadata.fault("se", tmp_path)


PLAIN = {"accuracy": 92.0, "recipe": "cpu", "parameters": 11_173_962}


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ({"accuracy": 93.0}, "no difference in accuracy"),  # 92.48 to 93.48 and 91.45 to 92.52
        ({"accuracy": 93.2}, "whole interval lies above"),
        ({"accuracy": 90.0}, "whole interval lies below"),
        ({"accuracy": 93.2, "recipe": "gpu"}, "another recipe"),
        ({}, ""),
    ],
)
def test_a_difference_is_claimed_where_the_intervals_part(ours, words):
    said = cards.verdict({"recipe": "cpu", **ours}, PLAIN)
    assert words in said if words else not said
    assert ("overlap" in said) == (words == "no difference in accuracy")


def test_more_and_fewer_parameters():
    assert cards.compared(11_263_042, 11_173_962) == "89,080 (0.8 %) more than"
    assert cards.compared(5_586_981, 11_173_962) == "5,586,981 (50.0 %) fewer than"
    assert cards.compared(11_173_963, 11_173_962) == "1 (less than 0.1 %) more than"
    assert cards.compared(7, 7) == "as many as"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", ["no maps of its own"]),
        ("se", ["never says where"]),
        ("dynamic_conv", ["never says where"]),
        ("cbam", ["4 × 4 = 16 cells, each 8 pixels"]),
        ("non_local", ["shares (1×)", "feature change", "8 × 8 = 64 cells, each 4 pixels"]),
        ("danet", ["shares (1×)", "feature change", "8 × 8 = 64 cells"]),  # recorded on the CPU
        ("ccnet", ["shares (1×)", "feature change", "8 × 8 = 64 cells"]),
        ("non_local_dot_product", ["feature change", "8 × 8 = 64 cells"]),  # its weights are no shares
        ("global_context", ["shares (1×)", "4 × 4 = 16 cells"]),
        ("acblock", ["4 × 4 = 16 cells", "the same for every picture"]),
        ("doconv", ["the same for every picture"]),
        ("border_align", []),
    ],
)
def test_limits_follow_from_what_is_recorded(name, expected, tmp_path):
    said = cards.limits(name, tmp_path)
    assert len(said) == len(expected)
    assert all(words in sentence for words, sentence in zip(expected, said))


@pytest.fixture(scope="module")
def examples() -> dict[str, Image.Image]:
    return {file.stem: Image.open(file).convert("RGB") for file in (ASSETS / "examples").glob("*.png")}


def test_the_guide_says_of_non_local_what_the_shipped_network_does(examples):
    seen = inspect(load("non_local"), examples["cat"], stage="layer4.1")
    shares = 256 * seen.maps["stage2.affinity"].values.reshape(256, 256)  # 1 is an equal share
    assert shares.max() > 20
    assert len(set(shares.argmax(1))) <= 4  # whichever place asks
    first, second = (f"about {100 * seen.strength[stage]:.0f} %" for stage in ("stage2", "stage3"))
    assert f"{first} of the features' size, {second} after layer3" in GUIDE


def test_the_guide_says_how_many_answers_equal_shares_leave():
    mosaic = np.asarray(Image.open(ROOT / "tests" / "first_200.png"))  # (10 * 32, 20 * 32, 3)
    tiles = torch.tensor(mosaic).view(10, 32, 20, 32, 3).permute(0, 2, 4, 1, 3)
    images, model = tiles.reshape(200, 3, 32, 32), load("non_local")
    before = logits_of(model, images).argmax(1)

    def equal(affinity: torch.Tensor) -> torch.Tensor:  # (B, q, h, w)
        return torch.full_like(affinity, 1 / affinity[0, 0].numel())

    with torch.inference_mode(), recording(model, {"stage2.affinity": equal, "stage3.affinity": equal}):
        after = model(normalise(images)).argmax(1)
    said = int(re.search(r"of 200 test pictures, (\d+) got the same answer", GUIDE)[1])
    assert abs(int((before == after).sum()) - said) <= 1  # a close call may fall otherwise on another machine


def test_the_guide_says_of_se_what_the_shipped_network_does(examples):
    def change(block: str) -> float:
        gates = [seen.maps[f"{block}.refine.gate"].values for seen in found]
        return float(np.ptp(gates, axis=0).max())

    found = [inspect(load("se"), examples[name], stage="layer4.1") for name in ("cat", "truck", "ship")]
    assert change("layer2.1") < 0.1  # on a scale from 0 to 1
    assert change("layer4.1") > 0.5
