"""Train one network: python -m models.train se --recipe gpu --seed 0

    --recipe paper | gpu | cpu | smoke | dry     named settings, below
    --validate                                   train on 45,000 images, score the other 5,000, ship nothing
    --folder FOLDER                              where the checkpoint goes: needed by all but `gpu` and `cpu`
    --replace                                    in place of a checkpoint by another recipe or seed

Writes `checkpoints/<name>.safetensors` and `.json`. An interrupted run goes on where it stopped when the same
command is given again: bit-identically on the CPU. Metrics go to `$ATTNSCOPE_HOME/runs/<run>/metrics.jsonl`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from ..checkpoint import CHECKPOINTS, CheckpointError
from ..data import DataError
from .recipe import RECIPES
from .run import TrainingError, is_finished, train_one
from .sweep import positive, seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Train one network.")
    parser.add_argument("name", help="id in the catalogue, such as se")
    parser.add_argument("--recipe", default="gpu" if torch.cuda.is_available() else "cpu", choices=RECIPES)
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--dataset", default="cifar10", choices=["cifar10", "cifar100"])
    parser.add_argument(
        "--validate", action="store_true", help="hold out 5,000 training images, ship nothing"
    )
    parser.add_argument("--folder", type=Path, help="where the checkpoint goes (default: checkpoints/)")
    parser.add_argument("--replace", action="store_true", help="a checkpoint by another recipe or seed")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    name, recipe = arguments.name, arguments.recipe
    folder = arguments.folder or CHECKPOINTS
    again = arguments.validate or arguments.replace
    if not again and is_finished(name, recipe, arguments.seed, arguments.dataset, folder):
        print(f"{name} by the recipe {recipe} with seed {arguments.seed} is in {folder} already.")
        return
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        facts = train_one(
            name,
            arguments.seed,
            recipe,
            arguments.dataset,
            arguments.validate,
            arguments.folder,
            replace=arguments.replace,
        )
    except (TrainingError, CheckpointError, DataError, KeyError, ValueError) as error:
        sys.exit(str(error.args[0]))
    except OSError as error:
        sys.exit(f"{error.filename or 'The disk'} cannot be used ({error.strerror}).")
    except KeyboardInterrupt:  # while it starts, or measures
        sys.exit("Interrupted: the same command goes on from here.")
    print(json.dumps({key: value for key, value in facts.items() if key not in ("settings", "logits_check")}))


if __name__ == "__main__":
    main()
