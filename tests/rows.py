"""What each entry of the catalogue must be: one row per entry."""

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


ROWS = {
    "plain": Row(11_173_962),
    "self_attention": Row(11_503_180, 16_641, after_stages(affinity="b head q h w")),
    "non_local": Row(11_339_530, 8_480, after_stages(affinity="b q h w")),
    "se": Row(11_263_042, 580, in_blocks(refine__gate="b c 1 1")),
    "sk": Row(11_362_634, 43_328, in_blocks(conv1__weights="b branch c 1 1")),
    "cbam": Row(11_263_842, 680, in_blocks(refine__channel_gate="b c 1 1", refine__spatial_gate="b 1 h w")),
    "danet": Row(11_276_846, 5_202, after_stages(position="b q h w", channel="b c c")),
}
