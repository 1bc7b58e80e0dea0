"""The rows of the hybrid mechanisms and of their relatives: fusion, selection, connected and head gates."""

from models.catalogue import BLOCKS
from rows.row import Row, in_blocks

FUSION = {"global_logit": "b c 1 1", "local_logit": "b c h w"}


def in_stages(*stages: int, **axes: str) -> dict[str, str]:
    """After these stages, with the output that the network itself records there."""
    axes = {**axes, "output": "b c h w"}
    return {f"stage{stage}.{name}": axes[name] for stage in stages for name in axes}


def of(prefix: str, axes: dict[str, str]) -> dict[str, str]:
    return {f"{block}.{prefix}.{name}": axes[name] for block in BLOCKS for name in axes}


ROWS = {
    "triplet_attention": Row(
        11_176_362,
        300,
        in_blocks(refine__hw_gate="b 1 h w", refine__cw_gate="b 1 c w", refine__hc_gate="b 1 h c"),
    ),
    "coord_attention": Row(11_248_698, 1_688, in_blocks(refine__h_gate="b c h 1", refine__w_gate="b c 1 w")),
    "global_context": Row(
        11_263_904,
        653,
        {
            f"{block}.refine.{name}": axes
            for block in BLOCKS[2:]
            for name, axes in (("context_mask", "b 1 h w"), ("channel_add", "b c 1 1"), ("output", "b c h w"))
        }
        | {f"{block}.bn2.output": "b c h w" for block in BLOCKS[2:]},
    ),
    "ms_cam": Row(11_884_682, 4_576, of("refine", FUSION | {"full_gate": "b c h w"})),
    "aff": Row(11_884_682, 4_576, of("fuse", FUSION | {"fuse_gate": "b c h w"})),
    "iaff": Row(
        12_595_402,
        9_152,
        of("fuse.first", FUSION)
        | of("fuse.second", FUSION)
        | of("fuse", {"fuse_gate1": "b c h w", "fuse_gate2": "b c h w"}),
    ),
    "split_attention": Row(11_970_282, 43_488, in_blocks(conv1__weights="b branch c 1 1")),
    "self_calibrated_conv": Row(11_177_802, 37_120, in_blocks(conv2__calibration_gate="b k h w")),
    "residual_attention": Row(11_985_738, 63_104, in_stages(1, 2, 3, soft_mask="b c h w")),
    "dca_se": Row(
        11_441_495,
        580,
        in_blocks(refine__gate="b c 1 1") | {f"{block}.refine.connection": "k" for block in BLOCKS[1:]},
    ),
    "ulsam": Row(11_178_478, 332, in_stages(2, 3, 4, subspace_map="b g h w")),
    "context_gating": Row(11_437_130, 4_224, {"head.gate": "b c"}),
}
