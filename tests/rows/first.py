"""Rows of the plain network and of the six mechanisms that were there first."""

from rows.row import Row, after_stages, in_blocks

ROWS: dict[str, Row] = {
    "plain": Row(11_173_962),
    "self_attention": Row(11_503_180, 16_641, after_stages(affinity="b head q h w")),
    "non_local": Row(11_339_530, 8_480, after_stages(affinity="b q h w")),
    "se": Row(11_263_042, 580, in_blocks(refine__gate="b c 1 1")),
    "sk": Row(11_362_634, 43_328, in_blocks(conv1__weights="b branch c 1 1")),
    "cbam": Row(11_263_842, 680, in_blocks(refine__channel_gate="b c 1 1", refine__spatial_gate="b 1 h w")),
    "danet": Row(11_276_846, 5_202, after_stages(position="b q h w", channel="b c c")),
}
