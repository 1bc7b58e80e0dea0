"""Train one network: python -m models.train se --recipe gpu --seed 0

    --recipe paper | gpu | cpu | smoke | dry     named settings, below
    --validate                                   train on 45,000 images, score the other 5,000, ship nothing

Writes `checkpoints/<name>.safetensors` and `.json`. An interrupted run goes on where it stopped when the same
command is given again: bit-identically on the CPU. Metrics go to `$ATTNSCOPE_HOME/runs/<run>/metrics.jsonl`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from ..checkpoint import CHECKPOINTS
from ..data import DataError
from .recipe import RECIPES
from .run import TrainingError, train_one


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Train one network.")
    parser.add_argument("name", help="id in the catalogue, such as se")
    parser.add_argument("--recipe", default="gpu" if torch.cuda.is_available() else "cpu", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dataset", default="cifar10", choices=["cifar10", "cifar100"])
    parser.add_argument(
        "--validate", action="store_true", help="hold out 5,000 training images, ship nothing"
    )
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS, help="where the checkpoint goes")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        facts = train_one(
            arguments.name,
            arguments.seed,
            arguments.recipe,
            arguments.dataset,
            arguments.validate,
            arguments.folder,
        )
    except (TrainingError, DataError, KeyError, ValueError) as error:
        sys.exit(str(error.args[0]))
    print(json.dumps({key: value for key, value in facts.items() if key not in ("settings", "logits_check")}))


if __name__ == "__main__":
    main()
