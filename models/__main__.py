"""Prints the catalogue, a line per entry: python -m models"""

from . import CATALOGUE, CheckpointError, build
from .checkpoint import read_facts
from .results.evaluate import count_flops


def main() -> None:
    """Prints a line per entry. FLOPs are counted on a network built for the purpose, so it takes a while."""
    print(f"{'id':24} {'family':9} {'slot':7} {'parameters':>11} {'MFLOPs':>7} {'checkpoint':>11}  paper")
    for name, entry in CATALOGUE.items():
        parameters = megaflops = ""
        if entry.is_network:
            network = build(name).eval()
            parameters = f"{sum(parameter.numel() for parameter in network.parameters()):,}"
            megaflops = f"{count_flops(network) / 1e6:,.0f}"
        try:
            accuracy = read_facts(name)["accuracy"]
            checkpoint = "unmeasured" if accuracy is None else f"{accuracy:.2f} %"
        except (CheckpointError, KeyError):
            checkpoint = "-"
        print(
            f"{name:24} {entry.family:9} {entry.slot or '-':7} "
            f"{parameters:>11} {megaflops:>7} {checkpoint:>11}  {entry.paper}"
        )


if __name__ == "__main__":
    main()
