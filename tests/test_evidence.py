"""Evidence that attention is used: what it must find where we know the answer, and that it is kept."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import pictures, randomise
from filelock import FileLock
from scipy.stats import binomtest, entropy
from torch import nn

import models
from models import checkpoint, data
from models.catalogue import BLOCKS
from models.checkpoint import CheckpointError, read_facts, write_facts
from models.preprocessing import normalise
from models.recording import record, recording
from models.replacements import Attention, attention_of, replace
from models.results import averages, evidence, maps, table
from models.results.prefix import outputs, starting_from
from models.statistics import use_in_words
from tests.made_up import write_evidence
from visualize.texts.evidence import evidence as shown_evidence

SHA = "of the weights"
GATE = ("b c 1 1", "gate", "", (0, 1), (6, 1, 1))


class Wired(nn.Module):
    """Its first gates are the answer; its second ones are one half whatever the picture."""

    def __init__(self, colours: torch.Tensor):
        """Args: colours: (10, 3), the mean of each class after normalising."""
        super().__init__()
        self.layer1 = nn.ModuleList([Judge(colours), Half()])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.layer1[0](images)
        return 10 * self.layer1[1](logits)


class Judge(nn.Module):
    def __init__(self, colours: torch.Tensor):
        super().__init__()
        self.colours = nn.Parameter(colours, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        distances = (images.mean((2, 3))[:, None] - self.colours).square().sum(2)  # (B, 10)
        return record(self, "gate", torch.sigmoid(2 - 4 * distances), "b c", role="gate")


class Half(nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * record(self, "gate", torch.full_like(logits, 0.5), "b c", role="gate")


@pytest.fixture
def wired(tiny_cifar, tmp_path, monkeypatch) -> Path:
    """A folder with the facts of a network "se" that is the one above."""
    images, labels = data.load("cifar10")
    means = normalise(images).mean((2, 3))  # (320, 3)
    colours = torch.stack([means[labels == label].mean(0) for label in range(10)])
    model = Wired(colours).eval()
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    facts = {"name": "se", "dataset": "cifar10", "accuracy": 100.0, "sha256": SHA}
    write_facts("se", facts, folder)
    monkeypatch.setattr(
        evidence, "restore_with_facts", lambda name, folder: (model, read_facts(name, folder))
    )
    monkeypatch.setattr(evidence, "measure_maps", lambda *arguments: None)  # see test_maps
    return folder


def rows_of(found: dict) -> dict[tuple[str, str], dict]:
    return {(row["replacement"], row["scope"]): row for row in found["replacements"] if row["strength"] == 1}


def test_attention_that_is_the_answer_is_used_and_a_constant_is_not(wired):
    found = evidence.measure("se", wired, quiet=True)
    rows = rows_of(found)
    for replacement in ("average", "another picture's", "level", "shuffled", "best constant"):
        row = rows[replacement, "all"]
        assert row["verdict"] == "better" and row["right_only_intact"] > 40, replacement
        said = "" if replacement in ("level", "shuffled") else "used: "  # they take sizes away, too
        assert row["words"] == f"{said}{100 * row['right_only_intact'] / 64:.1f} points are lost"
        assert row["right"] == 64 - row["right_only_intact"] and row["images"] == 64
    for replacement in evidence.ALONE[:-1]:
        assert rows[replacement, "layer1.0"]["verdict"] == "better", replacement
        row = rows[replacement, "layer1.1"]
        assert row["words"] == "no measurable use" and row["changed"] == 0 and row["p"] == 1, replacement
    assert ("query ignored", "all") not in rows  # nobody asks
    assert found["tensors"]["layer1.1.gate"]["badges"] == ["constant"]
    assert found["tensors"]["layer1.0.gate"]["badges"] == []
    assert found["tensors"]["layer1.0.gate"]["from_picture"] > 0.9


def test_p_values_are_mcnemars_with_holms_correction(wired):
    rows = evidence.measure("se", wired, quiet=True)["replacements"]
    alone = [
        binomtest(row["right_only_intact"], row["right_only_intact"] + row["right_only_replaced"]).pvalue
        if row["right_only_intact"] + row["right_only_replaced"]
        else 1.0
        for row in rows
    ]
    order, largest = np.argsort(alone, kind="stable"), 0.0
    for rank, index in enumerate(order):  # by hand
        largest = max(largest, min(1.0, alone[index] * (len(rows) - rank)))
        assert rows[index]["p"] == pytest.approx(largest, rel=1e-5)


def test_words():
    lost = {"kind": "better", "better": 50, "worse": 9}
    assert use_in_words(lost, 1000) == "used: 4.1 points are lost"
    assert use_in_words(lost, 1000, taken_away=False) == "4.1 points are lost"
    assert use_in_words({"kind": "worse", "better": 9, "worse": 50}, 1000) == "4.1 points are won"
    assert use_in_words({"kind": "same", "better": 9, "worse": 9}, 1000) == "no measurable use"


def test_doubled_residuals_are_no_sign_of_use(wired):
    words = rows_of(evidence.measure("se", wired, quiet=True))["factor 1", "all"]["words"]
    assert words.endswith("points are lost") and "used" not in words


def test_answers_are_counted_beside_those_as_trained(wired):
    """By hand, from the answers themselves; of the last part only the images that are asked for."""
    model, _ = evidence.restore_with_facts("se", wired)
    attention, found = attention_of(model), averages.Averages(0, {}, {})
    images, labels = data.load("cifar10", train=False)
    labels[:7] = (labels[:7] + 2) % 10  # as if the network were wrong on these
    row = {"replacement": "shuffled", "strength": 1.0, "scope": "all", "images": 30}
    row |= dict.fromkeys(("counted", *evidence.COUNTS), 0)
    for part in torch.arange(64).split(16)[:2]:
        evidence.count(model, attention, found, [row], part, images, labels)
    with torch.inference_mode():
        intact = model(normalise(images[:30])).argmax(1)
        with recording(model, replace("shuffled", "all", attention)):
            replaced = model(normalise(images[:30])).argmax(1)
    truth = labels[:30]
    assert "counted" not in row and int((intact != truth).sum()) == 7
    assert row["right"] == int((replaced == truth).sum())
    assert row["right_only_intact"] == int(((intact == truth) & (replaced != truth)).sum()) > 0
    assert row["right_only_replaced"] == int(((intact != truth) & (replaced == truth)).sum())
    assert row["changed"] == int((intact != replaced).sum()) > 0


@pytest.mark.parametrize("name", ["se", "danet", "ocr", "dca_se", "split_attention"])
def test_what_comes_before_an_edit_is_computed_once_and_changes_no_bit(name):
    """Also where attention stands in the head, or where blocks hand on more than their output."""
    model = randomise(models.build(name))
    images, attention = pictures(2), attention_of(model)
    with torch.inference_mode(), recording(model), outputs(model) as computed:
        model(images)
    carries = name == "dca_se"
    blocks = [path for path in computed if path.count(".") == 1]
    assert blocks[:2] == ([] if carries else ["layer1.0", "layer1.1"])
    ran = []
    hooks = [
        part.register_forward_hook(lambda *_, path=path: ran.append(path))
        for path, part in model.named_modules()
        if re.fullmatch(r"layer\d\.\d\.(conv1|block)", path)
    ]
    blocks = [*{each.block: None for each in attention.values()}]
    for scope in dict.fromkeys(("all", blocks[0], blocks[len(blocks) // 2], blocks[-1])):
        edits = replace("shuffled", scope, attention)
        with torch.inference_mode(), recording(model, edits):
            whole = model(images)
        ran.clear()
        with torch.inference_mode(), recording(model, edits), starting_from(model, computed, edits):
            assert torch.equal(model(images), whole), scope
        touched = [block for block in BLOCKS if any(path.startswith(f"{block}.") for path in edits)]
        first = 0 if carries or not computed else BLOCKS.index(touched[0]) if touched else None
        if first is not None:
            assert [path.rsplit(".", 1)[0] for path in ran] == list(BLOCKS[first:])
        elif all(path.startswith("head.") for path in edits):
            assert ran == []
        else:  # between two stages
            assert 0 < len(ran) < len(BLOCKS)
    for hook in hooks:
        hook.remove()
    with torch.inference_mode():  # the network is what it was
        assert all("forward" not in vars(part) for part in model.modules())


def test_a_network_without_attention_is_passed_over(wired, monkeypatch):
    plain = nn.Sequential(nn.Flatten()).eval()
    monkeypatch.setattr(
        evidence, "restore_with_facts", lambda name, folder: (plain, read_facts(name, folder))
    )
    before = (wired / "se.json").read_bytes()
    assert evidence.measure("se", wired, quiet=True) == {}
    assert (wired / "se.json").read_bytes() == before


# Kept, and gone on with.


def test_an_interrupted_run_goes_on_and_ends_alike(wired, monkeypatch):
    monkeypatch.setattr(evidence, "batches", lambda count: torch.arange(count).split(16))
    before = (wired / "se.json").read_bytes()
    evidence.measure("se", wired, quiet=True)
    whole, kept = (wired / "se.json").read_bytes(), averages.file_of("se", wired).read_bytes()
    assert evidence.evidence_of(read_facts("se", wired)) is not None

    averages.file_of("se", wired).unlink()
    (wired / "se.json").write_bytes(before)
    count, counted, most = evidence.count, [], 2

    def interrupted(model, attention, found, rows, part, *more):
        if len(counted) == most:
            raise KeyboardInterrupt
        counted.append(tuple(part.tolist()))
        return count(model, attention, found, rows, part, *more)

    monkeypatch.setattr(evidence, "count", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evidence.measure("se", wired, quiet=True)
    facts = read_facts("se", wired)
    assert {row["counted"] for row in facts["evidence"]["replacements"]} == {32}
    assert evidence.evidence_of(facts) is None and evidence.markdown(wired) == ""  # no verdicts yet

    most = 100
    evidence.measure("se", wired, quiet=True)
    assert len(counted) == len(set(counted)) == 4  # nothing was measured twice
    assert (wired / "se.json").read_bytes() == whole
    assert averages.file_of("se", wired).read_bytes() == kept

    evidence.measure("se", wired, quiet=True)
    assert len(counted) == 4 and (wired / "se.json").read_bytes() == whole


def test_the_averages_alone_and_the_rest_later(wired, monkeypatch):
    with monkeypatch.context() as here:
        here.setattr(evidence, "count", None)
        here.setattr(evidence, "judge", None)
        evidence.measure_all(["se"], wired, None, only_averages=True)
    facts, found = read_facts("se", wired), averages.read("se", SHA, wired)
    assert found.average.keys() == found.best.keys() == facts["evidence"]["tensors"].keys()
    assert evidence.evidence_of(facts) is None
    first = averages.file_of("se", wired).read_bytes()
    assert evidence.evidence_of({**facts, "evidence": evidence.measure("se", wired, quiet=True)})
    assert averages.file_of("se", wired).read_bytes() == first


def test_an_end_between_the_last_row_and_the_verdicts(wired, monkeypatch):
    whole = evidence.measure("se", wired, quiet=True)
    facts = read_facts("se", wired)
    for row in facts["evidence"]["replacements"]:
        del row["p"], row["verdict"], row["words"]
    write_facts("se", facts, wired)
    assert evidence.measure("se", wired, quiet=True) == whole


def test_other_weights_are_measured_afresh(wired):
    first = evidence.measure("se", wired, quiet=True)
    facts = read_facts("se", wired) | {"sha256": "of others"}
    write_facts("se", facts, wired)
    assert evidence.evidence_of(facts) is None
    assert averages.read("se", facts["sha256"], wired) is None
    second = evidence.measure("se", wired, quiet=True)
    assert second == first | {"sha256": "of others"}
    assert averages.read("se", "of others", wired).images == second["training_images"]


def test_a_trial_does_not_replace_a_measurement(wired):
    evidence.measure("se", wired, quiet=True)
    whole, kept = (wired / "se.json").read_bytes(), averages.file_of("se", wired).read_bytes()
    with pytest.raises(CheckpointError, match="measured on 64 images already"):
        evidence.measure("se", wired, 10, quiet=True)
    assert (wired / "se.json").read_bytes() == whole and averages.file_of("se", wired).read_bytes() == kept


def test_averages_that_were_lost_come_back_without_the_rest(wired, monkeypatch):
    whole = evidence.measure("se", wired, quiet=True)
    kept = averages.file_of("se", wired).read_bytes()
    averages.file_of("se", wired).unlink()
    monkeypatch.setattr(evidence, "count", None)
    evidence.measure("se", wired, only_averages=True, quiet=True)
    assert evidence.evidence_of(read_facts("se", wired)) == whole
    assert averages.file_of("se", wired).read_bytes() == kept


def test_averages_of_other_gates_are_measured_afresh(wired):
    """The same weights may record another set of gates than an older version of the code did."""
    whole = evidence.measure("se", wired, quiet=True)
    found = averages.read("se", SHA, wired)
    found.average["of.an.older.name"] = found.average.pop(next(iter(found.average)))
    averages.write("se", found, SHA, wired)
    assert evidence.measure("se", wired, quiet=True) == whole
    assert averages.read("se", SHA, wired).average.keys() == whole["tensors"].keys()


def test_what_was_measured_of_other_gates_is_forgotten(wired):
    facts = read_facts("se", wired)
    evidence.measure("se", wired, quiet=True)
    older = read_facts("se", wired)
    older["evidence"] |= {"twin": 1, "agreement": {}, "faithfulness": {"of.an.older.name": {}}}
    older["evidence"]["tensors"] = {"of.an.older.name": {}}
    write_facts("se", older, wired)
    (wired / "se.averages.safetensors").unlink()
    again = evidence.measure("se", wired, quiet=True)
    assert "twin" not in again and "agreement" not in again and again["faithfulness"] == {}
    assert facts["sha256"] == read_facts("se", wired)["sha256"]


def test_rows_that_stopped_between_two_parts_are_counted_afresh(wired, monkeypatch):
    """Such as after another size of the parts: they would be judged by what they had counted."""
    whole = evidence.measure("se", wired, quiet=True)
    facts = read_facts("se", wired)
    facts["evidence"]["replacements"][0] |= {"counted": 3, "right": 0}
    write_facts("se", facts, wired)
    assert evidence.measure("se", wired, quiet=True) == whole


def test_weights_that_change_meanwhile(wired, monkeypatch):
    count = evidence.count

    def replaced(*arguments):
        write_facts("se", read_facts("se", wired) | {"sha256": "of others"}, wired)
        return count(*arguments)

    monkeypatch.setattr(evidence, "count", replaced)
    with pytest.raises(CheckpointError, match="changed while"):
        evidence.measure("se", wired, quiet=True)
    assert read_facts("se", wired)["sha256"] == "of others"


def test_what_others_wrote_into_the_facts_stays(wired):
    evidence.measure("se", wired, 10, quiet=True)
    write_facts("se", read_facts("se", wired) | {"latency_ms": 1.5}, wired)
    evidence.measure("se", wired, quiet=True)
    facts = read_facts("se", wired)
    assert facts["latency_ms"] == 1.5 and facts["evidence"]["test_images"] == 64


# The averages.


def tallied(kind: tuple, t: torch.Tensor, labels: torch.Tensor) -> averages.Tally:
    tally = averages.Tally(Attention("it", *kind), 2, t.device)
    for part in (slice(0, 3), slice(3, None)):
        tally.add(t[part], labels[part])
    return tally


def test_where_the_variance_of_a_gate_comes_from():
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(8, 6, 1, 1, generator=generator)
    labels = torch.tensor([0, 1, 0, 1, 1, 1, 0, 1])
    tally = tallied(GATE, t, labels)
    facts = tally.facts()
    assert facts["from_picture"] == pytest.approx(1 - np.var(t.numpy().mean(0)) / np.var(t.numpy()), rel=1e-4)
    assert facts["mean"] == pytest.approx(float(t.mean()), rel=1e-4) and facts["low"] == pytest.approx(
        float(t.min()), rel=1e-4
    )
    torch.testing.assert_close(tally.by_class[1].float(), t[labels == 1].mean(0))
    assert tally.by_class.shape == (2, 6, 1, 1)


def test_badges():
    labels = torch.zeros(8, dtype=torch.int64)
    spread = torch.rand(8, 6, 1, 1, generator=torch.Generator().manual_seed(0))
    by_channel = torch.linspace(0.2, 0.8, 6)[None, :, None, None] + 0.01 * spread
    assert tallied(GATE, spread, labels).facts()["badges"] == []
    for value in (0.3, 1 / 3, 1 / 15):  # no sum of these is exact
        facts = tallied(GATE, torch.full((len(labels), 6, 1, 1), value), labels).facts()
        assert (facts["from_picture"], facts["badges"]) == (0, ["constant"])
    assert tallied(GATE, by_channel, labels).facts()["badges"] == ["constant"]
    assert tallied(GATE, spread.round(), labels).facts()["badges"] == ["saturated"]
    share = ("b q k", "share", "k", (0, 1), (4, 5))
    even = (torch.randn(8, 4, 5, generator=torch.Generator().manual_seed(0)) * 0.05).softmax(2)
    assert tallied(share, even, labels).facts()["badges"] == ["uniform"]


def test_who_asks():
    generator = torch.Generator().manual_seed(0)
    kind = ("b q k", "share", "k", (0, 1), (4, 5))
    labels = torch.zeros(8, dtype=torch.int64)
    t = (2 * torch.randn(8, 4, 5, generator=generator)).softmax(2)
    tally = tallied(kind, t, labels)
    expected = 1 - np.var(t.numpy().mean(1)) / np.var(t.numpy())
    assert tally.facts()["from_query"] == pytest.approx(expected, rel=1e-4)
    assert tally.facts()["entropy"] == pytest.approx(np.mean(entropy(t, axis=2)) / math.log(5), rel=1e-4)
    assert tally.by_class.shape == (2, 1, 5)
    same = t[:, :1].expand_as(t)
    assert tallied(kind, same, labels).facts()["from_query"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "kind, profile",
    [
        (GATE, (6, 1, 1)),
        (("b 1 h w", "gate", "", (0, 1), (1, 3, 4)), (1, 3, 4)),
        (("b c h w", "gate", "", (0, 1), (6, 3, 4)), (6, 1, 1)),
        (("b c h 1", "gate", "", (0, 1), (6, 3, 1)), (6, 1, 1)),
        (("b head q h w", "share", "h w", (0, 1), (2, 12, 3, 4)), (2, 1, 3, 4)),
        (("b g k h w", "share", "k", (0, 1), (2, 5, 3, 4)), (2, 5, 1, 1)),
    ],
)
def test_a_class_profile_has_one_value_a_channel_or_one_a_place(kind, profile):
    t = torch.full((4, *kind[4]), 0.25)
    assert tallied(kind, t, torch.tensor([0, 1, 1, 0])).by_class.shape == (2, *profile)


def test_what_is_too_large_is_averaged_and_says_so():
    each = Attention("layer1.0.it", "b g k h w", "share", "k", (0, 1), (2, 5, 8, 8))
    t = torch.rand(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    found = averages.Averages(1, {each.path: t}, {each.path: t[None, :, :, :1, :1]})
    averages.shorten(found, {each.path: each}, averages.HEADER + 1000)
    assert found.average[each.path].shape == (2, 5, 1, 8) and found.averaged_over == {each.path: "h"}
    torch.testing.assert_close(found.average[each.path][:, :, 0], t.mean(2))
    with pytest.raises(ValueError, match="too large"):
        averages.shorten(found, {each.path: each}, averages.HEADER)


def test_the_best_constant_loses_less_than_the_average():
    """Two gates let either of two opposite votes through; only their average over pictures is undecided."""

    class Votes(nn.Module):
        def __init__(self):
            super().__init__()
            self.votes = nn.Parameter(torch.tensor([[4.0, -4.0], [-4.0, 4.0]]), requires_grad=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            brightness = images.mean((1, 2, 3))[:, None]
            gate = torch.sigmoid(torch.cat([brightness, -brightness], dim=1))
            return record(self, "gate", gate, "b c", role="gate") @ self.votes

    model = Votes().eval()
    images = torch.randint(0, 256, (600, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    labels = torch.zeros(600, dtype=torch.int64)  # the first vote is right on all
    start = {"gate": torch.tensor([0.5, 0.5])}
    best = averages.fit_constants(model, attention_of(model), start, images, labels)["gate"]
    assert best[0] > 0.54 and best[1] < 0.46 and best.dtype == torch.float16


@pytest.mark.parametrize("kind", [GATE, ("b c 1 1", "gate", "", (1, 2), (6, 1, 1))])
def test_constants_start_at_the_average(kind):
    each = Attention("it", *kind)
    m = each.bounds[0] + torch.linspace(0.1, 0.9, 6).view(6, 1, 1)
    torch.testing.assert_close(averages.bounded(each, averages.unbounded(each, m)), m)
    share = Attention("it", "b k h w", "share", "h w", (0, 1), (2, 3, 4))
    m = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)).softmax(1).view(2, 3, 4)
    torch.testing.assert_close(averages.bounded(share, averages.unbounded(share, m)), m)


# Files that cannot be.


def test_only_what_an_edit_reaches_is_computed(monkeypatch):
    """A gate of the last block changes nothing that a convolution sees."""
    model, convolved = randomise(models.build("se")), []
    images, attention = pictures(2), attention_of(model)
    with torch.inference_mode(), recording(model), outputs(model) as computed:
        model(images)
    forward = nn.Conv2d._conv_forward
    monkeypatch.setattr(
        nn.Conv2d, "_conv_forward", lambda self, x, *rest: convolved.append(self) or forward(self, x, *rest)
    )
    for scope, count in {"layer4.1": 0, "layer4.0": 2, "layer3.1": 5}.items():
        edits = replace("shuffled", scope, attention)
        with torch.inference_mode(), recording(model, edits), starting_from(model, computed, edits):
            model(images)
        assert sum(conv.weight.shape[0] > 100 and conv.weight.shape[1] > 100 for conv in convolved) == count
        convolved.clear()


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_broken_file_of_averages(tmp_path, content):
    assert averages.read("se", SHA, tmp_path) is averages.load("se", SHA, tmp_path) is None
    averages.file_of("se", tmp_path).write_bytes(content)
    assert averages.read("se", SHA, tmp_path) is averages.load("se", SHA, tmp_path) is None


# A real network, by the command.


@pytest.mark.slow
def test_the_command(tiny_cifar, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "checkpoints"
    facts = {"name": "danet", "dataset": "cifar10", "accuracy": 10.0}
    checkpoint.save(randomise(models.build("danet")), "danet", facts, folder)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["evidence", "--folder", str(folder), *arguments])
        evidence.main()

    run("--table")
    assert capsys.readouterr().out == ""  # nothing measured, nothing printed
    with pytest.raises(SystemExit, match="There is no folder"):
        run("danet", "--folder", str(tmp_path / "chekpoints"))
    assert not (tmp_path / "chekpoints").exists()
    monkeypatch.setattr(maps, "STEPS", 2)
    monkeypatch.setattr(maps, "PERCENTILES", (50,))
    run("danet", "--images", "2")
    found = read_facts("danet", folder)["evidence"]
    kept = averages.read("danet", found["sha256"], folder)
    assert set(found["tensors"]) == {
        f"{stage}.{name}" for stage in ("stage2", "stage3") for name in ("position", "channel")
    }
    assert kept.average["stage2.position"].shape == (256, 16, 16) == kept.best["stage2.position"].shape
    assert averages.file_of("danet", folder).stat().st_size <= averages.MOST
    scopes = {scope for replacement, scope in rows_of(found) if replacement == "query ignored"}
    assert scopes == {"all", "stage2", "stage3"}
    assert ("factor 1", "all") not in rows_of(found)  # shares cannot all be one
    assert all(row["images"] == 2 and "words" in row for row in found["replacements"])
    positions = {"stage2.position", "stage3.position"}
    assert set(found["faithfulness"]) == {"Grad-CAM", "random", "centre", "Sobel"} | positions
    assert set(found["agreement"]) == positions and positions <= set(found["twin"])
    capsys.readouterr()
    run("--table")
    printed = capsys.readouterr().out
    assert printed.startswith("| network |") and printed.count("| DANet |") == 1
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- evidence -->\n<!-- /evidence -->\n")
    run("--write", str(readme))
    assert readme.read_text() == f"a\n<!-- evidence -->\n{printed}<!-- /evidence -->\n"
    with pytest.raises(SystemExit, match="2"):
        run("danet", "--images", "1")
    assert "at least 2" in capsys.readouterr().err


def test_nothing_measured_is_nothing_to_read(tmp_path):
    assert evidence.markdown(tmp_path) == "" == evidence.used(tmp_path)["caption"]


def test_what_is_said_of_a_network_in_a_few_words_and_of_what_is_missing(tmp_path):
    """A block alone may be used, too; who is measured in part has no row, and a sentence."""
    for name in ("se", "eca"):
        write_facts(name, {"name": name, "sha256": SHA, "accuracy": 90.0}, tmp_path)

    def put(name: str, *verdicts: str | None) -> None:
        rows = []
        for scope, verdict in zip(("all", "layer3.1"), verdicts):
            row = {"replacement": "average", "strength": 1, "scope": scope, "images": 100, "right": 90}
            row |= {"right_only_intact": 2, "right_only_replaced": 2, "changed": 4, "p": 1.0, "words": ""}
            rows.append(row | ({"verdict": verdict} if verdict else {}))
        found = {"sha256": SHA, "replacements": rows} | dict.fromkeys(evidence.MEASURED_ON, 100)
        checkpoint.add_facts(name, {"evidence": found}, SHA, tmp_path)

    put("se", "same", "same")
    put("eca", "same", None)
    assert evidence.at_once(read_facts("se", tmp_path))["line"] == "no measurable use"
    assert evidence.markdown(tmp_path).endswith(" Not measured yet: Efficient Channel Attention.")
    put("se", "same", "better")
    assert evidence.at_once(read_facts("se", tmp_path))["line"] == "its average: no clear loss"
    put("se", "better", "same")
    assert evidence.at_once(read_facts("se", tmp_path))["line"] == "its average: 90.0 → 90.0"
    put("eca", "same", "same")
    assert "Not measured yet" not in evidence.markdown(tmp_path)


DAMAGE = {  # what somebody or a disk made of the evidence
    "no rows": lambda found: found.update(replacements=5),
    "a row is none": lambda found: found.update(replacements=[5]),
    "a row is empty": lambda found: found["replacements"].append({"verdict": "same"}),
    "a count is text": lambda found: found["replacements"][0].update(right="9"),
    "no image": lambda found: found["replacements"][0].update(images=0),
    "more than all": lambda found: found["replacements"][0].update(right_only_intact=9_999_999),
    "no average": lambda found: found.update(replacements=found["replacements"][1:2]),
    "of how many": lambda found: found.pop("map_images"),
    "no tensors": lambda found: found.update(tensors=5),
    "a tensor is none": lambda found: found["tensors"].update({"stage2.gate": None}),
    "badges": lambda found: found["tensors"].update({"stage2.gate": {"badges": 5}}),
    "faithfulness": lambda found: found.update(faithfulness=[]),
    "the twin": lambda found: found.update(twin={"stage2.gate": 0.5}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_evidence_is_none_and_the_others_are_read(tmp_path, what):
    """One wrong value in one file, and the page would not start."""
    facts = {"accuracy": 90.0, "test_images": 10_000, "recipe": "cpu", "epochs": 12, "sha256": SHA}
    for name in ("se", "cbam"):
        write_facts(name, facts | {"name": name}, tmp_path)
        write_evidence(name, tmp_path)
    assert {network["key"] for network in evidence.used(tmp_path)["networks"]} == {"se", "cbam"}
    facts = read_facts("se", tmp_path)
    DAMAGE[what](facts["evidence"])
    write_facts("se", facts | {"name": "cbam"}, tmp_path)  # and it calls itself another
    assert [network["key"] for network in evidence.used(tmp_path)["networks"]] == ["cbam"]
    assert shown_evidence("se", tmp_path) is None and shown_evidence("cbam", tmp_path) is not None
    assert [row["key"] for row in table.results(tmp_path)[0]["rows"]] == ["se", "cbam"]


def test_a_network_that_cannot_be_measured_does_not_keep_the_others_waiting(tmp_path, monkeypatch):
    begun = []

    def measure(name, *rest):
        begun.append(name)
        if name == "se":
            raise CheckpointError("se is not trained yet.")

    monkeypatch.setattr(evidence, "measure", measure)
    with pytest.raises(KeyError, match="no mechanism 'see'"):
        evidence.measure_all(["cbam", "see"], tmp_path, None)
    assert begun == []  # a name is wrong: said before hours are spent
    with (
        FileLock(tmp_path / ".sk.evidence.lock.tmp"),
        pytest.raises(CheckpointError, match=r"^se is not trained yet\. Another process measures sk\.$"),
    ):
        evidence.measure_all(["se", "sk", "cbam"], tmp_path, None)
    assert begun == ["se", "cbam"]
    evidence.measure_all(["sk"], tmp_path, None)
    assert begun == ["se", "cbam", "sk"]
