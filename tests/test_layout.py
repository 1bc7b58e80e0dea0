"""The rooms of the house: imports go down, nothing goes round in a circle, no room is too full to survey."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = (  # from the ground up: a file imports from its own room and from those before it
    "models.preprocessing",
    "models",
    "models.attention",
    "models.modules",
    "models.results",
    "models.train",
    "models.__main__",
    "visualize.picture",
    "visualize.inspection",
    "visualize.record",
    "visualize.texts",
    "visualize.export",
    "visualize",
    "visualize.site",
    "app",
)
CATALOGUES = ("models/attention", "models/modules")  # a file for each mechanism
MOST = 12  # files in any other folder


def modules() -> dict[str, Path]:
    """Dotted name -> file, of the whole product."""
    files = [ROOT / "app.py", *(ROOT / "models").rglob("*.py"), *(ROOT / "visualize").rglob("*.py")]
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    return {name.removesuffix(".__init__"): file for file, name in names.items()}


MODULES = modules()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[str]:
    """The modules of ours that a module imports, anywhere in its text."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
            found = [each if each in MODULES else base for each in found]
        else:
            continue
        yield from (each for each in found if each in MODULES and each != name)


def room(name: str) -> int:
    """The index of the room with the longest name that the module's begins with."""
    inside = [at for at in ROOMS if f"{name}.".startswith(f"{at}.")]
    return ROOMS.index(max(inside, key=len))


def test_nothing_goes_round_in_a_circle():
    graph = {name: set(imports(name)) for name in MODULES}
    assert sum(map(len, graph.values())) > 150  # the imports were found
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_imports_go_down():
    upwards = [
        f"{name} imports {other}" for name in MODULES for other in imports(name) if room(other) > room(name)
    ]
    assert not upwards


def test_the_tests_see_an_upward_import_and_a_circle(monkeypatch, tmp_path):
    low, high = tmp_path / "low.py", tmp_path / "high.py"
    low.write_text("def later():\n    from ..visualize.picture import load_image\n")
    high.write_text("from models.recording import record\n")
    monkeypatch.setitem(MODULES, "models.recording", low)
    monkeypatch.setitem(MODULES, "visualize.picture", high)
    assert list(imports("models.recording")) == ["visualize.picture"]
    with pytest.raises(AssertionError, match="models.recording imports visualize.picture"):
        test_imports_go_down()
    with pytest.raises(ValueError, match="cycle"):
        test_nothing_goes_round_in_a_circle()


def test_no_folder_is_too_full_to_survey():
    folders = {path.parent for path in MODULES.values()} | {
        ROOT / "visualize" / "page",
        ROOT / "visualize" / "page" / "maps",
        ROOT / "visualize" / "page" / "lab",
        ROOT / "visualize" / "page" / "browser",
    }
    for folder in folders:
        place = folder.relative_to(ROOT).as_posix()
        files = [file for file in folder.iterdir() if file.is_file() and file.name != "__init__.py"]
        if place not in (".", *CATALOGUES):
            assert len(files) <= MOST, f"{place}: {sorted(file.name for file in files)}"
