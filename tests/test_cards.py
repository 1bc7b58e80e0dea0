"""What is said of a mechanism: figures from its files, limits from what it records, its place and source."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import CATALOGUE, checkpoint, load, metadata
from models.checkpoint import save, write_facts
from models.results import predictions, table
from models.results.table import trained
from tests.networks import network
from visualize import inspect
from visualize.texts import cards

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "visualize" / "page"
GUIDE = " ".join((ROOT / "visualize" / "texts" / "reading" / "en.md").read_text(encoding="utf-8").split())
FACTS = {"accuracy": 93.0, "accuracy_mirror": 93.5, "recipe": "cpu", "epochs": 12, "seed": 0, "flops": 1.11e9}


@pytest.mark.slow
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
    for part in ("models/attention/se.py", "slot `refine`", "all eight blocks", "Family: Channels"):
        assert part in text
    assert "None" not in text
    assert " % (" not in cards.figures("sk", tmp_path)


def test_every_entry_has_a_card(tmp_path):
    for name, entry in CATALOGUE.items():
        text = cards.card(name)
        assert text.startswith(f"### {entry.title}\n")
        assert f"`{entry.source}`" in text and (ROOT / entry.source).is_file()
        assert f'"{name}"' in (ROOT / entry.source).read_text() or name == "plain"
        assert ("not trained yet" in cards.figures(name, tmp_path)) == (name in metadata.networks())


def fixed(text: str) -> list[str]:
    """What is the same in every language: formulas and code, and where the paragraphs end."""
    found = re.findall(r"\$\$.+?\$\$|\$.+?\$|`.+?`|\n\n+", text.strip(), re.DOTALL)
    return ["".join(part.split()) for part in found]


@pytest.mark.parametrize("language", [file.stem for file in cards.EXPLANATIONS.glob("*.md")])
def test_an_explanation_in_another_language_has_the_same_formulas(language):
    assert set(cards.explanations(language)) <= set(CATALOGUE)  # a new one may wait for its translation
    for name, text in cards.explanations(language).items():
        assert fixed(text) == fixed(CATALOGUE[name].explanation), name
        shapes = cards.card(name).count(cards.SHAPES["en"])
        assert cards.card(name, language).count(cards.SHAPES[language]) == shapes
    assert cards.languages("se") == ["en", language]


def test_a_repaired_checkpoint_is_seen_without_a_restart(tmp_path):
    assert metadata.fault("se", tmp_path) == "se is not trained yet."
    save(network("se"), "se", FACTS, tmp_path)
    assert metadata.fault("se", tmp_path) is None
    (tmp_path / "se.safetensors").write_bytes(b"")
    assert "empty" in metadata.fault("se", tmp_path)


def write_answers(folder: Path, name: str, right: int, first: int = 0, count: int = 512, **more) -> dict:
    """Facts and answers of a network that gets `right` images right, counted from image `first`."""
    labels = np.arange(count) % 10
    is_right = np.isin(np.arange(count), np.arange(first, first + right))
    accuracy = 100 * right / count
    facts = {
        "name": name,
        "recipe": "smoke",
        "settings": {},
        "epochs": 1,
        "accuracy": accuracy,
        "sha256": name,
    }
    facts |= {"test_images": count, "parameters": 11_173_962} | more
    write_facts(name, facts, folder)
    predictions.store(name, np.where(is_right, labels, (labels + 1) % 10), labels, facts, folder)
    return facts


@pytest.mark.parametrize(
    ("right", "first", "kind"),
    [(410, 0, "better"), (410, 100, "same"), (390, 0, "worse"), (400, 0, "same")],
)
def test_card_and_table_give_one_verdict(tmp_path, right, first, kind):
    """Ten images more are a difference if the rest is the same, though the intervals overlap."""
    write_answers(tmp_path, "plain", 400)
    facts = write_answers(tmp_path, "se", right, first)
    ((row,),) = ([row for row in block["rows"] if row["name"] == "se"] for block in table.results(tmp_path))
    assert row["verdict"]["kind"] == kind
    said = cards.figures("se", tmp_path)
    counts = f"+{row['verdict']['better']} -{row['verdict']['worse']} test images"
    assert f"**{row['beside']}** ({counts})" in said and "overlap" not in said

    found = metadata.accuracy(facts)
    assert {key: found[key] for key in ("value", "low", "high")} == row["accuracy"]
    assert f"{found['value']:.2f} % ({found['low']:.2f} to {found['high']:.2f})" in said
    assert found["high"] - found["low"] > 6  # of 512 images, not of 10,000
    assert "| Test images | 512 | 512 |" in said


def test_a_card_compares_no_recipes(tmp_path):
    write_answers(tmp_path, "plain", 400)
    write_answers(tmp_path, "se", 500, recipe="gpu")
    said = cards.figures("se", tmp_path)
    assert "**not compared with plain**" in said and "another recipe" in said
    write_answers(tmp_path, "se", 500, accuracy=None)
    assert "Accuracy" not in cards.beside(
        "se", *(checkpoint.read_facts(n, tmp_path) for n in ("se", "plain")), tmp_path
    )


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
        ("non_local", ["shares (1×)", "changes the features by", "8 × 8 = 64 cells, each 4 pixels"]),
        ("danet", ["shares (1×)", "changes the features by", "8 × 8 = 64 cells"]),  # recorded on the CPU
        ("ccnet", ["shares (1×)", "changes the features by", "8 × 8 = 64 cells"]),
        ("non_local_dot_product", ["changes the features by", "8 × 8 = 64 cells"]),  # no shares
        ("efficient_attention", ["shares (1×)", "8 × 8 = 64 cells"]),  # no map has that line below it
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
    """*Level* makes all shares equal."""
    rows = checkpoint.read_facts("non_local")["evidence"]["replacements"]
    (row,) = (row for row in rows if row["replacement"] == "level" and row["scope"] == "all")
    assert f"of {row['images']:,} test pictures, {row['images'] - row['changed']:,} got the same" in GUIDE


def test_the_guide_says_how_long_the_shipped_networks_were_trained():
    assert "one seed and twelve epochs" in GUIDE
    assert {facts["epochs"] for facts in trained()} == {12}


def test_the_guide_says_of_se_what_the_shipped_network_does(examples):
    def change(block: str) -> float:
        gates = [seen.maps[f"{block}.refine.gate"].values for seen in found]
        return float(np.ptp(gates, axis=0).max())

    found = [inspect(load("se"), examples[name], stage="layer4.1") for name in ("cat", "truck", "ship")]
    assert change("layer2.1") < 0.1  # on a scale from 0 to 1
    assert change("layer4.1") > 0.5
