"""Markdown with formulas as HTML, whose formulas are MathML: what the page says of a mechanism."""

import re
from functools import lru_cache

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin


def mathml(formula: str, options: dict) -> str:
    r"""A formula of LaTeX; `options["display_mode"]` says whether it stands in lines of its own.

    Browsers do not break lines in MathML, so that each line, up to `\\`, is a formula for itself.
    """
    formula = re.sub(r"(?<!\\)\\\s+", r"\\ ", formula)  # a space, which may be written at the end of a line
    if not options["display_mode"]:
        return convert(formula)
    lines = [formula] if r"\begin" in formula else formula.split(r"\\")
    found = "".join(convert(line.strip(), display="block") for line in lines)
    found = found.replace("<mo minsize", '<mo stretchy="true" minsize')  # \big, \Big
    return found.replace(' display="block"', ' display="block" style="margin: 0.45em 0"')


_markdown = MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, renderer=mathml)


@lru_cache(maxsize=256)
def to_html(markdown: str) -> str:
    """HTML of a text with formulas between `$` or `$$`; HTML in the text is shown, not used."""
    return _markdown.render(markdown)
