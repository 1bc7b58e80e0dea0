"""The figure: what it draws are the recorded numbers, on the scales it names, and nothing overlaps."""

import gc
import re
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import matplotlib
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.text import Text

from models import CLASSES
from tests.networks import EVERY_KIND, column, picture
from visualize.export.column import Column
from visualize.export.figure import BAND, figure, save
from visualize.export.files import MOST_IN_FIGURE
from visualize.export.panels import panels, tiles
from visualize.export.sheet import CAPTION, PATH, SLIDE
from visualize.inspection.engine import Question
from visualize.inspection.replaced import Replacement
from visualize.record.display import description
from visualize.record.kinds import KINDS, kind_of
from visualize.record.view import View

WORDS = description()
SEVEN = ("plain", "se", "cbam", "sk", "non_local", "self_attention", "danet")


def at(**settings) -> View:
    """A view of layer3.1, where most networks have a map of each kind."""
    return View(**{"block": "layer3.1", "query": (16, 16), **settings})


def figure_of(
    columns: list[Column], look: View | None = None, missing: dict[str, str] | None = None, **asked
) -> Figure:
    return figure(columns, look or at(), Question(picture(), **asked), missing or {})


def drawn(names: tuple[str, ...], look: View | None = None, **settings) -> Figure:
    return figure_of([column(name) for name in names], look, **settings)


everything = cache(lambda: drawn(EVERY_KIND))
kept = cache(drawn)  # for who only reads it


def axes_of(made: Figure, path: str) -> Axes:
    (found,) = (axes for axes in made.axes if axes.get_label() == path)
    return found


def image_of(made: Figure, path: str) -> tuple[np.ndarray, tuple[float, float]]:
    image = axes_of(made, path).images[-1]
    return np.ma.filled(image.get_array(), np.nan), (image.norm.vmin, image.norm.vmax)


def words_of(made: Figure) -> str:
    return " ".join(text.get_text() for text in made.texts)


def test_maps_are_the_recorded_ones():
    made = drawn(SEVEN, at(query=(9, 30)))
    for name in SEVEN:
        data, ends = image_of(made, f"{name}/layer3.1.cam")
        assert np.array_equal(data, column(name).inspection.cams["layer3.1"]) and ends == (0, 1)
    maps = {name: column(name).inspection.maps for name in SEVEN}
    data, ends = image_of(made, "cbam/layer3.1.refine.spatial_gate")
    assert np.array_equal(data, maps["cbam"]["layer3.1.refine.spatial_gate"].values[0]) and ends == (0, 1)
    place = 30 * 8 // 32 * 8 + 9 * 8 // 32  # row 7, column 2 of 8 x 8
    for name, path in (("non_local", "stage3.affinity"), ("danet", "stage3.position")):
        data, ends = image_of(made, f"{name}/{path}")
        assert np.allclose(data, maps[name][path].values[place] * 64, rtol=1e-4)
        assert ends == (1 / 16, 16)
    data, _ = image_of(made, "self_attention/stage3.affinity")
    assert np.allclose(
        data, maps["self_attention"]["stage3.affinity"].values[:, place].mean(0) * 64, rtol=1e-4
    )
    data, _ = image_of(kept(("danet", "plain")), "danet/stage3.channel")
    assert np.allclose(data, maps["danet"]["stage3.channel"].values * 256, rtol=1e-3)
    curve = axes_of(made, "se/layer3.1.refine.gate").lines[-1].get_ydata()
    assert np.array_equal(curve, np.sort(maps["se"]["layer3.1.refine.gate"].values.ravel())[::-1])
    grey = axes_of(made, "se/layer3.1.refine.gate").lines[0].get_ydata()
    assert np.array_equal(grey, np.sort(maps["cbam"]["layer3.1.refine.channel_gate"].values.ravel())[::-1])
    bottom, top = axes_of(made, "sk/layer3.1.conv1.weights").collections
    shares = np.sort(maps["sk"]["layer3.1.conv1.weights"].values[1].ravel())[::-1]
    assert np.isclose(bottom.get_paths()[0].vertices[:, 1].max(), shares[0])
    assert np.isclose(top.get_paths()[0].vertices[:, 1].max(), 1)


@pytest.mark.parametrize("overlay", [0.01, 0.6, 1.0])
def test_the_photograph_does_not_mix_into_the_colours(overlay):
    """Away from the contour lines every pixel has exactly the colour of its value."""
    name, path = "cbam", "layer3.1.refine.spatial_gate"
    made = drawn((name,), at(overlay=overlay))
    axes, (image,) = axes_of(made, f"{name}/{path}"), axes_of(made, f"{name}/{path}").images
    canvas = FigureCanvasAgg(made)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    left, bottom, right, top = (round(x) for x in axes.bbox.extents)
    x, y = np.arange(left + 2, right - 2), np.arange(len(pixels) - top + 2, len(pixels) - bottom - 2)
    cells = [
        ((one + 0.5 - start) * 8 / (end - start))
        for one, start, end in (
            (x, axes.bbox.x0, axes.bbox.x1),
            (y, len(pixels) - axes.bbox.y1, len(pixels) - axes.bbox.y0),
        )
    ]
    inside = [np.abs(cell - np.round(cell)) > 0.05 for cell in cells]  # not on the edge of two cells
    column_of, row_of = (cell[keep].astype(int) for cell, keep in zip(cells, inside))
    values = column(name).inspection.maps[path].values[0][row_of][:, column_of]
    expected = image.get_cmap()(values, bytes=True)[..., :3].astype(int)  # fixed from 0 to 1
    same = (np.abs(pixels[y[inside[1]]][:, x[inside[0]]] - expected) <= 1).all(2)
    lines = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    assert len(lines) == 2 and all(one.get_alpha() == pytest.approx(0.8 * (1 - overlay)) for one in lines)
    assert same.all() if overlay == 1 else 0.5 < same.mean() < 1


def test_one_head_and_another_site():
    made = drawn(("self_attention", "plain"), at(pairwise_block="layer2.1", head=3, query=(0, 0)))
    data, _ = image_of(made, "self_attention/stage2.affinity")
    values = column("self_attention").inspection.maps["stage2.affinity"].values
    assert np.allclose(data, values[3, 0] * 256, rtol=1e-4)
    assert "head 4 of 4" in words_of(made)


def test_a_cross_has_no_number_off_the_cross():
    data, _ = image_of(drawn(("ccnet", "plain"), at(query=(0, 31))), "ccnet/stage3.affinity_1")
    read = (
        column("ccnet").inspection.maps["stage3.affinity_1"].values[7, 0]
    )  # of the cell: its column, its row
    assert np.allclose(data[:7, 0], read[:7] * 15) and np.allclose(data[7], read[8:] * 15)
    assert np.isnan(data[:7, 1:]).all()


def test_another_block():
    made = drawn(("cbam", "se"), at(block="layer1.0"))
    data, _ = image_of(made, "cbam/layer1.0.refine.spatial_gate")
    assert np.array_equal(data, column("cbam").inspection.maps["layer1.0.refine.spatial_gate"].values[0])
    assert not [axes for axes in made.axes if "layer3.1" in axes.get_label()]


def test_scales():
    """Spatial gates of two networks: fixed at 0 to 1, shared from least to most, each its own."""
    paths = ["cbam/layer3.1.refine.spatial_gate", "scse/layer3.1.refine.spatial_gate"]
    values = [column(path[:4]).inspection.maps[path[5:]].values for path in paths]
    ranges = [(float(v.min()), float(v.max())) for v in values]
    both = (min(low for low, _ in ranges), max(high for _, high in ranges))
    for scale, expected in (("fixed", [(0, 1)] * 2), ("shared", [both] * 2), ("own", ranges)):
        made = drawn(("cbam", "scse"), at(scale=scale))
        assert np.allclose([image_of(made, path)[1] for path in paths], expected), scale
        assert image_of(made, "cbam/layer3.1.cam")[1] == (0, 1)
        curve = axes_of(made, "scse/layer3.1.refine.channel_gate")
        gate = column("scse").inspection.maps["layer3.1.refine.channel_gate"].values
        if scale == "own":
            assert curve.get_ylim() == pytest.approx((gate.min(), gate.max()))


def test_shares_are_drawn_in_equal_factors():
    image = axes_of(kept(("danet", "plain")), "danet/stage3.position").images[-1]
    assert isinstance(image.norm, LogNorm)
    assert [float(image.norm(x)) for x in (0, 1 / 16, 1 / 4, 1, 16, 99)] == pytest.approx(
        [0, 0, 0.25, 0.5, 1, 1]
    )


def test_what_has_no_end_is_symmetric_about_zero():
    values, (low, high) = image_of(drawn(("stn", "plain")), "stn/input.theta")
    assert high == -low == np.abs(values).max()


@pytest.mark.parametrize("scale", ["shared", "own"])
def test_shares_stay_logarithmic_and_zero_stays_in_the_middle(scale):
    look, path = at(scale=scale), "layer3.1.refine.global_logit"
    made = drawn(("danet", "apnb", "ms_cam"), look)
    image = axes_of(made, "danet/stage3.channel").images[-1]
    assert isinstance(image.norm, LogNorm) and image.norm.vmin == 1 / 256  # of shares that are almost zero
    assert image.norm.vmax == pytest.approx(
        column("danet").inspection.maps["stage3.channel"].values.max() * 256
    )
    bars = axes_of(made, "apnb/stage3.affinity")
    assert bars.get_ylim() == (1 / 16, 16) and bars.get_yscale() == "log"  # bars stand on a line that stays
    curve, most = axes_of(made, f"ms_cam/{path}"), np.abs(column("ms_cam").inspection.maps[path].values).max()
    assert curve.get_ylim() == (pytest.approx(-most), pytest.approx(most))


def changed(name: str, path: str, values: np.ndarray) -> Column:
    """A column in which one map holds other values."""
    old = column(name)
    maps = old.inspection.maps | {path: replace(old.inspection.maps[path], values=values)}
    return replace(old, inspection=replace(old.inspection, maps=maps))


@pytest.mark.parametrize("scale", ["fixed", "shared", "own"])
def test_constant_maps_look_constant_on_every_scale(scale):
    path, logit = "layer3.1.refine.spatial_gate", "layer3.1.refine.local_logit"
    flat = column("cbam").inspection.maps[path].values * 0 + 0.5
    flat[0, 0, 0] += 1e-6
    zero = column("ms_cam").inspection.maps[logit].values * 0
    made = figure_of([changed("cbam", path, flat), changed("ms_cam", logit, zero)], at(scale=scale))
    image = axes_of(made, f"cbam/{path}").images[-1]
    assert np.ptp(image.norm(image.get_array())) < 1e-3
    assert "flat: 0.50 everywhere" in words_of(made)
    assert image_of(made, f"ms_cam/{logit} mean")[1] == (-1, 1)


def test_lines_and_cells():
    for look in (at(overlay=0.3), at(overlay=0.3, cells="smooth", colours="magma")):
        axes = axes_of(drawn(("plain", "se"), look), "plain/layer3.1.cam")
        (image,) = axes.images
        assert image.get_cmap()(0.7)[3] == 1 and image.get_alpha() is None
        assert image.get_interpolation() == ("nearest" if look.cells == "true" else "bilinear")
        assert image.get_interpolation_stage() == "rgba"  # colours are blended, as on the page
        anchors = WORDS["colours"][look.colours].split()  # 17 of them, as on the page
        assert np.allclose(image.get_cmap()(3 / 16)[:3], to_rgb(f"#{anchors[3]}"), atol=0.01)
        assert [patch.get_edgecolor()[3] for patch in axes.patches] == pytest.approx([0.8 * 0.7] * 2)
    alone = axes_of(drawn(("plain", "se"), at(overlay=0)), "plain/layer3.1.cam")
    assert np.array_equal(alone.images[0].get_array(), np.array(picture())) and not alone.patches


def test_the_lines_are_where_the_picture_is_as_bright_as_their_level():
    """ITU-R BT.601, as Pillow reckons it: what is green looks brighter than what is blue."""
    axes = axes_of(drawn(("plain",)), "plain/layer3.1.cam")
    points = axes.patches[0].get_path().vertices - 0.5  # (n, 2): x, y between centres
    grey = np.asarray(picture().convert("RGB"), float) @ [0.299, 0.587, 0.114]
    x, y = np.clip(points.round(9), 0, 31).T
    left, upper = np.floor(x).astype(int), np.floor(y).astype(int)
    right, lower = np.ceil(x).astype(int), np.ceil(y).astype(int)
    assert (np.minimum(x % 1, y % 1) == 0).all()  # on lines between two centres
    found = grey[upper, left] + (x % 1 + y % 1) * (grey[lower, right] - grey[upper, left])
    levels = np.sort(grey, axis=None)[[int(share * 1023) for share in WORDS["contours"]["levels"]]]
    assert np.abs(found[:, None] - levels).min(1).max() < 0.02
    assert np.abs(np.asarray(picture().convert("L")) - grey).max() <= 1


def test_the_mark_is_on_the_cell_that_asks():
    made = drawn(("danet", "plain"), at(query=(9, 30)))
    for path in ("danet/stage3.position", "picture"):
        frame = axes_of(made, path).patches[-1]
        assert isinstance(frame, Rectangle)
        assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (8, 28, 4, 4)
    assert not [one for one in axes_of(made, "danet/layer3.1.cam").patches if isinstance(one, Rectangle)]
    assert "row 8, column 3" in words_of(made)
    made = kept(("gsop", "se"))  # a matrix of channels is read from no place
    assert not [*axes_of(made, "picture").patches] and "marked place" not in words_of(made)


def test_no_map_is_invented():
    """Plain has no attention and says so; a mechanism without a map at a block says where it has one."""
    made = drawn(("plain", "danet", "san_pairwise", "global_context"), at(block="layer1.0"))
    assert {axes.get_label() for axes in made.axes if axes.get_label().startswith("plain")} == {
        "plain/layer1.0.cam"
    }
    assert "No attention between places: nothing here depends on the marked place." in words_of(made)
    assert not [axes for axes in made.axes if axes.get_label().startswith("global_context/layer2")]
    assert "global" not in words_of(drawn(("plain", "se")))
    assert "No channel gate here, but at layer4.1." in " ".join(
        words_of(drawn(("se", "global_context"), at(block="layer1.0"))).split()
    )


def test_every_kind_of_map_is_drawn():
    figures = [drawn(EVERY_KIND[start : start + 3]) for start in range(0, len(EVERY_KIND), 3)]
    labels = {axes.get_label() for part in figures for axes in part.axes}
    kinds = set()
    for name in EVERY_KIND:
        for path, shown in column(name).inspection.maps.items():
            if any(label.startswith(f"{name}/{path}") for label in labels):
                kinds.add(kind_of(shown))
    assert kinds == {*KINDS.values(), "filters"} - {"cam"}


@pytest.mark.parametrize(
    "names",
    [
        ("se",),
        ("danet",),
        ("plain", "cbam"),
        SEVEN,
        EVERY_KIND,
        ("fpt", "generalized_attention", "mixconv", "fca"),
    ],
    ids=lambda names: f"{len(names)} {names[0]}",
)
def test_no_words_overlap_or_are_cut(names):
    have_room(everything() if names is EVERY_KIND else kept(names))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_what_is_replaced_has_room_too(count):
    """The longest that can be said: everywhere another class was first before."""
    columns = []
    for name in SEVEN[:count]:
        seen = column(name).inspection
        seen = replace(seen, before=np.roll(seen.probabilities, 1), replaced=tuple(seen.maps))
        columns.append(replace(column(name), inspection=seen))
    have_room(
        figure_of(columns, replacement=Replacement("another picture's", "layer3.1.refine.spatial_gate"))
    )


def test_only_what_was_replaced_is_said_to_be():
    one, other = (column(name).inspection for name in ("cbam", "se"))
    paths = ("layer3.1.refine.spatial_gate",)
    one = replace(one, before=np.roll(one.probabilities, 1), replaced=paths)
    other = replace(other, before=other.probabilities, replace_note="SE answers as trained.")
    columns = [replace(column("cbam"), inspection=one), replace(column("se"), inspection=other)]
    made = figure_of(columns, replacement=Replacement("average", "layer3.1.refine.spatial_gate"))
    words = words_of(made)
    assert words.count("(as trained ") == words.count("answers as trained ") == 1  # beneath the names
    assert sum(text.get_text() == "replaced" for text in made.texts) == 1


def test_the_accuracy_of_a_network_with_replaced_attention_is_that_as_trained():
    seen = column("cbam").inspection
    seen = replace(seen, before=np.roll(seen.probabilities, 1), replaced=tuple(seen.maps))
    made = figure_of(
        [replace(column("cbam"), inspection=seen), column("se")], replacement=Replacement("level")
    )
    words = words_of(made)
    said = "93.0\N{NO-BREAK SPACE}% in the test"
    assert words.count(f"as trained {said}") == 1 and words.count(said) == 2
    assert "Test accuracy on CIFAR-10 as trained, with" in words


@pytest.mark.parametrize("note", [None, "It cannot be replaced."])
def test_a_network_that_is_not_trained_is_not_said_to_answer_as_trained(note):
    seen = column("stn").inspection
    seen = replace(seen, before=np.roll(seen.probabilities, 1), replace_note=note)
    made = figure_of([replace(column("stn"), inspection=seen)], replacement=Replacement("level"))
    header = words_of(made).split("One picture of 32")[0]
    assert "as it starts" in header and "as trained" not in header


@pytest.mark.parametrize(
    ("names", "where"),
    [
        (("danet", "afnb"), "after layer2 and after layer3, marked place"),
        (("afnb", "danet"), "after layer3 and after layer2, marked place"),
        (("danet", "ccnet"), "after layer2"),
    ],
)
def test_every_place_of_the_pairwise_maps_is_named(names, where):
    assert f"Attention and channel matrices {where}" in words_of(drawn(names, at(block="layer2.1")))


def test_maps_with_a_sign_are_said_to_have_a_scale_of_their_own():
    for names, said in ((("bam", "cbam"), True), (("cbam", "se"), False)):
        for scale in ("fixed", "own"):
            assert ("; with a sign, for each map." in words_of(drawn(names, at(scale=scale)))) == said
        assert "with a sign" not in words_of(drawn(names, at(scale="shared")))


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        (0, "Cells are left out"),
        (0.6, "Lines over the maps: the outlines"),
        (1, "Smoothed between the cells"),
    ],
)
def test_what_the_overlay_shows_is_said(overlay, said):
    words = words_of(drawn(("cbam",), at(overlay=overlay, cells="smooth")))
    found = [one for one in ("Cells are left out", "Lines over the maps: the outlines") if one in words]
    assert said in words and found == [said][: overlay < 1]
    assert ("Smoothed between" in words) == (overlay > 0)


def have_room(made: Figure) -> None:
    """No words overlap or are cut."""
    renderer = FigureCanvasAgg(made).get_renderer()
    texts = [text for text in made.findobj(Text) if text.get_text() and text.get_visible()]
    texts = [text for text in texts if text.axes is None or text in text.axes.texts]
    boxes = np.array([text.get_window_extent(renderer).extents for text in texts])  # (n, 4): x0, y0, x1, y1
    width, height = made.bbox.width, made.bbox.height
    assert (boxes[:, :2] > 0).all() and (boxes[:, 2] < width).all() and (boxes[:, 3] < height).all()
    images = np.array([axes.bbox.extents for axes in made.axes if axes.get_label()])
    slack = 0.03 * made.dpi  # boxes include room above and below small letters
    outside = [i for i, text in enumerate(texts) if text.axes is None]
    for i, one in enumerate(boxes):
        others = [boxes[i + 1 :]] + ([images] if i in outside else [])
        for rest in others:
            across = np.minimum(one[2], rest[:, 2]) - np.maximum(one[0], rest[:, 0])
            down = np.minimum(one[3], rest[:, 3]) - np.maximum(one[1], rest[:, 1])
            assert not ((across > slack) & (down > slack)).any(), texts[i].get_text()


def test_the_caption_says_what_was_asked_for():
    made = drawn(("se", "stn"), at(scale="own"), target="dog", cam="GradCAM++", missing={"eca": "No eca."})
    words = " ".join(words_of(made).split())
    for said in (
        "Class explained: dog.",
        "Method: Grad-CAM++.",
        "Block: layer3.1, 8 × 8 cells.",
        "Squeeze-and-Excitation 93.0 % (92.5 to 93.5; recipe cpu)",
        "Random weights, not trained: Spatial Transformer",
        "colours cannot be compared",
        "No eca.",
        "An attention map shows where a factor is large, not why the network decides.",
        "AttnScope.",
    ):
        assert said in words, said
    assert "random weights, not trained" in words


def test_the_caption_says_where_the_marked_place_is_on_every_grid():
    words = " ".join(words_of(drawn(("fpt",), at(query=(14, 20)))).split())
    assert "marked place in row 11, column 8 of 16 × 16 and row 6, column 4 of 8 × 8" in words
    words = " ".join(words_of(drawn(("se",), at())).split())
    assert "marked place" not in words


def test_many_networks_are_wrapped_into_bands():
    made = everything()
    tops = [round(axes_of(made, f"{name}/layer3.1.cam").bbox.y0) for name in EVERY_KIND]
    half = -(-len(EVERY_KIND) // 2)
    assert BAND < len(EVERY_KIND) <= 2 * BAND
    assert len(set(tops[:half])) == len(set(tops[half:])) == 1 and tops[0] > tops[half]
    for one in (tops[:half], tops[half:]):  # no band is half empty
        ends = [axes.bbox.x1 for axes in made.axes if axes.get_label() and axes.bbox.y1 > one[0] - 20]
        assert max(ends) > 0.85 * made.bbox.width


SLIDES = [("danet",), ("plain", "cbam"), SEVEN, (*SEVEN, "scse")]


@pytest.mark.parametrize("names", SLIDES, ids=len)
def test_a_slide_is_16_to_9_and_read_from_the_back_of_a_room(names):
    made = kept(names)
    width, height = made.get_size_inches()
    assert width / height == pytest.approx(16 / 9)
    sizes = {text.get_fontsize(): text.get_text() for text in made.texts}
    large = {
        size: text for size, text in sizes.items() if size not in (PATH.size, CAPTION.size)
    }  # fine print
    points = min(large) * SLIDE / width  # on a slide
    assert points >= (11 if len(names) <= 7 else 10), large
    words = words_of(made)
    for name in names:
        best = np.argsort(-column(name).inspection.probabilities)[:2]
        assert all(CLASSES[i] in words for i in best)
    assert words.count("93.0\N{NO-BREAK SPACE}% in the test") == len(names)
    assert max(axes.bbox.x1 for axes in made.axes if axes.get_label()) > 0.85 * made.bbox.width


@pytest.mark.parametrize("count", [len(EVERY_KIND), MOST_IN_FIGURE])
def test_many_networks_are_a_slide_as_well(count):
    again = [replace(column(name), key=f"{name}_again") for name in EVERY_KIND]
    columns = [*map(column, EVERY_KIND), *again][:count]
    made = everything() if count == len(EVERY_KIND) else figure_of(columns)
    width, height = made.get_size_inches()
    assert width / height == pytest.approx(16 / 9)
    assert {f"{one.key}/layer3.1.cam" for one in columns} <= {axes.get_label() for axes in made.axes}
    boxes = np.array(
        [axes.bbox.extents for axes in made.axes if axes.get_label()]
    )  # left, bottom, right, top
    assert (boxes[:, :2] > -1).all() and (boxes[:, 2:] < [made.bbox.width + 1, made.bbox.height + 1]).all()
    across, up = (
        np.minimum(boxes[:, None, i + 2], boxes[:, i + 2]) - np.maximum(boxes[:, None, i], boxes[:, i])
        for i in (0, 1)
    )
    assert not np.triu((across > 2) & (up > 2), 1).any()  # nothing covers another


def test_what_found_no_room_is_counted():
    made = kept(SEVEN, at(block="layer2.1"))
    left = dict(re.findall(r"([\w -]+?) (\d+)", re.search(r"found no room: (.*?)\. ", words_of(made))[1]))
    drawn_maps = {axes.get_label() for axes in made.axes}
    for name in SEVEN:
        shown = [row.cells[name] for row in panels([column(name)], at(block="layer2.1"))]
        own = {panel.name for cell in shown if isinstance(cell, list) for panel in cell}
        title = column(name).title
        assert len(own - drawn_maps) == sum(int(n) for key, n in left.items() if key.strip() == title), name
    assert left
    assert "4 of 5 shown" in words_of(drawn(("aspp",)))


def test_a_slide_says_nothing_twice():
    """The answers above say how probable the best class is, the colours where the mean is."""
    one = column("cbam")
    other = replace(one, inspection=replace(one.inspection, target=(one.inspection.target + 1) % 10))
    for asked in (one, other):
        (cam,) = panels([asked], at())[0].cells["cbam"]
        drawn_words, of_class = (
            words_of(figure_of([asked])),
            cam.said[1].replace(" %", "\N{NO-BREAK SPACE}%"),
        )
        assert of_class.startswith(f"for {CLASSES[asked.inspection.target]}, ")
        assert (of_class in drawn_words) == (asked is other)
        assert ", mean" in cam.said[0] and ", mean" not in drawn_words  # the page says it


def test_the_title_names_picture_class_and_method():
    one = words_of(drawn(("danet",), cam="LayerCAM"))
    answer = CLASSES[column("danet").inspection.target]
    assert one.startswith("How DANet looks at this picture LayerCAM for its own answer, " + answer)
    two = words_of(drawn(("plain", "se"), at(scale="shared"), target="ship"))
    assert two.startswith("How two networks look at this picture Grad-CAM for ship · block layer3.1")
    assert "this picture EigenCAM · block layer3.1" in words_of(drawn(("se",), cam="EigenCAM"))


def test_a_pdf_has_truetype_fonts_and_nothing_personal(tmp_path):
    before = dict(matplotlib.rcParams)
    save(drawn(("se", "plain")), tmp_path / "figure.pdf")
    content = (tmp_path / "figure.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"/FontFile2" in content and b"/CIDFontType2" in content and b"/Type3" not in content
    assert re.search(rb"/(CreationDate|Author|Title|Producer)", content) is None
    assert dict(matplotlib.rcParams) == before | {"pdf.fonttype": 42}


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_threads_draw_the_same_bytes(tmp_path, form):
    def write(number):
        file = tmp_path / f"{number}.{form}"
        save(drawn(("danet",) if number % 2 else ("se",)), file)
        return file.read_bytes()

    expected = [write(0), write(1)]
    assert expected[0] != expected[1]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(write, (2, 3))) == expected


def test_nothing_stays(tmp_path):
    made = drawn(("se", "plain"))
    save(made, tmp_path / "figure.png")
    left = weakref.ref(made)
    del made
    gc.collect()
    assert left() is None
    assert not Gcf.figs  # pyplot's open figures


def test_words_are_those_of_the_page():
    made = drawn(("acblock", "sk"))
    said = words_of(made)
    for branch in WORDS["branches"]["acblock"]:
        axes_of(made, f"acblock/layer3.1.conv1.views {branch}")
    assert f"from below: {WORDS['branches']['sk'][-1]}" in said
    assert WORDS["scale_texts"]["fixed"] in said
    titles = [entry["title"] for entry in WORDS["sections"] if {"views", "branch"} & {*entry["kinds"]}]
    assert len(titles) == 2 and all(title in said for title in titles)


def test_shares_keep_their_order():
    """Each of OCR's regions sums to one over the picture, so that none is the strongest."""
    section = {row.section.kind: row for row in panels([column("ocr")], at())}["maps"]
    regions, *_ = (panel for panel in section.cells["ocr"] if panel.tensor.endswith(".regions"))
    assert [name for name, _ in tiles(regions)] == [f"map {i}" for i in range(1, 11)]
