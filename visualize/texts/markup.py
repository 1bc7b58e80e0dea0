"""Markdown with formulas as HTML, whose formulas are MathML: what the page says of a mechanism."""

from functools import lru_cache

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin


def mathml(formula: str, options: dict) -> str:
    """A formula of LaTeX; `options["display_mode"]` says whether it stands in a line of its own."""
    return convert(formula, display="block" if options["display_mode"] else "inline")


_markdown = MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, renderer=mathml)


@lru_cache(maxsize=256)
def to_html(markdown: str) -> str:
    """HTML of a text with formulas between `$` or `$$`; HTML in the text is shown, not used."""
    return _markdown.render(markdown)
