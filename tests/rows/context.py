"""The rows of the modules for context and fusion: pyramids, strips, receptive fields, heads over stages."""

from models.catalogue import BLOCKS
from rows.row import Row


def after_stage_3(**axes: str) -> dict[str, str]:
    """After stage 3, with the output that the network itself records there."""
    return {f"stage3.{name}": letters for name, letters in axes.items()} | {"stage3.output": "b c h w"}


def at_the_head(**axes: str) -> dict[str, str]:
    return {f"head.{name}": letters for name, letters in axes.items()}


STRIPS = {"rows": "b c h 1", "columns": "b c 1 w", "gate": "b c h w"}
FPT = {f"own.{i}.affinity": "b q h w" for i in (2, 3, 4)}
FPT |= {f"grounding.{pair}.affinity": "b q k" for pair in ("2_3", "2_4", "3_4")}
FPT |= {path.replace("affinity", "weights"): "b k" for path in FPT}
FPT |= {f"rendering.{pair}.gate": "b c 1 1" for pair in ("3_2", "4_2", "4_3")}

ROWS = {
    "aspp": Row(13_405_258, 34 * 64**2 + 12 * 64, after_stage_3(views="b branch c h w")),
    "psp": Row(11_371_594, 3 * 64**2 + 4 * 64, after_stage_3(**{f"grid_{n}": "b c k" for n in (1, 2, 3, 6)})),
    "rfb": Row(
        11_493_930,
        20_376,
        after_stage_3(views="b branch k h w", residual="b c h w", shortcut="b c h w"),
    ),
    "seb": Row(12_356_426, 18_464, at_the_head(mask="b c h w")),
    "ssh_context": Row(11_912_778, 46_464, after_stage_3(views="b branch k h w")),
    "weighted_fusion": Row(11_173_978, 2, {f"{block}.fuse.weights": "k" for block in BLOCKS}),
    "strip_pooling": Row(
        11_778_314,
        7 * 64**2 + 5 * 64,
        {f"layer{i}.1.refine.{name}": letters for i in (1, 2, 3) for name, letters in STRIPS.items()},
    ),
    "mixed_pooling": Row(11_450_058, 67 * 16**2 + 26 * 16, after_stage_3(views="b branch k h w")),
    "fpt": Row(11_956_746, 735_808, at_the_head(**FPT)),
    "spp": Row(11_276_362, 0, at_the_head(**{f"grid_{n}": "b c k" for n in (1, 2, 4)})),
}
