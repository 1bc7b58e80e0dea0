"""What the spatial and pairwise entries must be: one row per entry."""

from rows.row import Row, after_stages


def in_last_blocks(**axes: str) -> dict[str, str]:
    """On the residual of the last block of stage 2 and 3."""
    return {
        f"layer{stage}.1.refine.{name.replace('__', '.')}": axes[name] for stage in (2, 3) for name in axes
    }


ROWS = {
    "non_local_gaussian": Row(11_257_226, 4_320, after_stages(affinity="b q h w")),
    "non_local_dot_product": Row(11_339_530, 8_480, after_stages(affinity="b q h w")),
    "non_local_concatenation": Row(11_339_914, 8_544, after_stages(affinity="b q h w")),
    "light_nl": Row(
        11_178_186,
        704,
        in_last_blocks(affinity="b q h w", output="b c h w")
        | dict.fromkeys(("layer2.1.bn2.output", "layer3.1.bn2.output"), "b c h w"),
    ),
    "ccnet": Row(11_276_844, 5_201, after_stages(affinity_1="b h w cross", affinity_2="b h w cross")),
    "apnb": Row(11_462_986, 14_720, after_stages(affinity="b q k")),
    "afnb": Row(11_355_658, 11_632, {"stage3.affinity": "b q k", "stage3.output": "b c h w"}),
    "a2_net": Row(11_257_322, 4_336, after_stages(gather="b k h w", distribute="b k h w")),
    "efficient_attention": Row(11_338_762, 8_352, after_stages(key_maps="b k h w", query_weights="b k h w")),
    "rnan": Row(11_347_794, 8_812, in_last_blocks(non_local__affinity="b q h w", mask="b c h w")),
    "san_pairwise": Row(11_227_306, 2_868, after_stages(weights="b g k h w")),
    "san_patchwise": Row(11_241_582, 3_906, after_stages(weights="b g k h w")),
    "generalized_attention": Row(
        11_584_716,
        20_673,
        after_stages(
            e1="b head q h w",
            e2="b head q h w",
            e3="b k h w",
            e4="head q h w",  # static: the same for every picture
            affinity="b head q h w",
        ),
    ),
    "ocr": Row(
        11_540_052,
        23_946,
        {"stage3.regions": "b k h w", "stage3.pixel_region": "b k h w", "stage3.output": "b c h w"},
    ),
    "iau": Row(
        11_424_744,
        13_135,
        after_stages(channel="b c c", parts="b k h w", edges="b k k", update="b c"),
    ),
    "stn": Row(11_182_506, None, {"input.theta": "b 2 3", "input.grid": "b h w 2"}),
}
