"""The drawings of where a mechanism stands, against the networks themselves."""

import xml.etree.ElementTree as ET

import pytest

from models import CATALOGUE, build
from models.networks import shapes_only
from visualize.texts.placement import WIDTH, placement

SVG = "{http://www.w3.org/2000/svg}"


def drawn(name: str) -> ET.Element:
    return ET.fromstring(placement(name))


def words(name: str) -> list[str]:
    """What stands in the boxes of the enlarged part and beside them, from top to bottom."""
    texts = [(float(node.get("y")), node.text) for node in drawn(name).iter(f"{SVG}text")]
    return [text for y, text in sorted(texts, key=lambda pair: pair[0]) if y > 130 and text != "shortcut"]


def own_sites(name: str) -> set[str]:
    """The places of a network that hold a module from the folders of mechanisms."""
    with shapes_only():
        network = build(name)
    found = set()
    for path, module in network.named_modules():
        if type(module).__module__.startswith(("models.attention", "models.modules")):
            top = path.split(".")
            found.add("stem" if top[0] == "act1" else ".".join(top[:2]) if top[0][:5] == "layer" else top[0])
    return found


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_is_drawn_where_its_network_has_it(name):
    sites = [node for node in drawn(name).iter(f"{SVG}rect") if node.get("data-site")]
    mine = {node.get("data-site") for node in sites if node.get("class") == "mine"}
    assert mine == (own_sites(name) if CATALOGUE[name].is_network else set())
    blocks = {f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)}
    assert {node.get("data-site") for node in sites} >= {"picture", "stem", *blocks, "fc"}

    title = drawn(name).find(f"{SVG}title").text
    assert CATALOGUE[name].title in title and "`" not in title
    enlarged = [node for node in drawn(name).iter(f"{SVG}rect") if not node.get("data-site")]
    highlighted = [node for node in enlarged if node.get("class") == "mine"]
    assert len(highlighted) == words(name).count(CATALOGUE[name].title)
    assert bool(highlighted) == (CATALOGUE[name].is_network and name != "plain")


@pytest.mark.parametrize("name", CATALOGUE)
def test_drawings_keep_to_their_frame_and_to_the_pages_colours(name):
    left, top, width, height = map(float, drawn(name).get("viewBox").split())
    assert (left, top, width) == (0, 0, WIDTH)
    for node in drawn(name).iter():
        if node.tag == f"{SVG}rect":
            x, y, w, h = (float(node.get(key)) for key in ("x", "y", "width", "height"))
            assert min(x, y) >= 0 and x + w <= width and y + h <= height
        if node.tag == f"{SVG}text":
            half = 3.6 * len(node.text)  # half its width, about
            x, y, anchor = float(node.get("x")), float(node.get("y")), node.get("text-anchor")
            assert anchor == "start" or x - half * (1 + (anchor == "end")) >= 0, node.text
            assert anchor == "end" or x + half * (1 + (anchor == "start")) <= width, node.text
            assert y <= height
        for key in ("fill", "stroke"):
            assert node.get(key, "none") == "none" or "var(--" in node.get(key)
            assert "#" not in node.get(key, "")


FIRST = ["conv1: 3×3 convolution", "bn1: BatchNorm", "ReLU"]
SECOND = ["conv2: 3×3 convolution", "bn2: BatchNorm"]
INPUT, OUTPUT, EVERY = "x, the block's input", "the block's output", "Inside every block"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", [EVERY, INPUT, *FIRST, *SECOND, "+", "ReLU", OUTPUT]),
        ("se", [EVERY, INPUT, *FIRST, *SECOND, "Squeeze-and-Excitation", "+", "ReLU", OUTPUT]),
        ("sk", [EVERY, INPUT, "Selective Kernel", "ReLU", *SECOND, "+", "ReLU", OUTPUT]),  # has its own norm
        ("slimconv", [EVERY, INPUT, *FIRST, "SlimConv", "bn2: BatchNorm", "+", "ReLU", OUTPUT]),
        ("aff", [EVERY, INPUT, *FIRST, *SECOND, "Attentional Feature Fusion", "ReLU", OUTPUT]),
        ("blazeblock", [EVERY, INPUT, "BlazeBlock", OUTPUT]),
        ("mish", [EVERY, INPUT, *FIRST[:2], "Mish", *SECOND, "+", "Mish", OUTPUT]),
        ("stn", ["Before the first layer", "the picture", "3 channels, 32×32 pixels", "Spatial Transformer"]),
        ("non_local", ["The first of these places", "layer2: two blocks", "128 channels, 16×16 cells"]),
        ("ocr", ["Between two layers", "layer3: two blocks", "256 channels, 8×8 cells"]),
        ("afnb", ["Between two layers", "layer2: two blocks", "128 channels, 16×16 cells"]),
        ("spp", ["In place of the average pool", "layer4: two blocks", "512 channels, 4×4 cells"]),
        ("seb", ["In place of the average pool", "layer3: two blocks", "256 channels, 8×8 cells"]),
    ],
)
def test_the_order_in_the_enlarged_part(name, expected):
    assert words(name)[: len(expected)] == expected


def test_what_else_a_mechanism_is_given_is_drawn():
    def accented(name: str) -> int:
        return sum("accent" in node.get("stroke", "") for node in drawn(name).iter(f"{SVG}path"))

    assert (accented("se"), accented("rnan"), accented("dca_se")) == (0, 1, 2)
    assert (accented("non_local"), accented("afnb"), accented("seb"), accented("fpt")) == (0, 1, 1, 2)


def test_refuses_what_is_not_there():
    with pytest.raises(KeyError):
        placement("nothing")
