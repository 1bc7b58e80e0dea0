"""What the page shows of a network's evidence is what stands in its files."""

import numpy as np
import pytest
import torch
from made_up import write_evidence

from models.checkpoint import read_facts, write_facts
from models.recording import Record
from models.results import averages
from models.results.evidence import at_once, networks_at_once
from models.statistics import paired_interval
from visualize.record.encoding import decode
from visualize.texts.evidence import evidence, profile


@pytest.fixture
def folder(tmp_path):
    write_facts("danet", {"name": "danet", "accuracy": 92.0, "sha256": "of danet"}, tmp_path)
    return tmp_path


def test_every_number_comes_from_the_files(folder):
    assert evidence("danet", folder) is None
    stored = write_evidence("danet", folder)
    found = evidence("danet", folder)
    assert len(found["rows"]) == len(stored["replacements"])
    for row, kept in zip(found["rows"], stored["replacements"]):
        assert all(
            row[key] == kept[key] for key in ("replacement", "scope", "strength", "images", "p", "verdict")
        )
        more, fewer = kept["right_only_intact"], kept["right_only_replaced"]
        assert row["lost"] == paired_interval(more, fewer, kept["images"])
        assert row["right"] == pytest.approx(100 * kept["right"] / kept["images"], abs=0.005)
    for line in found["tensors"]:
        kept = stored["tensors"][line["tensor"]]
        assert all(line[key] == kept[key] for key in ("mean", "low", "high", "from_picture", "from_query"))
        assert line["twin"] == stored["twin"][line["tensor"]]
        assert line["agreement"] == stored["agreement"].get(line["tensor"])
        assert [words.split(":")[0] for words in line["badges"]] == kept["badges"]
    assert {line["map"]: line["control"] for line in found["faithfulness"]} == {
        **dict.fromkeys(("Grad-CAM", "stage2.position", "stage3.position"), False),
        **dict.fromkeys(("random", "centre", "Sobel"), True),
    }
    assert all(line["road"] == stored["faithfulness"][line["map"]]["road"] for line in found["faithfulness"])
    kept = averages.read("danet", "of danet", folder).by_class
    position = next(each for each in found["profiles"] if each["tensor"] == "stage3.position")
    np.testing.assert_allclose(
        decode(position) / 64, kept["stage3.position"].float().reshape(10, 8, 8), rtol=1e-3
    )


def test_evidence_of_other_weights_is_none(folder):
    write_evidence("danet", folder)
    write_facts("danet", read_facts("danet", folder) | {"sha256": "of others"}, folder)
    assert evidence("danet", folder) is None and networks_at_once(folder) == []
    assert evidence("border_align", folder) is None  # no network


def test_without_the_averages_there_are_no_profiles(folder):
    write_evidence("danet", folder)
    averages.file_of("danet", folder).unlink()
    assert evidence("danet", folder)["profiles"] == []


def test_faithfulness_waits_for_its_controls(folder):
    write_evidence("danet", folder)
    facts = read_facts("danet", folder)
    del facts["evidence"]["faithfulness"]["Sobel"]  # not measured yet
    write_facts("danet", facts, folder)
    assert evidence("danet", folder)["faithfulness"] == []


@pytest.mark.parametrize(
    "axes, role, over, shape, kept, drawn, mean_over, times",
    [
        ("b c 1 1", "gate", "", (6, 1, 1), (6, 1, 1), "lines", "", 1),
        ("b 1 h w", "gate", "", (1, 3, 4), (1, 3, 4), "places", "", 1),
        ("b c h w", "gate", "", (6, 3, 4), (6, 1, 1), "lines", "h w", 1),
        ("b q h w", "share", "h w", (12, 3, 4), (1, 3, 4), "places", "q", 12),
        ("b k h w", "share", "h w", (2, 3, 4), (2, 3, 4), "places", "k", 12),
        ("b branch c 1 1", "share", "branch", (2, 6, 1, 1), (2, 6, 1, 1), "lines", "", 1),
    ],
)
def test_a_profile_keeps_what_can_be_drawn(axes, role, over, shape, kept, drawn, mean_over, times):
    values = torch.rand(10, *kept, generator=torch.Generator().manual_seed(0))
    record = Record(torch.empty(1, *shape, device="meta"), axes, role, over)
    found = profile("layer1.0.refine.it", values, record)
    assert (found["drawn"], found["mean_over"], found["block"]) == (drawn, mean_over, "layer1.0")
    expected = (
        values[:, -1]
        if "branch" in axes
        else values.mean(1)
        if "h w" in axes and drawn == "places"
        else values
    )
    expected = times * expected.reshape(decode(found).shape).numpy()
    np.testing.assert_allclose(decode(found), expected, atol=1e-3)
    assert found["spread"] == pytest.approx(expected.std(0).mean(), abs=1e-3)


def test_a_network_in_a_few_words(folder):
    write_evidence("danet", folder)
    facts = read_facts("danet", folder)
    found = at_once(facts)
    average = found["rows"]["average"]
    assert found["right"] == 92 and average["right"] < 92
    assert found["line"] == f"its average: 92.0 → {average['right']:.1f}"
    write_evidence("danet", folder, used=False)
    assert at_once(read_facts("danet", folder))["line"] == "no measurable use"
    for row in facts["evidence"]["replacements"]:
        if row["replacement"] == "average":
            row["verdict"] = "same"
    assert at_once(facts)["line"] == "its average: no clear loss"
