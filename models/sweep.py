"""Train many networks, a few at a time: python -m models.sweep --recipe gpu --deadline 25m

    python -m models.sweep se cbam sk       these entries; by default all that have a network
    python -m models.sweep --workers 3      processes at a time (default: 3 on a GPU, else one per core)
    python -m models.sweep --detach         go on after the shell is gone; the log says how far it is
    python -m models.sweep --status         what is finished, begun and missing

Every run is `python -m models.train` in a process of its own. A finished pair of files is there at once;
at the deadline running entries save their state, and the same command goes on with what is missing. An
entry that fails is reported and the others go on.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from . import CATALOGUE
from .checkpoint import CHECKPOINTS, CheckpointError, read_facts
from .data import home
from .train import RECIPES, settings

# The order in which checkpoints are wanted; everything else follows as the catalogue lists it.
FIRST = """
    plain self_attention non_local se sk cbam danet eca bam coord_attention ccnet scse global_context
    triplet_attention residual_attention stn a2_net efficient_attention gsop fca sge shuffle_attention
    ge_theta_plus split_attention self_calibrated_conv iaff ms_cam light_nl apnb afnb rnan san_pairwise
    generalized_attention ocr iau dca_se ulsam context_gating strip_pooling dgc
""".split()  # noqa: SIM905


@dataclass
class Worker:
    name: str
    process: subprocess.Popen
    log: Path


def missing(names: list[str], recipe: str, seed: int, folder: Path) -> list[str]:
    """The entries that have no checkpoint by this recipe and seed yet."""

    def finished(name: str) -> bool:
        try:
            facts = read_facts(name, folder)
        except CheckpointError:
            return False
        measured = "accuracy" in facts  # else the run was stopped between saving and measuring
        same = facts.get("settings") == settings(RECIPES[recipe]) and facts.get("seed") == seed
        return measured and same

    return [name for name in names if not finished(name)]


def sweep(
    names: list[str], recipe: str, seed: int, workers: int, folder: Path, deadline: float = float("inf")
) -> dict[str, str]:
    """Trains what is missing, `workers` entries at a time, until all is done or the deadline comes.

    Args:
        deadline: seconds from now.

    Returns:
        for each entry that did not finish, `stopped`, `not begun`, or the last line of its log.
    """
    end = time.monotonic() + deadline
    waiting, running, unfinished = missing(names, recipe, seed, folder), [], {}
    total, finished = len(waiting), 0
    said = time.monotonic()
    say(f"{total} to train, {len(names) - total} there already, {workers} at a time")
    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < workers:
                running.append(start(waiting.pop(0), recipe, seed, folder))
                say(f"{running[-1].name}: begun")
            time.sleep(0.5)
            for worker in [worker for worker in running if worker.process.poll() is not None]:
                running.remove(worker)
                if worker.process.returncode == 0:
                    finished += 1
                    say(f"{worker.name}: finished, {finished} of {total}")
                else:
                    unfinished[worker.name] = last_line(worker.log)
                    say(f"{worker.name}: FAILED: {unfinished[worker.name]}")
            if time.monotonic() - said > 30:
                said = time.monotonic()
                for worker in running:
                    say(f"{worker.name}: {last_line(worker.log)}")
    finally:  # at the deadline, and when somebody stops the sweep itself
        for worker in running:
            worker.process.send_signal(signal.SIGTERM)
        for worker in running:
            if worker.process.wait() != 0:
                unfinished[worker.name] = "stopped"
    return unfinished | dict.fromkeys(waiting, "not begun")


def start(name: str, recipe: str, seed: int, folder: Path) -> Worker:
    """One run of one thread: several of them side by side use a machine better than one of many threads."""
    log = home() / "logs" / f"{name}-{recipe}-seed{seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "models.train", name, "--recipe", recipe, "--seed", str(seed)]
    command += ["--folder", str(folder.absolute()), "--threads", "1"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    return Worker(name, process, log)


def last_line(log: Path) -> str:
    """The newest line of a run's log: its progress bar, or why it failed."""
    return re.split(r"[\r\n]+", log.read_text(errors="replace").strip())[-1].strip() or "no output"


def status(names: list[str], recipe: str, seed: int, folder: Path) -> list[str]:
    """One line for each entry: its accuracy, or how far its run is."""
    lines, open_entries = [], missing(names, recipe, seed, folder)
    for name in names:
        log = home() / "logs" / f"{name}-{recipe}-seed{seed}.log"
        if name not in open_entries:
            accuracy = read_facts(name, folder)["accuracy"]
            measured = "accuracy not measured" if accuracy is None else f"{accuracy} %"
            lines.append(f"{name}: finished, {measured}")
        elif log.exists():
            lines.append(f"{name}: begun, {last_line(log)}")
        else:
            lines.append(f"{name}: missing")
    return lines


def seconds(text: str) -> float:
    """`90s`, `25m`, `2h` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 25m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        prog="python -m models.sweep",
        description="Train many networks.",
        allow_abbrev=False,  # an abbreviated --detach would be handed on, and the child detach again
    )
    parser.add_argument("names", nargs="*", help="ids in the catalogue (default: all that have a network)")
    parser.add_argument("--recipe", default="gpu" if on_gpu else "cpu", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=3 if on_gpu else os.cpu_count())
    parser.add_argument("--deadline", type=seconds, default=float("inf"), help="such as 25m")
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS, help="where the checkpoints go")
    parser.add_argument("--detach", action="store_true", help="run in the background, log to a file")
    parser.add_argument("--status", action="store_true", help="only say how far everything is")
    arguments = parser.parse_args()

    trainable = [name for name, entry in CATALOGUE.items() if entry.is_network]
    if unknown := sorted(set(arguments.names) - set(trainable)):
        parser.error(f"no network is called {', '.join(unknown)}")
    names = arguments.names or sorted(trainable, key=(FIRST + trainable).index)
    if arguments.status:
        print("\n".join(status(names, arguments.recipe, arguments.seed, arguments.folder)))
        return
    if arguments.detach:
        log = home() / "logs" / "sweep.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "models.sweep"] + [a for a in sys.argv[1:] if a != "--detach"]
        with log.open("a") as stream:
            subprocess.Popen(
                command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
            )
        print(f"running in the background, see {log}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    left = sweep(
        names, arguments.recipe, arguments.seed, arguments.workers, arguments.folder, arguments.deadline
    )
    print(json.dumps({"unfinished": left}))
    if any(reason not in ("stopped", "not begun") for reason in left.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
