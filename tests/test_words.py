"""The page's words in other languages: they are of what the page says, and lose nothing of what changes."""

import json
import re
from itertools import takewhile
from pathlib import Path

import pytest

from models import CATALOGUE, CLASSES
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
