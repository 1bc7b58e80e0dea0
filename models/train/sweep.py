"""Train many networks, a few at a time: python -m models.train.sweep --recipe gpu --deadline 25m

    ... se cbam sk       these entries; by default all that have a network
    ... --workers 3      processes at a time, of 2 GB each (default: 3 on a GPU, else one per core)
    ... --detach         go on after the shell is gone; the log says how far it is
    ... --status         what is finished, running, failed and missing, and the time left
    ... --dry-run        every entry with 512 images for one epoch, into a folder that goes
    ... --replace        in place of checkpoints by another recipe or seed
    ... --cluster LOGS   as an array of Slurm jobs (needs `pip install submitit`)

Every run is `python -m models.train` in a process of its own. A finished pair of files is there at once;
at the deadline running entries save their state, and the same command goes on with what is missing. An
entry that fails is reported and the others go on.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import torch

from ..checkpoint import CHECKPOINTS, read_facts
from ..data import DataError, home, load
from ..metadata import networks
from .recipe import ON_GPU, RECIPES
from .run import (
    AT_WORK,
    RESUMED,
    SAVE_EVERY,
    TrainingError,
    is_finished,
    note,
    place,
    reason_in,
    run_folder,
)

# The order in which checkpoints are wanted; everything else follows as the catalogue lists it.
FIRST = """
    plain self_attention non_local se sk cbam danet eca bam coord_attention ccnet scse global_context
    triplet_attention residual_attention stn a2_net efficient_attention gsop fca sge shuffle_attention
    ge_theta_plus split_attention self_calibrated_conv iaff ms_cam light_nl apnb afnb rnan san_pairwise
    generalized_attention ocr iau dca_se ulsam context_gating strip_pooling dgc
""".split()  # noqa: SIM905


SILENCE = 2.5 * SAVE_EVERY  # seconds; after this silence nobody works on a run
MEASURING = (
    1800  # ... nor on one that is trained: to measure a network takes minutes, in which it says nothing
)
LEFT = ("stopped", "not begun")  # what is no failure


@dataclass
class Worker:
    name: str
    process: subprocess.Popen
    log: Path


def missing(names: list[str], recipe: str, seed: int, folder: Path) -> list[str]:
    """The entries that have no checkpoint by this recipe and seed yet."""
    return [name for name in names if not is_finished(name, recipe, seed, "cifar10", folder)]


def sweep(
    names: list[str],
    recipe: str,
    seed: int,
    workers: int,
    folder: Path,
    deadline: float = float("inf"),
    keep_states: bool = True,
    replace: bool = False,
) -> dict[str, str]:
    """Trains what is missing, `workers` entries at a time, until all is done or the deadline comes.

    Args:
        deadline: seconds from now.
        keep_states: leave the states of finished runs where they are, 130 MB each.
        replace: checkpoints of another recipe or seed.

    Returns:
        for each entry that did not finish, `stopped`, `not begun`, or the line of its log that says why.
    """
    end = time.monotonic() + deadline
    waiting, running, unfinished = missing(names, recipe, seed, folder), [], {}
    total, finished = len(waiting), 0
    said = time.monotonic()
    say(f"{total} to train, {len(names) - total} there already, {workers} at a time")
    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < workers:
                running.append(start(waiting.pop(0), recipe, seed, folder, replace))
                say(f"{running[-1].name}: begun")
            time.sleep(0.5)
            for worker in [worker for worker in running if worker.process.poll() is not None]:
                running.remove(worker)
                if worker.process.returncode == 0:
                    finished += 1
                    say(f"{worker.name}: finished, {finished} of {total}")
                else:
                    unfinished[worker.name] = note_failure(worker, recipe, seed)
                    say(f"{worker.name}: FAILED: {unfinished[worker.name]}")
                if not keep_states:
                    shutil.rmtree(run_folder(worker.name, recipe, seed), ignore_errors=True)
            if time.monotonic() - said > 30:
                said = time.monotonic()
                found = survey(names, recipe, seed, folder)
                for one in found:
                    if one.kind == "running":
                        say(f"{one.name}: {one.words}")
                say(time_left(found, workers))
    finally:  # at the deadline, and when somebody stops the sweep itself
        for worker in running:
            worker.process.send_signal(signal.SIGTERM)
        for worker in running:
            if worker.process.wait() != 0:
                stopped = was_stopped(worker)
                unfinished[worker.name] = "stopped" if stopped else note_failure(worker, recipe, seed)
    return unfinished | dict.fromkeys(waiting, "not begun")


def start(name: str, recipe: str, seed: int, folder: Path, replace: bool) -> Worker:
    """One run of one thread: several of them side by side use a machine better than one of many threads."""
    log = log_of(name, recipe, seed)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "models.train", name, "--recipe", recipe, "--seed", str(seed)]
    command += ["--folder", str(folder.absolute()), "--threads", "1"]
    command += ["--replace"] * replace
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    return Worker(name, process, log)


def log_of(name: str, recipe: str, seed: int) -> Path:
    return home() / "logs" / f"{name}-{recipe}-seed{seed}.log"


def was_stopped(worker: Worker) -> bool:
    """Whether a run ended because it was asked to: else it failed, perhaps while it saved its state."""
    said = worker.log.read_text(encoding="utf-8", errors="replace").strip()
    return worker.process.returncode in (-signal.SIGTERM, -signal.SIGINT) or said.endswith(RESUMED)


def note_failure(worker: Worker, recipe: str, seed: int) -> str:
    """Why a run failed; also written to its metrics, so that whoever looks later need not guess.

    But not where another process is at the same run: these metrics are its own.
    """
    said = worker.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason, code = reason_in(said), worker.process.returncode
    if code < 0:  # it had no time to say anything
        reason = f"killed by {signal.Signals(-code).name}" + (", out of memory?" if code == -9 else "")
    if reason == AT_WORK.format(name=worker.name):
        return reason
    with suppress(OSError):  # the disk may be full, and the others go on
        note(run_folder(worker.name, recipe, seed), {"failed": reason})
    return reason


# How far everything is.


@dataclass(frozen=True)
class Progress:
    """How far one entry is: `finished`, `running`, `stopped`, `failed` or `missing`, and more in words.

    `left`: seconds that the entry still takes in one process; None where nothing tells.
    """

    name: str
    kind: str
    words: str
    left: float | None


def survey(names: list[str], recipe: str, seed: int, folder: Path) -> list[Progress]:
    """How far every entry is, from the checkpoints and the runs' own files; no process needs to be asked."""
    to_do, found, durations = set(missing(names, recipe, seed, folder)), [], []
    for name in names:
        if name in to_do:
            found.append(look_at_run(name, recipe, seed))
            continue
        facts = read_facts(name, folder)
        durations.append(facts.get("train_seconds") or 0.0)
        accuracy = facts["accuracy"]
        words = "accuracy not measured" if accuracy is None else f"{accuracy} %"
        found.append(Progress(name, "finished", words, 0.0))
    usual = mean(durations) if durations else None  # of a whole run; entries differ by up to a half
    if usual is None and (known := [one.left for one in found if one.kind == "running" and one.left]):
        usual = max(known)
    return [replace(one, left=usual) if one.left is None and one.kind != "running" else one for one in found]


def look_at_run(name: str, recipe: str, seed: int) -> Progress:
    """How far the run of an entry without a checkpoint is, by the last line of its metrics."""
    metrics = run_folder(name, recipe, seed) / "metrics.jsonl"
    try:
        text = metrics.read_text(encoding="utf-8")
        last = json.loads(text.splitlines()[-1])
        silent = time.time() - metrics.stat().st_mtime  # seconds
    except (OSError, ValueError, IndexError):
        return Progress(name, "missing", "", None)
    if "failed" in last:
        return Progress(name, "failed", last["failed"], None)
    done = last.get("done", 0.0)
    left = last["seconds"] * (1 - done) / done if done else None
    if last.get("stopped") or silent > (MEASURING if done == 1 else SILENCE):
        lost = "" if last.get("stopped") else ", no sign of life"
        return Progress(name, "stopped", f"at {done:.0%}{lost}, goes on when asked again", left)
    if done == 1:
        return Progress(name, "running", "trained, being measured", left)
    left = left and max(0.0, left - silent)
    rest = "" if left is None else f", about {duration(left)} left"
    speeds = re.findall(r'"images_per_second": ([\d.]+)', text)  # whatever else a full disk left of a line
    speed = f", {float(speeds[-1]):,.0f} images a second in its last epoch" if speeds else ""
    return Progress(name, "running", f"{done:.0%}{rest}{speed}", left)


def time_left(found: list[Progress], workers: int) -> str:
    """What is left in all, as a sentence."""
    todo = [one for one in found if one.kind != "finished"]
    if not todo:
        return "all finished"
    if any(one.left is None for one in todo):
        return f"{len(todo)} to go, time left not known yet"
    lefts = sorted((one.left for one in todo), reverse=True)
    total = max(lefts[0], sum(lefts) / workers)  # the longest one cannot be divided
    return f"{len(todo)} to go, about {duration(total)} with {workers} at a time"


def status(names: list[str], recipe: str, seed: int, folder: Path, workers: int = 1) -> list[str]:
    """One line for each entry, and one for all of them."""
    found = survey(names, recipe, seed, folder)
    lines = [f"{one.name}: {one.kind}" + (f", {one.words}" if one.words else "") for one in found]
    kinds = [one.kind for one in found]
    counted = [
        f"{kinds.count(kind)} {kind}"
        for kind in ("finished", "running", "stopped", "failed", "missing")
        if kind in kinds
    ]
    return [*lines, f"{', '.join(counted)}; {time_left(found, workers)}"]


def duration(amount: float) -> str:
    """Seconds in words: `45 s`, `12 min`, `3 h 20 min`."""
    if amount < 90:
        return f"{amount:.0f} s"
    minutes = round(amount / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


# Every entry once, in small.


def dry_run(names: list[str], workers: int, deadline: float) -> dict[str, str]:
    """Trains, stores and measures every entry with 512 images for one epoch; nothing of it stays.

    Returns:
        as `sweep`: why entries did not pass.
    """
    began = time.monotonic()
    with scratch_home() as scratch:
        folder = scratch / "checkpoints"
        unfinished = sweep(names, "dry", 0, workers, folder, deadline, keep_states=False)
        for name, reason in unfinished.items():
            if reason not in LEFT:
                print(
                    f"--- {name}\n{log_of(name, 'dry', 0).read_text('utf-8', 'replace')[-2000:]}", flush=True
                )
    passed, minutes = len(names) - len(unfinished), (time.monotonic() - began) / 60
    say(f"{passed} of {len(names)} entries pass, in {minutes:.1f} minutes")
    return unfinished


@contextmanager
def scratch_home() -> Iterator[Path]:
    """A temporary `$ATTNSCOPE_HOME` with the same data: runs in it touch no others', and leave nothing."""
    with tempfile.TemporaryDirectory(prefix="attnscope-trial-") as scratch, patch.dict(os.environ):
        for dataset in ("cifar10", "cifar100"):
            if (home() / dataset).exists():
                (Path(scratch) / dataset).symlink_to((home() / dataset).absolute())
        os.environ["ATTNSCOPE_HOME"] = scratch
        yield Path(scratch)


def seconds(text: str) -> float:
    """`90s`, `25m`, `2h` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 25m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def seed(text: str) -> int:
    """A whole number from 0 to 2**31 - 1."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**31 - 1}")
    return int(text)


def say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        prog="python -m models.train.sweep",
        description="Train many networks.",
        allow_abbrev=False,  # an abbreviated --detach would be handed on, and the child detach again
    )
    parser.add_argument("names", nargs="*", help="ids in the catalogue (default: all that have a network)")
    parser.add_argument("--recipe", default="gpu" if on_gpu else "cpu", choices=RECIPES)
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--workers", type=positive, default=3 if on_gpu else os.cpu_count())
    parser.add_argument("--deadline", type=seconds, default=float("inf"), help="such as 25m")
    parser.add_argument("--folder", type=Path, help="where the checkpoints go (default: checkpoints/)")
    parser.add_argument("--replace", action="store_true", help="checkpoints by another recipe or seed")
    parser.add_argument("--detach", action="store_true", help="run in the background, log to a file")
    parser.add_argument("--status", action="store_true", help="only say how far everything is")
    parser.add_argument("--dry-run", action="store_true", help="everything in small, leaves nothing behind")
    parser.add_argument("--cluster", type=Path, metavar="LOGS", help="as jobs of a cluster; their logs")
    arguments = parser.parse_args()

    trainable = networks()
    if unknown := sorted(set(arguments.names) - set(trainable)):
        parser.error(f"no network is called {', '.join(unknown)}")
    names = [*dict.fromkeys(arguments.names)] or sorted(trainable, key=(FIRST + trainable).index)
    run = (arguments.recipe, arguments.seed)
    folder = arguments.folder or CHECKPOINTS
    if arguments.status:
        print("\n".join(status(names, *run, folder, arguments.workers)))
        return
    if not arguments.dry_run:
        try:  # before hours of training, and for all
            for name in names:
                place(name, *run, "cifar10", arguments.folder, arguments.replace)
        except TrainingError as error:
            sys.exit(str(error))
    if not arguments.cluster:
        try:  # else each run would say so
            load("cifar10")
        except DataError as error:
            sys.exit(str(error))
    if arguments.detach:
        log = home() / "logs" / "sweep.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "models.train.sweep"] + [a for a in sys.argv[1:] if a != "--detach"]
        with log.open("a", encoding="utf-8") as stream:
            subprocess.Popen(
                command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
            )
        print(f"running in the background, see {log}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if arguments.dry_run:
        left = dry_run(names, arguments.workers, arguments.deadline)
    elif arguments.cluster:
        try:
            from .cluster import Training, run_jobs
        except ImportError:  # nothing else needs it
            sys.exit("submitit is not installed: `pip install submitit`")
        todo, gpus = missing(names, *run, folder), int(arguments.recipe in ON_GPU)
        job = Training(*run, folder.absolute(), arguments.replace)
        left = run_jobs(job, todo, arguments.cluster, arguments.workers, gpus)
    else:
        left = sweep(names, *run, arguments.workers, folder, arguments.deadline, replace=arguments.replace)
    print(json.dumps({"unfinished": left}))
    if any(arguments.dry_run or reason not in LEFT for reason in left.values()):
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted: the same command goes on from here.")
