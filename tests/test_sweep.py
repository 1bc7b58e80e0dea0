"""The queue of training runs, with stand-ins for the runs."""

import argparse
import json
import subprocess
import sys
import time

import pytest

from models import CATALOGUE, data, sweep
from models.sweep import Worker, last_line, missing, seconds, status
from models.train import RECIPES, settings


def facts(recipe="gpu", seed=0, **measured) -> str:
    """The JSON of a checkpoint by one of the recipes as they are now."""
    return json.dumps({"sha256": "", "settings": settings(RECIPES[recipe]), "seed": seed, **measured})


# A run that writes its checkpoint's facts, fails, or waits to be stopped.
FINISHES = f"""import sys, time; time.sleep(0.05)
open(sys.argv[1], "w").write({facts(accuracy=90.5)!r})"""
FAILS = "import sys; print('Traceback'); print('The data is gone.'); print(); sys.exit(1)"
HANGS = "import time; time.sleep(600)"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where checkpoints go; the home is empty, and the queue looks every hundredth of a second."""
    monkeypatch.setenv("ATTNSCOPE_HOME", str(tmp_path / "home"))
    pause = time.sleep
    monkeypatch.setattr(sweep.time, "sleep", lambda duration: pause(0.01))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def runs(folder, monkeypatch):
    """`scripts` says what the run of an entry does, `begun` which were begun, `at_once` how many ran then."""

    class Runs:
        scripts: dict[str, str] = {}
        begun: list[str] = []
        at_once: list[int] = []
        workers: list[Worker] = []

    def start(name, recipe, seed, target):
        assert (recipe, seed, target) == ("gpu", 0, folder)
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
    Runs.scripts, Runs.begun, Runs.at_once, Runs.workers = {}, [], [], []
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
    assert sorted(file.stem for file in folder.iterdir()) == sorted(set(NAMES) - {"se"})
    assert "se: FAILED: The data is gone." in capsys.readouterr().out
    runs.scripts = {"se": "raise SystemExit(3)"}
    assert run(NAMES, folder) == {"se": "no output"}
    assert runs.begun[5:] == ["se"]


def test_the_deadline_stops_and_a_second_call_finishes(runs, folder):
    runs.scripts = {"se": HANGS}
    started = time.monotonic()
    assert run(NAMES, folder, workers=1, deadline=1.5) == {
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
    runs.scripts = {"se": "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); signal.pause()"}
    assert run(["se", "sk"], folder, workers=1, deadline=1.0) == {"sk": "not begun"}


def test_missing_goes_by_recipe_seed_and_measurement(folder):
    def write(name, **described):
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
    assert status(["sk"], "gpu", 0, folder) == ["sk: missing"]


def test_status(folder, tmp_path):
    (folder / "se.json").write_text(facts(accuracy=95.31))
    log = tmp_path / "home" / "logs" / "cbam-gpu-seed0.log"
    log.parent.mkdir(parents=True)
    log.write_text("cbam:   0%| | 0.00/2.2M\rcbam:  40%|## | 0.9M/2.2M [00:20<00:30]\r")
    assert status(["se", "cbam", "sk"], "gpu", 0, folder) == [
        "se: finished, 95.31 %",
        "cbam: begun, cbam:  40%|## | 0.9M/2.2M [00:20<00:30]",
        "sk: missing",
    ]
    (folder / "sk.json").write_text(facts(accuracy=None))  # where no test images were
    assert status(["sk"], "gpu", 0, folder) == ["sk: finished, accuracy not measured"]
    assert status(["cbam"], "gpu", 1, folder) == ["cbam: missing"]  # another run
    log.write_text("")
    assert last_line(log) == "no output"


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
    monkeypatch.setattr(sys, "argv", ["models.sweep", *arguments])
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
    assert lines[0] == "plain: finished, 90.5 %" and len(lines) == len(networks)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (("se", "nothing"), "no network is called nothing"),
        (("--deadline", "soon"), "'soon' is not a duration"),
        (("--recipe", "magic"), "invalid choice"),
        (("se", "--det"), "unrecognized arguments: --det"),  # else the child would detach again, for ever
    ],
)
def test_a_wrong_command_is_refused(runs, folder, monkeypatch, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, *arguments)
    assert caught.value.code == 2 and complaint in capsys.readouterr().err and not runs.begun


def test_detached_it_runs_in_a_session_of_its_own(folder, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        sweep.subprocess, "Popen", lambda command, **options: calls.append((command, options))
    )
    command(monkeypatch, "se", "--recipe", "smoke", "--detach")
    ((line, options),) = calls
    assert line == [sys.executable, "-m", "models.sweep", "se", "--recipe", "smoke"]
    assert options["start_new_session"] and options["stdin"] == subprocess.DEVNULL
    assert str(tmp_path / "home" / "logs" / "sweep.log") in capsys.readouterr().out


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
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["plain.json", "plain.safetensors"]
    assert status(["plain"], "smoke", 0, tmp_path / "out")[0].startswith("plain: finished, ")


def test_the_wanted_order_names_no_entry_twice():
    assert len(set(sweep.FIRST)) == len(sweep.FIRST) and sweep.FIRST[0] == "plain"
