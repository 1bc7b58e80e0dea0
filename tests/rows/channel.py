"""Rows of the channel mechanisms and their kin."""

from rows.row import Row, in_blocks

ROWS: dict[str, Row] = {
    "eca": Row(11_173_998, 3, in_blocks(refine__taps="k", refine__gate="b c 1 1")),
    "gsop": Row(
        11_346_058,
        14_688,
        {
            f"layer{stage}.1.refine.{name}": axes
            for stage in (1, 2, 3, 4)
            for name, axes in {"covariance": "b k k", "gate": "b c 1 1"}.items()
        },
    ),
    "fca": Row(
        11_261_002, 512, in_blocks(refine__basis="k h w", refine__spectrum="b c", refine__gate="b c 1 1")
    ),
    "ge_theta_minus": Row(11_173_962, 0, in_blocks(refine__gate="b c 1 1")),
    "ge_theta": Row(11_423_562, 65_664, in_blocks(refine__gather_filter="c h w", refine__gate="b c 1 1")),
    "ge_theta_plus": Row(
        11_512_642, 66_244, in_blocks(refine__gather_filter="c h w", refine__gate="b c 1 1")
    ),
    "cse": Row(11_873_162, 4_192, in_blocks(refine__gate="b c 1 1")),
    "sse": Row(11_175_890, 65, in_blocks(refine__spatial_gate="b 1 h w")),
    "scse": Row(11_875_090, 4_257, in_blocks(refine__channel_gate="b c 1 1", refine__spatial_gate="b 1 h w")),
    "sge": Row(11_174_218, 32, in_blocks(refine__group_gate="b g h w")),
    "shuffle_attention": Row(
        11_174_322, 12, in_blocks(refine__channel_gate="b k 1 1", refine__spatial_gate="b k h w")
    ),
    "bam": Row(
        11_196_953,
        1_173,
        {
            f"stage{stage}.{name}": axes
            for stage in (1, 2, 3)
            for name, axes in {
                "channel_logit": "b c",
                "spatial_logit": "b 1 h w",
                "full_gate": "b c h w",
                "output": "b c h w",
            }.items()
        },
    ),
}
