"""Texts with formulas as HTML: those of all mechanisms."""

import re
from xml.etree import ElementTree

import pytest

from models import CATALOGUE
from visualize.texts.cards import card, measured
from visualize.texts.markup import to_html

MATH = "{http://www.w3.org/1998/Math/MathML}"


def formulas(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<math.*?</math>", html, re.DOTALL)]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_formula_becomes_mathml_without_a_rest_of_latex(name: str):
    text = card(name)
    html = to_html(text)
    found = formulas(html)
    lines = sum(formula.count(r"\\") + 1 for formula in re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL))
    in_text = len(re.findall(r"(?<!\$)\$[^$]+\$(?!\$)", text))
    if r"\begin" not in text:
        assert len(found) == lines + in_text
    assert found and all("".join(formula.itertext()).strip() for formula in found)
    for formula in found:
        assert "\\" not in "".join(formula.itertext()), ElementTree.tostring(formula, encoding="unicode")
        assert formula.find(f".//{MATH}merror") is None
    assert "$" not in re.sub(r"<code>.*?</code>", "", html) and "<script" not in html


def test_fraction_and_root_have_their_parts():
    (formula,) = formulas(to_html(r"$$\frac{a}{\sqrt{d}}$$"))
    above, below = formula.find(f".//{MATH}mfrac")
    assert "".join(above.itertext()) == "a" and below.find(f".//{MATH}msqrt") is not None


def test_html_in_a_text_is_shown_not_used():
    assert to_html("<script>x</script>") == "<p>&lt;script&gt;x&lt;/script&gt;</p>\n"


def test_figures_are_a_table():
    assert "<table>" in to_html(measured("se")) and "<th" in to_html(measured("se"))
