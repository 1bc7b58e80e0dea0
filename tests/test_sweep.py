"""The queue of training runs, with stand-ins for the runs."""

import argparse
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from models import CATALOGUE, data
from models.train import run as train
from models.train import sweep
from models.train.recipe import RECIPES, settings, share_done
from models.train.run import note, run_folder
from models.train.sweep import Progress, Worker, missing, seconds, status


def facts(recipe="gpu", seed=0, **measured) -> str:
    """The JSON of a checkpoint by one of the recipes as they are now."""
    return json.dumps(
        {"sha256": "", "recipe": recipe, "settings": settings(RECIPES[recipe]), "seed": seed, **measured}
    )


# A run that writes its checkpoint's facts, fails, or waits to be stopped.
FINISHES = f"""import sys
open(sys.argv[1].replace(".json", ".safetensors"), "w").close()
open(sys.argv[1], "w").write({facts(accuracy=90.5)!r})"""
FAILS = "import sys; print('Traceback'); print('The data is gone.'); print(); sys.exit(1)"
HANGS = "import signal; signal.pause()"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where checkpoints go; the home is empty, and the queue looks every hundredth of a second."""
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "home"))
    pause = time.sleep
    monkeypatch.setattr(sweep.time, "sleep", lambda duration: pause(0.01))
    monkeypatch.setattr(sweep, "load", lambda dataset: None)  # the data is there
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def runs(folder, monkeypatch):
    """`scripts` says what the run of an entry does, `begun` which were begun, `at_once` how many ran then."""

    class Runs:
        scripts: dict[str, str] = {}
        begun: list[str] = []
        at_once: list[int] = []
        replacing: list[bool] = []
        workers: list[Worker] = []

    def start(name, recipe, seed, target, replace):
        assert (recipe, seed, target) == ("gpu", 0, folder)
        Runs.replacing.append(replace)
        log = folder.parent / f"{name}.log"
        script = Runs.scripts.get(name, FINISHES)
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", script, str(folder / f"{name}.json")], stdout=stream
            )
        Runs.begun.append(name)
        Runs.workers.append(Worker(name, process, log))
        Runs.at_once.append(sum(worker.process.poll() is None for worker in Runs.workers))
        return Runs.workers[-1]

    monkeypatch.setattr(sweep, "start", start)
    Runs.scripts, Runs.begun, Runs.at_once, Runs.replacing, Runs.workers = {}, [], [], [], []
    yield Runs
    for worker in Runs.workers:
        worker.process.kill()
        worker.process.wait()


NAMES = ["plain", "se", "cbam", "sk", "danet"]


def run(names, folder, workers=2, deadline=60.0):
    return sweep.sweep(names, "gpu", 0, workers, folder, deadline)


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_is_trained_in_order_and_not_too_much_at_once(runs, folder, capsys, workers):
    assert run(NAMES, folder, workers) == {}
    assert runs.begun == NAMES and max(runs.at_once) <= workers
    assert missing(NAMES, "gpu", 0, folder) == []
    said = capsys.readouterr().out
    assert f"5 to train, 0 there already, {workers} at a time" in said
    assert "danet: begun" in said and "finished, 5 of 5" in said


def test_workers_run_side_by_side(runs, folder):
    runs.scripts = dict.fromkeys(NAMES, HANGS)
    run(NAMES, folder, workers=3, deadline=0.3)
    assert runs.begun == NAMES[:3] and max(runs.at_once) == 3


def test_what_is_there_is_not_trained_again(runs, folder):
    run(["se", "sk"], folder)
    assert run(NAMES, folder) == {}
    assert runs.begun == ["se", "sk", "plain", "cbam", "danet"]


def test_a_failure_is_reported_and_the_others_go_on(runs, folder, capsys):
    runs.scripts = {"se": FAILS}
    assert run(NAMES, folder) == {"se": "The data is gone."}
    assert sorted(file.stem for file in folder.glob("*.json")) == sorted(set(NAMES) - {"se"})
    assert "se: FAILED: The data is gone." in capsys.readouterr().out
    runs.scripts = {"se": "raise SystemExit(3)"}
    assert run(NAMES, folder) == {"se": "no output"}
    assert runs.begun[5:] == ["se"]


def test_a_full_disk_does_not_end_the_others(runs, folder, monkeypatch):
    runs.scripts = {"se": FAILS}
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(sweep, "note", lambda *given: (_ for _ in ()).throw(full))
    assert run(NAMES, folder) == {"se": "The data is gone."}
    assert sorted(file.stem for file in folder.glob("*.json")) == sorted(set(NAMES) - {"se"})


@contextmanager
def at_deadline(happened: Callable[[], bool]) -> Iterator[None]:
    """Within, every deadline passes when something has happened, and not by the clock of a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.time, "monotonic", lambda: 100.0 * happened())
        yield


def test_the_deadline_stops_and_a_second_call_finishes(runs, folder):
    runs.scripts = {"se": HANGS}
    started = time.monotonic()
    with at_deadline(lambda: "se" in runs.begun):
        assert run(NAMES, folder, workers=1) == {
            "se": "stopped",
            "cbam": "not begun",
            "sk": "not begun",
            "danet": "not begun",
        }
    assert time.monotonic() - started < 10
    assert all(worker.process.poll() is not None for worker in runs.workers)  # nothing is left running
    runs.scripts = {}
    assert run(NAMES, folder, workers=1) == {}
    assert runs.begun == ["plain", "se", "se", "cbam", "sk", "danet"]


def test_a_run_that_ends_at_the_deadline_is_not_called_stopped(runs, folder):
    ends = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('ready', flush=True)"
    runs.scripts, log = {"se": f"{ends}; signal.pause()"}, folder.parent / "se.log"
    with at_deadline(lambda: log.exists() and "ready" in log.read_text()):
        assert run(["se", "sk"], folder, workers=1) == {"sk": "not begun"}


def test_a_run_that_fails_at_the_deadline_is_not_called_stopped(runs, folder):
    fails = "import signal, sys; signal.signal(15, lambda *_: sys.exit('The disk is full.'))"
    fails += "; sys.stderr = sys.stdout; print('ready', flush=True)"
    runs.scripts, log = {"se": f"{fails}; signal.pause()"}, folder.parent / "se.log"
    with at_deadline(lambda: log.exists() and "ready" in log.read_text()):
        assert run(["se", "sk"], folder, workers=1) == {"se": "The disk is full.", "sk": "not begun"}


def test_missing_goes_by_recipe_seed_and_measurement(folder):
    def write(name, **described):
        (folder / f"{name}.safetensors").touch()
        (folder / f"{name}.json").write_text(facts(**described))

    write("plain", recipe="gpu", seed=0, accuracy=95.0)
    write("se", recipe="cpu", seed=0, accuracy=92.0)
    write("cbam", recipe="gpu", seed=1, accuracy=95.0)
    write("sk", recipe="gpu", seed=0)  # stopped between saving and measuring
    (folder / "danet.json").write_text("{")
    write("non_local", recipe="gpu", seed=0, accuracy=None)  # measured where no test images were
    older = json.loads(facts(accuracy=95.0))
    older["settings"]["epochs"] = 40  # by the recipe of that name as it was once
    (folder / "bam.json").write_text(json.dumps(older))
    names = [*NAMES, "non_local", "bam"]
    assert missing(names, "gpu", 0, folder) == ["se", "cbam", "sk", "danet", "bam"]
    assert missing(names, "gpu", 1, folder) == ["plain", "se", "sk", "danet", "non_local", "bam"]
    (folder / "plain.safetensors").unlink()  # what was measured is no network
    assert "plain" in missing(names, "gpu", 0, folder)
    assert status(["sk"], "gpu", 0, folder)[0] == "sk: missing"


# How far everything is.


@pytest.fixture
def run_of(folder):
    """Writes the metrics of a run by the `cpu` recipe, whose last line is `age` seconds old."""

    def make(name, *lines: dict, age=0.0):
        own = run_folder(name, "cpu")
        for line in lines:
            note(own, line)
        moment = time.time() - age
        os.utime(own / "metrics.jsonl", (moment, moment))

    return make


BEGUN = {"epoch": 0, "done": 0.0, "seconds": 0.0}
TRAINED = {"epoch": 12, "done": 1.0, "seconds": 600.0}
HALF_WAY = {"epoch": 7, "done": 0.4, "seconds": 240.0}  # so 6 minutes are left


@pytest.mark.parametrize(
    "last, age, kind, words, left",
    [
        (BEGUN, 0, "running", "0%", None),
        (HALF_WAY, 60, "running", "40%, about 5 min left", 300),
        ({**HALF_WAY, "stopped": False}, 0, "running", "40%, about 6 min left", 360),
        ({**HALF_WAY, "stopped": True}, 0, "stopped", "at 40%, goes on when asked again", 360),
        (
            HALF_WAY,
            sweep.SILENCE + 60,
            "stopped",
            "at 40%, no sign of life, goes on when asked again",
            360,
        ),
        (
            {"failed": "RuntimeError: shapes do not match"},
            0,
            "failed",
            "RuntimeError: shapes do not match",
            None,
        ),
        ({"epoch": 3, "seconds": 5.0}, 0, "running", "0%", None),  # by an older version
        (TRAINED, sweep.SILENCE + 600, "running", "trained, being measured", 0),
        (TRAINED, 3600, "stopped", "at 100%, no sign of life, goes on when asked again", 0),
    ],
)
def test_what_the_metrics_say(run_of, monkeypatch, last, age, kind, words, left):
    monkeypatch.setattr(sweep.time, "time", lambda: 1e9)
    run_of("cbam", BEGUN, last, age=age)
    found = sweep.look_at_run("cbam", "cpu", 0)
    assert (found.name, found.kind, found.words) == ("cbam", kind, words)
    assert found.left == (left and pytest.approx(left))


@pytest.mark.parametrize("written", ["", "{", '{"epoch": 1'])
def test_metrics_that_say_nothing_are_no_progress(run_of, written):
    run_of("cbam", HALF_WAY)
    (run_folder("cbam", "cpu") / "metrics.jsonl").write_text(written)
    assert sweep.look_at_run("cbam", "cpu", 0) == Progress("cbam", "missing", "", None)
    whole = '{"epoch": 1, "done": 0.25, "seconds": 10.0, "images_per_second": 85.2}\n'
    (run_folder("cbam", "cpu") / "metrics.jsonl").write_text(whole + '{"epoch": 2, "do\n' + whole)
    assert sweep.look_at_run("cbam", "cpu", 0).words.endswith(", 85 images a second in its last epoch")


def test_a_run_that_went_on_is_not_called_failed(run_of):
    run_of("se", BEGUN, {"failed": "no space"})
    assert sweep.look_at_run("se", "cpu", 0).kind == "failed"
    run_of("se", BEGUN)  # again, later
    assert sweep.look_at_run("se", "cpu", 0).kind == "running"


def test_epochs_on_small_pictures_are_less_work():
    costs = 6 * [0.5**1.5] + 3 * [0.75**1.5] + 3 * [1]
    for epoch in range(13):
        assert share_done(RECIPES["cpu"], epoch) == pytest.approx(sum(costs[:epoch]) / sum(costs))
    assert share_done(RECIPES["cpu"], 9.5) == pytest.approx((sum(costs[:9]) + 0.5) / sum(costs))
    assert share_done(RECIPES["gpu"], 9) == pytest.approx(9 / 45)


def test_status(folder, run_of):
    (folder / "plain.json").write_text(facts("cpu", accuracy=91.92, train_seconds=3600))
    (folder / "se.json").write_text(facts("cpu", accuracy=None, train_seconds=4000))  # no test images there
    for name in ("plain", "se"):
        (folder / f"{name}.safetensors").touch()
    run_of("cbam", BEGUN, {"failed": "RuntimeError: shapes do not match"})
    run_of("sk", HALF_WAY)
    names = ["plain", "se", "cbam", "sk", "danet"]
    assert status(names, "cpu", 0, folder, workers=2) == [
        "plain: finished, 91.92 %",
        "se: finished, accuracy not measured",
        "cbam: failed, RuntimeError: shapes do not match",
        "sk: running, 40%, about 6 min left",
        "danet: missing",
        # the two that are left take the mean of those that are there, 3800 s each
        "2 finished, 1 running, 1 failed, 1 missing; 3 to go, about 66 min with 2 at a time",
    ]
    assert status(["cbam"], "cpu", 1, folder) == [
        "cbam: missing",
        "1 missing; 1 to go, time left not known yet",
    ]
    assert status(["plain"], "cpu", 0, folder)[-1] == "1 finished; all finished"


def test_a_failure_stays_in_the_metrics(runs, folder):
    runs.scripts = {"se": FAILS, "sk": "import os; print('half way', flush=True); os.kill(os.getpid(), 9)"}
    left = run(["se", "sk"], folder)
    assert left == {"se": "The data is gone.", "sk": "killed by SIGKILL, out of memory?"}
    for name, reason in left.items():
        assert sweep.look_at_run(name, "gpu", 0) == Progress(name, "failed", reason, None)
    assert runs.workers[1].log.read_text().startswith("half way")


def test_a_run_that_another_process_is_at_is_not_called_failed(runs, folder):
    note(run_folder("se", "gpu"), HALF_WAY)
    runs.scripts = {"se": "import sys; print('Another process trains se.'); sys.exit(1)"}
    assert run(["se"], folder) == {"se": "Another process trains se."}
    assert sweep.look_at_run("se", "gpu", 0).kind == "running"


def test_interrupted_before_a_run_listens_it_has_not_failed(runs, folder):
    usual = "import signal; signal.signal(2, signal.SIG_DFL)"  # a shell's job in the background is deaf to it
    runs.scripts = {"se": f"{usual}; print('ready', flush=True); {HANGS}"}
    log = folder.parent / "se.log"

    def interrupt(_: float) -> None:
        if log.exists() and "ready" in log.read_text():
            runs.workers[0].process.send_signal(signal.SIGINT)  # a terminal sends it to all
            runs.workers[0].process.wait()
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sweep.time, "sleep", interrupt)
        run(["se"], folder)
    assert sweep.look_at_run("se", "gpu", 0).kind == "missing"


def test_now_and_then_the_sweep_says_how_far_it_is(runs, folder, monkeypatch, capsys):
    clock = itertools.count(0, 7.0)  # seconds, at each look at the clock
    monkeypatch.setattr(sweep.time, "monotonic", lambda: next(clock))
    runs.scripts = {"se": HANGS}
    note(run_folder("se", "gpu"), HALF_WAY)
    run(["se", "sk"], folder, workers=1, deadline=100)
    said = capsys.readouterr().out
    assert "se: 40%, about 6 min left" in said and "2 to go, about 12 min with 1 at a time" in said


# Every entry in small.


def test_a_dry_run_leaves_nothing(runs, folder, monkeypatch, capsys, tmp_path):
    (tmp_path / "home" / "cifar10").mkdir(parents=True)
    (tmp_path / "home" / "cifar10" / "here").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def start(name, recipe, seed, target, replace):
        log = sweep.log_of(name, recipe, seed)
        seen.append((recipe, target, log, (data.home() / "cifar10" / "here").exists()))
        run_folder(name, recipe, seed).mkdir(parents=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(exist_ok=True)
        script = FAILS if name == "se" else f'open(sys.argv[1], "w").write({facts("dry", accuracy=1.0)!r})'
        with log.open("w") as stream:
            command = [
                sys.executable,
                "-I",
                "-S",
                "-c",
                "import sys; " + script,
                str(target / f"{name}.json"),
            ]
            return Worker(name, subprocess.Popen(command, stdout=stream), log)

    monkeypatch.setattr(sweep, "start", start)
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, "plain", "se", "sk", "--dry-run", "--workers", "2")
    said = capsys.readouterr().out
    assert caught.value.code == 1 and '{"unfinished": {"se": "The data is gone."}}' in said
    assert "2 of 3 entries pass" in said and "--- se\nTraceback\nThe data is gone." in said
    assert all(recipe == "dry" and there for recipe, _, _, there in seen)
    assert not any(target.exists() or log.exists() for _, target, log, _ in seen)
    assert data.home() == tmp_path / "home" and sorted(f.name for f in data.home().iterdir()) == ["cifar10"]
    command(monkeypatch, "plain", "--dry-run")  # the exit status is that of success
    assert "1 of 1 entries pass" in capsys.readouterr().out


# A cluster: submitit's own processes on this machine stand in for it.


def test_a_job_that_needs_a_gpu_does_not_train_for_days_without(folder, monkeypatch):
    cluster = pytest.importorskip("models.train.cluster", reason="submitit is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cluster, "train_one", lambda *given, **named: given[2])
    with pytest.raises(train.TrainingError, match="No GPU is seen here"):
        cluster.Training("gpu", 0, folder)("plain")
    assert cluster.Training("cpu", 0, folder)("plain") == "cpu"


def test_a_job_that_the_cluster_stops_has_not_failed(folder, monkeypatch):
    """submitit stores whatever `Exception` comes out of it as the job's result, and asks no more."""
    cluster = pytest.importorskip("models.train.cluster", reason="submitit is not installed")

    def stopped(*given, **named):
        raise train.StoppedError("plain was stopped and can be resumed")

    monkeypatch.setattr(cluster, "train_one", stopped)
    with pytest.raises(SystemExit, match="can be resumed"):
        cluster.Training("cpu", 0, folder)("plain")


@pytest.mark.slow
def test_a_cluster_trains_by_the_same_function(folder, tiny_cifar, monkeypatch, capsys):
    pytest.importorskip("submitit", reason="submitit is not installed")
    from models.train.cluster import Training, run_jobs

    sums, per_file = dict(data.MD5), data.PER_FILE
    tiny = dataclasses.replace(RECIPES["smoke"], batch=8, limit=16)

    class OnTinyImages(Training):  # it travels to the jobs' processes as it is
        def __call__(self, name):
            data.MD5.update(sums)
            data.PER_FILE, train.RECIPES["smoke"] = per_file, tiny
            return super().__call__(name)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job, logs = OnTinyImages("smoke", 0, folder), folder.parent / "logs"
    left = run_jobs(job, ["plain", "nothing"], logs, at_once=2)
    assert list(left) == ["nothing"] and "no mechanism 'nothing'" in left["nothing"]
    monkeypatch.setitem(RECIPES, "smoke", tiny)
    assert missing(["plain"], "smoke", 0, folder) == []
    assert json.loads((folder / "plain.json").read_text())["images_seen"] == 16
    said = capsys.readouterr().out
    assert "plain: finished" in said and "nothing: FAILED" in said


def test_the_command_sends_what_is_missing_to_the_cluster(folder, monkeypatch, capsys):
    cluster = pytest.importorskip("models.train.cluster", reason="submitit is not installed")
    asked = []
    monkeypatch.setattr(cluster, "run_jobs", lambda *given: asked.append(given) or {"sk": "no space"})
    (folder / "se.json").write_text(facts("gpu", accuracy=95.0))
    (folder / "se.safetensors").touch()
    command_line = ["plain", "se", "sk", "--recipe", "gpu", "--workers", "4", "--folder", str(folder)]
    with pytest.raises(SystemExit):
        command(monkeypatch, *command_line, "--cluster", "logs")
    job = cluster.Training("gpu", 0, folder)
    assert asked == [(job, ["plain", "sk"], Path("logs"), 4, 1)]
    assert '{"unfinished": {"sk": "no space"}}' in capsys.readouterr().out


def test_without_submitit_the_command_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "models.train.cluster", raising=False)
    with pytest.raises(SystemExit, match="pip install submitit"):
        command(monkeypatch, "plain", "--recipe", "gpu", "--folder", str(folder), "--cluster", "logs")


@pytest.mark.parametrize(
    "text, expected", [("90s", 90), ("25m", 1500), ("2h", 7200), ("45", 45), ("1.5m", 90), ("0", 0)]
)
def test_durations(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "m", "-5", "5 m", "25min", "1h30m", "nan", "1e3", "."])
def test_other_durations_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration such as 90s, 25m or 2h"):
        seconds(text)


def command(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["models.train.sweep", *arguments])
    sweep.main()


def test_the_command_prints_what_is_unfinished(runs, folder, monkeypatch, capsys):
    runs.scripts = {"se": FAILS}
    arguments = ["--recipe", "gpu", "--workers", "2", "--folder", str(folder)]
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, "se", "plain", *arguments)
    assert caught.value.code == 1
    last = capsys.readouterr().out.strip().split("\n")[-1]
    assert json.loads(last) == {"unfinished": {"se": "The data is gone."}}
    runs.scripts = {}
    command(monkeypatch, "se", "plain", *arguments)
    assert json.loads(capsys.readouterr().out.strip().split("\n")[-1]) == {"unfinished": {}}


def test_the_command_takes_everything_that_has_a_network(runs, folder, monkeypatch, capsys):
    command(monkeypatch, "--recipe", "gpu", "--workers", "4", "--folder", str(folder))
    networks = [name for name, entry in CATALOGUE.items() if name == "plain" or entry.slot is not None]
    assert sorted(runs.begun) == sorted(networks) and runs.begun[:2] == ["plain", "self_attention"]
    capsys.readouterr()
    command(monkeypatch, "--recipe", "gpu", "--folder", str(folder), "--status")
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[0] == "plain: finished, 90.5 %" and len(lines) == len(networks) + 1
    assert lines[-1] == f"{len(networks)} finished; all finished"


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (("se", "nothing"), "no network is called nothing"),
        (("--deadline", "soon"), "'soon' is not a duration"),
        (("--recipe", "magic"), "invalid choice"),
        (("--workers", "0"), "argument --workers: '0' is not a whole number from 1 on"),
        (("--workers", "-1"), "argument --workers: '-1' is not a whole number from 1 on"),
        (("se", "--det"), "unrecognized arguments: --det"),  # else the child would detach again, for ever
    ],
)
def test_a_wrong_command_is_refused(runs, folder, monkeypatch, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, *arguments)
    assert caught.value.code == 2 and complaint in capsys.readouterr().err and not runs.begun


@pytest.mark.parametrize(
    "there, sentence",
    [
        (
            {"recipe": "cpu", "accuracy": 92.0},
            "holds se by another recipe, seed or settings \\(recipe cpu, seed 0",
        ),
        ({"recipe": "gpu", "seed": 1, "accuracy": 95.0}, "holds se by another .* \\(recipe gpu, seed 1"),
    ],
)
def test_another_checkpoint_is_replaced_only_when_told(runs, folder, monkeypatch, capsys, there, sentence):
    (folder / "se.json").write_text(facts(**there))
    before = (folder / "se.json").read_text()
    arguments = ["plain", "se", "--recipe", "gpu", "--workers", "1", "--folder", str(folder)]
    with pytest.raises(SystemExit, match=sentence) as caught:
        command(monkeypatch, *arguments)
    assert "\n" not in str(caught.value) and not runs.begun
    assert (folder / "se.json").read_text() == before and len(list(folder.iterdir())) == 1
    command(monkeypatch, *arguments, "--status")  # looking is allowed
    command(monkeypatch, *arguments, "--replace")
    assert runs.begun == ["plain", "se"] and runs.replacing == [True, True]
    assert (folder / "se.json").read_text() != before


@pytest.mark.parametrize("arguments", [("plain", "se"), ("--dry-run",)])
def test_without_data_nothing_begins(runs, folder, monkeypatch, arguments):
    monkeypatch.setattr(sweep, "load", data.load)
    with pytest.raises(SystemExit, match="run `python -m models.data` first"):
        command(monkeypatch, *arguments, "--recipe", "gpu", "--folder", str(folder))
    assert not runs.begun and not (data.home() / "runs").exists()


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"gpu", "cpu"}))
def test_recipes_that_do_not_ship_need_a_folder(runs, folder, monkeypatch, recipe):
    monkeypatch.setattr(sweep, "start", lambda *given: pytest.fail("begun"))
    with pytest.raises(SystemExit, match=f"by the recipe {recipe} .* does not ship.*--folder"):
        command(monkeypatch, "se", "--recipe", recipe)


def test_detached_it_runs_in_a_session_of_its_own(folder, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        sweep.subprocess, "Popen", lambda command, **options: calls.append((command, options))
    )
    command(monkeypatch, "se", "--recipe", "smoke", "--folder", str(folder), "--detach")
    ((line, options),) = calls
    assert line[3:] == ["se", "--recipe", "smoke", "--folder", str(folder)]
    assert line[:3] == [sys.executable, "-m", "models.train.sweep"]
    assert options["start_new_session"] and options["stdin"] == subprocess.DEVNULL
    assert str(tmp_path / "home" / "logs" / "sweep.log") in capsys.readouterr().out


@pytest.mark.slow
def test_a_real_run_is_started_and_its_sentence_reported(tmp_path, monkeypatch):
    """The training command itself, in a process of its own; it ends early, for there is no data."""
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path))
    left = sweep.sweep(["se"], "smoke", 3, 1, tmp_path / "out", 120)
    assert list(left) == ["se"] and "run `python -m models.data` first" in left["se"]
    assert (tmp_path / "logs" / "se-smoke-seed3.log").exists()


@pytest.mark.long
def test_a_real_run_ends_in_a_checkpoint(tmp_path, monkeypatch):
    data_folder = data.home() / "cifar10"
    if not (data_folder / "test_batch.bin").exists():
        pytest.skip("CIFAR-10 is not on this machine")
    (tmp_path / "cifar10").symlink_to(data_folder)
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path))
    assert sweep.sweep(["plain"], "smoke", 0, 1, tmp_path / "out", 300) == {}
    files = sorted(file.name for file in (tmp_path / "out").iterdir() if not file.name.startswith("."))
    assert files == ["plain.json", "plain.safetensors", "predictions.npz"]
    assert status(["plain"], "smoke", 0, tmp_path / "out")[0].startswith("plain: finished, ")


def test_who_names_a_network_twice_trains_it_once(monkeypatch, tmp_path):
    """Two processes would write the same files."""
    asked = []
    monkeypatch.setattr(sweep, "sweep", lambda names, *rest, **more: asked.extend(names) or {})
    command(monkeypatch, "se", "cbam", "se", "--recipe", "smoke", "--folder", str(tmp_path))
    assert asked == ["se", "cbam"]


def test_the_wanted_order_names_no_entry_twice():
    assert len(set(sweep.FIRST)) == len(sweep.FIRST) and sweep.FIRST[0] == "plain"
