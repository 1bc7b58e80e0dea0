"""The rows of the modules that stand in place of a convolution, an activation or a whole block."""

from models.catalogue import BLOCKS
from rows.row import Row

CONVOLUTIONS = [f"{block}.{conv}" for block in BLOCKS for conv in ("conv1", "conv2")]
THIRD_STAGE = [path for path in CONVOLUTIONS if path.startswith("layer3")]
ACTIVATIONS = ["act1", *(f"{block}.{act}" for block in BLOCKS for act in ("act1", "act2"))]
KERNEL_SIZES = {1: (3, 5, 7, 9), 2: (3, 5, 7), 3: (3, 5), 4: (3,)}  # by stage


def at(places: list[str], **axes: str) -> dict[str, str]:
    return {f"{place}.{name}": letters for place in places for name, letters in axes.items()}


PYRAMIDS = {
    f"{path}.kernel_{size}": "b k h w"
    for path in CONVOLUTIONS
    for size in KERNEL_SIZES[int(path.removeprefix("layer")[0])]
}

ROWS = {
    "acblock": Row(18_512_970, 15 * 64**2 + 6 * 64, at(CONVOLUTIONS, skeleton="k k", views="b branch c h w")),
    "swish": Row(11_173_962, 0, at(ACTIVATIONS, preactivation="b c h w")),
    "mish": Row(11_173_962, 0, at(ACTIVATIONS, preactivation="b c h w")),
    "dwsep_conv": Row(1_446_410, 64**2 + 11 * 64, at(CONVOLUTIONS, filters="g k k", depthwise="b g h w")),
    "mixconv": Row(
        1_509_298,
        1_752 + 2 * 64 + 64**2,
        at(CONVOLUTIONS, kernel_3="b k h w", kernel_5="b k h w", kernel_7="b k h w"),
    ),
    "ghost": Row(5_698_506, 18_848, at(CONVOLUTIONS, filters="g k k", intrinsic="b g h w", ghost="b g h w")),
    "slimconv": Row(7_524_162, 12_484 + 48 * 64, at(CONVOLUTIONS[1::2], gate="b c 1 1")),
    "effnet": Row(2_756_426, 2 * 64**2 + 12 * 64),
    "doconv": Row(11_448_714, 9 * 64**2 + 81 * 64, at(CONVOLUTIONS, depthwise="g k k")),
    "pyconv": Row(10_697_546, 27_072, PYRAMIDS),
    "dgc": Row(11_771_850, 41_344, at(CONVOLUTIONS, saliency="b head k")),
    "psconv": Row(11_173_962, 9 * 64**2, at(CONVOLUTIONS, pattern="k k", views="b branch c h w")),
    "dynamic_conv": Row(17_421_274, 148_548, at(THIRD_STAGE, weights="b k")),
    "condconv": Row(17_370_714, 4 * (9 * 64**2 + 65), at(THIRD_STAGE, gate="b k")),
    "spconv": Row(4_174_666, 13_632, at(CONVOLUTIONS, weights="b branch c 1 1")),
    "blazeblock": Row(1_326_858, 2 * (64**2 + 29 * 64)),
}
