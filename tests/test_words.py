"""The page's words in other languages: they are of what the page says, and lose nothing of what changes."""

import ast
import json
import re
from itertools import takewhile
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from models import CATALOGUE, CLASSES
from models.catalogue import BLOCKS
from models.replacements import REPLACEMENTS
from visualize.record.display import description
from visualize.texts.cards import FAMILIES, PLACES, ROWS

ROOT = Path(__file__).parents[1]
LANGUAGES = sorted(ROOT.glob("visualize/page/language/words.*.json"))
HOLE = re.compile(r"\{#?(\d)\}")


@pytest.fixture(params=LANGUAGES, ids=lambda file: file.name)
def words(request: pytest.FixtureRequest) -> dict[str, str]:
    return json.loads(request.param.read_text("utf-8"))


def sources() -> str:
    """All that the page's words are made of, with pieces of a string that stand on several lines joined."""
    files = [
        file for kind in ("js", "html", "py", "json", "md") for file in ROOT.glob(f"visualize/**/*.{kind}")
    ]
    files += [file for folder in (".", "results", "train") for file in ROOT.glob(f"models/{folder}/*.py")]
    text = "\n".join(file.read_text("utf-8") for file in files if file not in LANGUAGES)
    text = re.sub(r'"\s*(?:\+ )?f?["`]', "", text) + " ".join(entry.title for entry in CATALOGUE.values())
    return plain(text)


def plain(text: str) -> str:
    """A text as its words alone."""
    return " ".join(re.sub(r"[.:;,()\"`]", " ", text).lower().split())


def test_what_changes_is_in_both(words: dict[str, str]):
    for english, other in words.items():
        assert sorted(HOLE.findall(english)) == sorted(HOLE.findall(other)), english


def chunks(text: str, said: str) -> int:
    """From how few pieces of what is said a text can be put together, each as long as it can be."""
    words, count = plain(text).split(), 0
    while words:
        fits = [*takewhile(lambda n: " ".join(words[:n]) in said, range(1, len(words) + 1))]  # noqa: B023
        words, count = words[len(fits) or 1 :], count + (1 if fits else len(text))
    return count


def test_the_page_says_what_is_translated(words: dict[str, str]):
    said = sources()
    assert not [english for english in words if max(chunks(p, said) for p in HOLE.split(english)[::2]) > 3]


def test_what_is_chosen_and_named_is_translated(words: dict[str, str]):
    shown = description()
    said = [
        text
        for section in shown["sections"]
        for text in (section["tab"], section["absent"], section["means"])
    ]
    said += [*CLASSES, *FAMILIES.values(), *ROWS, *REPLACEMENTS, *REPLACEMENTS.values()]
    said += [name for choices in shown["choices"].values() for name in choices.values()]
    said += [part for place in PLACES.values() for part in place.split(", ") if part]
    names = {"Grad-CAM", "Parameters", "Trained"} - {*words}  # what is the same in every language
    assert {*said} - {*words} - names == set()


REFUSALS = ("ImageError", "NotFiniteError", "ReplacementError", "FullError")  # what a visitor can come upon


def refusals() -> set[str]:
    """What the server says where it cannot do what was asked, with 7 in the place of what changes."""

    def text(node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(str(one.value) if isinstance(one, ast.Constant) else "7" for one in node.values)
        return node.value if isinstance(node, ast.Constant) else ""

    trees = [ast.parse(file.read_text("utf-8")) for file in ROOT.glob("visualize/**/*.py")]
    calls = [one for tree in trees for one in ast.walk(tree) if isinstance(one, ast.Call) and one.args]
    said = {text(one.args[0]) for one in calls if getattr(one.func, "id", "") in REFUSALS}
    return {text for text in said if text.endswith(".") and len(text) > len("This is 7.")}


def test_what_the_server_refuses_is_translated(words: dict[str, str]):
    known = [re.compile(".+?".join(map(re.escape, HOLE.split(english)[::2]))) for english in words]
    assert len(refusals()) > 20
    assert [text for text in refusals() if not any(one.fullmatch(text) for one in known)] == []


def test_the_links_of_the_guide_lead_somewhere_in_both_languages():
    found = {}
    for file in ROOT.glob("visualize/texts/reading/*.md"):
        found[file.stem] = re.findall(r"\]\(#([^)]*)\)", file.read_text("utf-8"))
    assert len(found["en"]) > 5 and found["zh"] == found["en"]
    for link in found["en"]:
        said = dict(parse_qsl(link, keep_blank_values=True))
        assert said.pop("view") == "2" and said.pop("end") == "" and said.pop("picture") in CLASSES
        assert {*said.pop("networks").split(",")} <= {*CATALOGUE}
        assert said.pop("block", "layer2.1") in BLOCKS and said.pop("replace", "average") in REPLACEMENTS
        assert not said
