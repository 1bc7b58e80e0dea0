"""What a row says, and short forms of the places where records stand."""

from dataclasses import dataclass, field

from models.catalogue import BLOCKS


@dataclass(frozen=True)
class Row:
    """What an entry must be.

    Args:
        total: parameters of the whole network with ten classes.
        module: parameters of one module at 64 channels.
        records: path -> axes of what the mechanism records; the outputs of the eight blocks come on top.
    """

    total: int
    module: int | None = None
    records: dict[str, str] = field(default_factory=dict)


def in_blocks(**axes: str) -> dict[str, str]:
    return {f"{block}.{name.replace('__', '.')}": axes[name] for block in BLOCKS for name in axes}


def after_stages(**axes: str) -> dict[str, str]:
    """At the two places after stage 2 and 3, with the output that the network itself records there."""
    axes = {**axes, "output": "b c h w"}
    return {f"stage{stage}.{name}": axes[name] for stage in (2, 3) for name in axes}
