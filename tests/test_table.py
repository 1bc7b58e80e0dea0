"""The table of results: who is compared with whom, and what may be said of it."""

import errno
import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from scipy.stats import binomtest
from torch import nn

import models
from models import checkpoint, statistics
from models.checkpoint import CheckpointError, read_facts, save, write_facts
from models.results import evaluate, evidence, predictions, table

ROOT = Path(__file__).parent.parent
IMAGES = 1000


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


LABELS = np.arange(IMAGES) % 10


def write(folder, name, right, recipe="gpu", key=None, place="", sha256="", answered=True, **more) -> dict:
    """Facts and predictions of a network that gets the images `right` (bool, one each) right."""
    facts = {
        "name": name,
        "recipe": recipe,
        "settings": {"epochs": 45},
        "dataset": "cifar10",
        "epochs": 45,
        "seed": 0,
        "accuracy": 100 * right.mean(),
        "accuracy_mirror": 100 * right.mean(),
        "test_images": len(right),
        "sha256": sha256 or name,
        **more,
    }
    (folder / place).mkdir(parents=True, exist_ok=True)
    write_facts(key or name, facts, folder / place)
    if answered:
        predicted = np.where(right, LABELS[: len(right)], (LABELS[: len(right)] + 1) % 10)
        predictions.store(key or name, predicted, LABELS[: len(right)], facts, folder)
    return facts


def right(*wrong: range) -> np.ndarray:
    """All images but these."""
    found = np.ones(IMAGES, bool)
    for some in wrong:
        found[list(some)] = False
    return found


def rows(folder) -> dict[str, dict]:
    return {row["key"]: row for block in table.results(folder) for row in block["rows"]}


# The tests of significance.


@pytest.mark.parametrize("better, worse", [(0, 0), (1, 0), (5, 5), (0, 8), (12, 30), (431, 421), (700, 600)])
def test_mcnemar_is_the_exact_binomial_test(better, worse):
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert statistics.mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)
    assert statistics.mcnemar(worse, better) == statistics.mcnemar(better, worse)


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # by hand
    assert (
        statistics.holm([]) == []
        and statistics.holm([0.2]) == [0.2]
        and statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    )


def test_the_verdict_is_data_and_its_words_are_made_last():
    same = {"kind": "same", "p": 0.2, "better": 40, "worse": 10}
    assert statistics.verdict(40, 10, 0.2) == same
    assert statistics.verdict(10, 40, 0.051)["kind"] == "same"
    assert statistics.verdict(40, 10, 0.0312)["kind"] == "better"
    assert statistics.verdict(10, 40, 0.00001)["kind"] == "worse"
    assert statistics.in_words(same) == "no measurable difference"
    assert statistics.in_words(statistics.verdict(40, 10, 0.0312)) == "better than plain (p = 0.031)"
    assert statistics.in_words(statistics.verdict(10, 40, 0.00001)) == "worse than plain (p < 0.001)"
    assert statistics.in_words(statistics.UNKNOWN) == "not compared with plain"


def test_wilson():
    """Reference values by hand: p = 0.95, n = 100 gives 0.8882 to 0.9785; it never leaves 0..1."""
    assert statistics.wilson(95.0, 10_000) == pytest.approx((94.555, 95.410), abs=2e-3)
    assert statistics.wilson(95, 100) == pytest.approx((88.825, 97.846), abs=2e-3)
    assert statistics.wilson(100, 10) == pytest.approx((72.247, 100), abs=1e-3)
    assert statistics.wilson(0, 10) == pytest.approx((0, 27.753), abs=1e-3)


def test_an_interval_is_of_the_images_that_were_counted():
    assert statistics.interval(95.0, 100) == {"value": 95.0, "low": 88.82, "high": 97.85}
    assert statistics.interval(None, 100) is None


@pytest.mark.parametrize("shares", [(0.9, 0.02, 0.01), (0.99, 0.004, 0.002), (0.5, 0.2, 0.05)])
def test_a_paired_interval_holds_the_true_difference_19_times_of_20(shares):
    both, only_first, only_second = shares
    counts = np.random.default_rng(0).multinomial(
        2000, [both, only_first, only_second, 1 - sum(shares)], 4000
    )
    found = [statistics.paired_interval(int(more), int(fewer), 2000) for _, more, fewer, _ in counts]
    truth = 100 * (only_first - only_second)
    inside = np.mean([one["low"] <= truth <= one["high"] for one in found])
    assert 0.94 < inside < 0.985


def test_a_paired_interval_is_of_a_difference_in_points():
    assert statistics.paired_interval(50, 9, 1000)["value"] == 4.1
    few, many = statistics.paired_interval(5, 5, 100), statistics.paired_interval(500, 500, 10_000)
    assert few["low"] < many["low"] < 0 < many["high"] < few["high"]
    assert statistics.paired_interval(64, 0, 64) == {
        "value": 100,
        "low": pytest.approx(93, abs=4),
        "high": 100,
    }


# Who is compared with whom.


def test_a_network_beside_plain(folder):
    write(folder, "plain", right(range(50)))
    write(folder, "se", right(range(10, 60)))  # ten better, ten worse
    write(folder, "cbam", right(range(20)))  # thirty better
    write(folder, "sk", right(range(80)))  # thirty worse
    found = rows(folder)
    assert found["plain"]["verdict"] is None and found["plain"]["beside"] is None
    assert found["se"]["verdict"] == {"kind": "same", "p": 1, "better": 10, "worse": 10}
    corrected = pytest.approx(3 * 2 / 2**30)  # Holm: the smallest of three
    assert found["cbam"]["verdict"] == {"kind": "better", "p": corrected, "better": 30, "worse": 0}
    assert found["sk"]["verdict"]["kind"] == "worse"
    assert [row["beside"] for row in found.values()] == [
        None if row["verdict"] is None else statistics.in_words(row["verdict"]) for row in found.values()
    ]
    (block,) = table.results(folder)
    assert "for the 3 comparisons of this table" in block["caption"]


def test_the_number_of_comparisons_counts(folder):
    write(folder, "plain", right(range(50)))
    write(folder, "se", right(range(8, 50)))  # p = 1 / 128
    assert rows(folder)["se"]["beside"] == "better than plain (p = 0.008)"
    for name in ("cbam", "sk", "eca", "bam", "danet", "ccnet"):
        write(folder, name, right(range(50)))
    assert rows(folder)["se"]["verdict"]["kind"] == "same"  # 7 / 128 is more than 5 %


def test_recipes_are_never_compared(folder):
    write(folder, "plain", right(range(50)), recipe="cpu")
    write(folder, "cbam", right(range(9)), recipe="cpu")
    write(folder, "se", right())
    write(folder, "sk", right(), settings={"epochs": 44})  # a recipe of the same name, before it was changed
    blocks = table.results(folder)
    assert [[row["key"] for row in block["rows"]] for block in blocks] == [["plain", "cbam"], ["se"], ["sk"]]
    assert len({block["title"] for block in blocks}) == 3
    found = rows(folder)
    assert found["se"]["verdict"] == found["sk"]["verdict"] == statistics.UNKNOWN
    assert found["cbam"]["verdict"]["kind"] == "better"
    assert table.markdown(folder).count("| network |") == 3


@pytest.mark.parametrize("fault", ["other weights", "missing", "fewer images", "no file", "cut file"])
def test_what_is_stale_is_not_measured(folder, fault):
    write(folder, "plain", right(range(50)))
    facts = write(folder, "se", right(), answered=fault != "missing")
    if fault == "other weights":
        write_facts("se", {**facts, "sha256": "newer"}, folder)
    if fault == "fewer images":
        write_facts("se", {**facts, "test_images": 2 * IMAGES}, folder)
    if fault == "no file":
        (folder / predictions.FILE).unlink()
    if fault == "cut file":
        content = (folder / predictions.FILE).read_bytes()
        (folder / predictions.FILE).write_bytes(content[: len(content) // 2])
    row = rows(folder)["se"]
    assert row["verdict"] == statistics.UNKNOWN
    assert row["accuracy"]["value"] == 100  # the accuracy is in the JSON all the same
    assert "| not compared with plain |" in table.markdown(folder)


def test_networks_whose_weights_do_not_ship(folder, tmp_path):
    write(folder, "plain", right(range(50)))
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, "plain", right(range(52)), seed=1, sha256="another")
    write(elsewhere, "condconv", right(range(10)), seed=0)
    assert table.take(folder, folder) == []  # they are there already
    assert table.take(elsewhere, folder) == ["plain-seed1", "condconv-seed0"]
    found = rows(folder)
    assert list(found) == ["plain", "plain-seed1", "condconv-seed0"]
    assert [row["ships"] for row in found.values()] == [True, False, False]
    assert found["plain-seed1"]["verdict"]["kind"] == "same"
    assert (found["condconv-seed0"]["verdict"]["better"], found["condconv-seed0"]["verdict"]["worse"]) == (
        40,
        0,
    )
    text = table.markdown(folder)
    assert "| Plain ResNet18 \\* |" in text and "\\* Its weights do not ship." in text
    assert [facts["name"] for facts in table.trained(folder)] == ["plain"]


def test_the_table_in_markdown(folder):
    write(folder, "plain", right(range(50)), parameters=11_173_962, flops=1_110_845_440, latency_ms=7.49)
    write(folder, "se", right(range(40)), train_seconds=61.4, latency_gpu_ms=1.27, device="a GPU")
    text = table.markdown(folder)
    lines = [line for line in text.split("\n") if line.startswith("|")]
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "| Plain ResNet18 | 95.00 (93.47 to 96.19) | 95.00 (93.47 to 96.19) | - |" in text
    assert "| 11,173,962 | 1,111 | 7.5 | - | - | 0 |" in text
    assert "better than plain (p = 0.002) (+10 -0)" in text and "| 1.3 | 61 | 0 |" in text
    assert "Recipe gpu: 45 epochs on CIFAR-10" in text and "Trained on a GPU." in text


def test_facts_that_lack_something_do_no_harm(folder):
    write(folder, "plain", right())
    (folder / "se.json").write_text("{")
    write_facts("sk", {"sha256": "", "name": "sk", "accuracy": 90.0}, folder)
    write_facts("bam", {"sha256": "", "accuracy": None}, folder)
    assert list(rows(folder)) == ["plain"]


def test_the_values_that_the_page_is_sent_are_plain(folder):
    write(folder, "plain", right(range(50)))
    write(folder, "se", right(range(40)))
    assert json.loads(json.dumps(table.results(folder), allow_nan=False)) == table.results(folder)
    assert table.results(folder / "nothing") == []


# The file of predictions.


def test_predictions_come_back_and_leave_the_others(folder):
    one = write(folder, "plain", right(range(50)))
    two = write(folder, "se", right(range(3))[:100])  # fewer images: the labels of all stay
    predicted, labels = predictions.read("plain", one, folder)
    assert predicted.dtype == np.uint8 and (predicted != labels).nonzero()[0].tolist() == list(range(50))
    assert np.array_equal(labels, LABELS)
    assert len(predictions.read("se", two, folder)[0]) == 100
    before = (folder / predictions.FILE).read_bytes()
    write(folder, "se", right(range(3))[:100])
    assert (folder / predictions.FILE).read_bytes() == before  # the same figures give the same bytes


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), ValueError("cut off")])
def test_predictions_that_cannot_be_read_are_not_replaced(folder, monkeypatch, fault):
    """Some may be of networks whose weights do not ship: nobody could measure them again."""
    facts = write(folder, "plain", right(range(50)))
    before = (folder / predictions.FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(predictions.np, "load", lambda file: (_ for _ in ()).throw(fault))
        with pytest.raises(CheckpointError, match="cannot be read"):
            predictions.store("se", LABELS, LABELS, facts, folder)
        assert predictions.read("plain", facts, folder) is None
    assert (folder / predictions.FILE).read_bytes() == before


def test_a_network_of_another_recipe_is_not_taken_over_one_that_is_there(folder, tmp_path):
    for recipe in ("paper", "gpu"):
        (tmp_path / recipe).mkdir()
        write(tmp_path / recipe, "se", right(range(50)), recipe=recipe)
    table.take(tmp_path / "paper", folder)
    before = (folder / table.MEASURED / "se-seed0.json").read_bytes()
    with pytest.raises(CheckpointError, match="there already, by the recipe paper"):
        table.take(tmp_path / "gpu", folder)
    assert (folder / table.MEASURED / "se-seed0.json").read_bytes() == before


def test_a_network_takes_about_ten_kilobytes(folder):
    noise = np.random.default_rng(0).integers(0, 10, 10_000)  # as hard to compress as any classes can be
    predictions.store("plain", noise, noise, {"sha256": "f" * 64}, folder)
    first = (folder / predictions.FILE).stat().st_size
    predictions.store("se", noise, noise, {"sha256": "e" * 64}, folder)
    assert (folder / predictions.FILE).stat().st_size - first < 10_000


def store_eight(folder: Path, name: str) -> None:
    for index in range(8):
        predictions.store(f"{name}{index}", np.zeros(9), np.zeros(9), {"sha256": "s"}, folder)


def test_no_entry_is_lost_when_many_store_at_once(folder):
    fork = multiprocessing.get_context("fork")  # the quickest way to another process
    writers = [fork.Process(target=store_eight, args=(folder, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    with np.load(folder / predictions.FILE) as archive:
        assert len(archive.files) == 2 * 3 * 8 + 1


@pytest.mark.slow
def test_a_system_without_fcntl_and_without_utf8_loses_nothing(tmp_path):
    code = """
import sys
from pathlib import Path
sys.modules["fcntl"] = None  # as on Windows
from models.results import predictions, table
facts, folder = {"sha256": "s", "test_images": 3}, Path(sys.argv[-1])
folder.mkdir()
measured = '{"name": "plain", "recipe": "gpu", "accuracy": 90.0, "test_images": 3, "sha256": "s"}'
(folder / "plain.json").write_text(measured)
for name in "ab":
    predictions.store(name, [1, 2, 3], [1, 2, 4], facts, folder)
print([predictions.read(name, facts, folder)[0].tolist() for name in "ab"])
table.main()
"""
    readme = tmp_path / "README.md"
    readme.write_text("é 🔍\n<!-- table -->\n<!-- /table -->\n", encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, "--write", str(readme), "--folder", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[1, 2, 3], [1, 2, 3]]\n"
    written = readme.read_text(encoding="utf-8")
    assert written.startswith("é 🔍\n<!-- table -->\n") and len(written.splitlines()) > 3


def test_a_lock_that_nobody_lets_go_of_is_not_waited_for_for_ever(folder, monkeypatch):
    store_eight(folder, "a")
    before = (folder / predictions.FILE).read_bytes()
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.1)
    sentence = "^Another process holds .*: when it has ended, run `.*evaluate se --predictions`.$"
    with (
        FileLock(folder / f".{predictions.FILE}.lock.tmp"),
        pytest.raises(CheckpointError, match=sentence),
    ):
        predictions.store("se", np.zeros(9), np.zeros(9), {"sha256": "s"}, folder)
    assert (folder / predictions.FILE).read_bytes() == before
    predictions.store("se", np.zeros(9), np.zeros(9), {"sha256": "s"}, folder)


def test_where_an_evaluation_could_not_write_its_classes_all_of_it_comes_again(stored, monkeypatch):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.1)
    with (
        FileLock(stored / f".{predictions.FILE}.lock.tmp"),
        pytest.raises(CheckpointError, match=f"run `.*evaluate plain --folder {stored}`.$"),
    ):
        evaluate.evaluate("plain", stored)


def test_a_folder_that_cannot_be_written_to_is_one_sentence(stored, monkeypatch):
    def refuse(stream):
        raise OSError(errno.EROFS, "Read-only file system")

    before = (stored / "plain.json").read_bytes()
    monkeypatch.setattr(os, "fsync", refuse)
    for option in ([], ["--latency"], ["--predictions"]):
        monkeypatch.setattr(
            sys, "argv", ["models.results.evaluate", "plain", "--folder", str(stored), *option]
        )
        with pytest.raises(SystemExit, match=r"cannot be written to \(Read-only file system\)\.$"):
            evaluate.main()
    assert (stored / "plain.json").read_bytes() == before


# Measured on a stored file, which the small CIFAR-10 stands in for.


class Colours(nn.Sequential):
    """A network that sees nothing but the mean colour."""

    def __init__(self, name: str, num_classes: int = 10):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))


@pytest.fixture
def stored(tiny_cifar, folder, monkeypatch):
    monkeypatch.setattr(models, "build", Colours)
    torch.manual_seed(0)
    save(Colours("plain"), "plain", {"name": "plain", "recipe": "gpu", "epochs": 45, "seed": 0}, folder)
    return folder


def test_evaluating_stores_what_the_accuracy_counts(stored, monkeypatch):
    facts = evaluate.evaluate("plain", stored)
    predicted, labels = predictions.read("plain", facts, stored)
    assert 100 * (predicted == labels).mean() == pytest.approx(facts["accuracy"]) and len(predicted) == 64
    (stored / predictions.FILE).unlink()
    written = (stored / "plain.json").read_bytes()
    monkeypatch.setattr(sys, "argv", ["evaluate", "--predictions", "plain", "--folder", str(stored)])
    evaluate.main()
    assert np.array_equal(predictions.read("plain", facts, stored)[0], predicted)
    assert (stored / "plain.json").read_bytes() == written


def test_the_second_look_is_at_the_mirror_image(stored, monkeypatch):
    looks, look = [], evaluate.logits_of
    monkeypatch.setattr(evaluate, "logits_of", lambda model, x: (looks.append(x), look(model, x))[1])
    evaluate.evaluate("plain", stored)
    first, second = (images.numpy() for images in looks)
    assert np.array_equal(second, first[..., ::-1])  # left and right change places, top and bottom do not
    assert not np.array_equal(second, first[..., ::-1, :])


def test_the_threshold_is_that_of_the_first_test_images(stored, monkeypatch):
    monkeypatch.setattr(evaluate, "TYPICAL", 40)
    facts = evaluate.evaluate("plain", stored)
    logits, _, _ = evaluate.answers("plain", stored)
    evidence = logits.exp().sum(1).log().numpy()
    assert sum(evidence[:40] < facts["unusual_below"]) == 2 != sum(evidence < facts["unusual_below"])
    write_facts("plain", facts | {"unusual_below": None}, stored)
    monkeypatch.setattr(sys, "argv", ["evaluate", "--threshold", "plain", "--folder", str(stored)])
    evaluate.main()
    assert read_facts("plain", stored) == facts  # with all that was known before


def test_networks_are_timed_in_turns_and_the_quietest_turn_counts(stored, monkeypatch, capsys):
    save(Colours("se"), "se", {"name": "se", "recipe": "gpu", "epochs": 45, "seed": 0}, stored)
    asked, times = [], iter([9.0, 8.0, 1.25, 7.0, 3.0, 2.5])  # a neighbour is at work in the first turn

    def milliseconds(model):
        asked.append(model.state_dict()["2.weight"].sum().item())
        return next(times)

    monkeypatch.setattr(evaluate, "milliseconds", milliseconds)
    monkeypatch.setattr(evaluate, "TURNS", 3)
    before = read_facts("plain", stored)
    monkeypatch.setattr(sys, "argv", ["evaluate", "--latency", "plain", "se", "--folder", str(stored)])
    evaluate.main()
    assert asked[0] != asked[1] and asked == asked[:2] * 3
    assert read_facts("plain", stored) == before | {"latency_ms": 1.25}
    assert read_facts("se", stored)["latency_ms"] == 2.5
    assert capsys.readouterr().out == "plain: 1.25 ms a picture\nse: 2.5 ms a picture\n"


def test_verifying_a_published_figure(stored, monkeypatch, capsys):
    facts = evaluate.evaluate("plain", stored)
    stamp = (stored / predictions.FILE).read_bytes()
    command = ["models.results.table", "--verify", "plain", "--folder", str(stored)]
    monkeypatch.setattr(sys, "argv", command)
    table.main()
    assert "0 images have another answer than stored: the published figure." in capsys.readouterr().out
    write_facts("plain", {**facts, "accuracy": facts["accuracy"] + 10}, stored)
    with pytest.raises(SystemExit, match="NOT the published figure"):
        table.main()
    assert (stored / predictions.FILE).read_bytes() == stamp
    with pytest.raises(CheckpointError, match="never measured"):
        write_facts("plain", {**facts, "accuracy": None}, stored)
        table.verify("plain", stored)


def test_the_readme_can_be_written(folder, tmp_path, monkeypatch):
    write(folder, "plain", right())
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- table -->\n<!-- /table -->\nb\n")
    monkeypatch.setattr(
        sys, "argv", ["models.results.table", "--write", str(readme), "--folder", str(folder)]
    )
    table.main()
    assert (
        readme.read_text().startswith("a\n<!-- table -->\n**Recipe gpu") and readme.read_text()[-2:] == "b\n"
    )


@pytest.mark.parametrize("module", [table, evidence])
def test_a_folder_without_networks_empties_no_table(module, folder, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    marks = "<!-- {0} -->\n| kept |\n<!-- /{0} -->\n"
    readme.write_text(marks.format("table") + marks.format("evidence"))
    before = readme.read_text()
    folder.mkdir()
    for place, reason in ((folder, "trained|measured"), (tmp_path / "chekpoints", "There is no folder")):
        monkeypatch.setattr(sys, "argv", ["command", "--write", str(readme), "--folder", str(place)])
        with pytest.raises(SystemExit, match=reason):
            module.main()
        assert readme.read_text() == before


def test_every_shipped_network_has_its_predictions():
    """And they count up to the published accuracy."""
    for facts in table.trained():
        name = facts["name"]
        found = predictions.read(name, facts)
        assert found is not None, f"run `python -m models.results.evaluate --predictions {name}`"
        assert 100 * (found[0] == found[1]).mean() == pytest.approx(facts["accuracy"], abs=0.051), name


def test_the_page_may_read_the_results_as_json():
    assert json.loads(json.dumps(table.results())) == table.results()
    assert re.search(r"^\| Plain ResNet18 \|", table.markdown(), re.MULTILINE)


def test_what_another_command_wrote_meanwhile_stays(stored, monkeypatch):
    def meanwhile(model):
        write_facts("plain", read_facts("plain", stored) | {"evidence": {"sha256": "s"}}, stored)
        return 1.25

    monkeypatch.setattr(evaluate, "milliseconds", meanwhile)
    facts = evaluate.evaluate("plain", stored)
    assert facts == json.loads((stored / "plain.json").read_text())
    assert facts["evidence"] == {"sha256": "s"} and facts["latency_ms"] == 1.25


@pytest.mark.parametrize("module", ["table", "disagreement"])
def test_a_place_that_cannot_be_written_to_is_named(module, tmp_path, monkeypatch):
    from models.results import disagreement

    place = str(tmp_path / "missing" / "here")
    monkeypatch.setattr(disagreement, "disagreement", lambda folder: {"pictures": [], "networks": []})
    monkeypatch.setattr(disagreement, "write", lambda found, folder: (Path(folder) / "a.json").write_text(""))
    monkeypatch.setattr(sys, "argv", [module, "--write" if module == "table" else "--into", place])
    with pytest.raises(SystemExit, match="cannot be used \\(No such file or directory\\)"):
        {"table": table, "disagreement": disagreement}[module].main()


def test_a_full_disk_has_no_name(tmp_path, monkeypatch):
    """Python names no file where a write fails, but the sentence must have a subject."""

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table, "markdown", full)
    monkeypatch.setattr(sys, "argv", ["table", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^The disk cannot be used \(No space left on device\)\.$"):
        table.main()
