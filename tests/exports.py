"""Which networks a browser can compute: python -m tests.exports [NAME...]

Takes networks with random parameters (by default all that have no checkpoint), makes their graphs, shows one
picture to them in Chromium and in PyTorch, and prints a table: how far the records are apart, in parts of a
map's range; the eight CAMs, which may be far apart where a value next to zero falls on the other side of a
ReLU; how large the graph is; or why there is none. A graph takes some ten seconds.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

from models.checkpoint import CHECKPOINTS, restore_with_facts, save
from models.metadata import networks
from tests.health import linked_tree
from tests.networks import randomised
from tests.screenshots import AT_REST, launched
from tests.static import given_out
from tests.test_site import differences, look, moved
from visualize.answers import START
from visualize.inspection.network import inspect


def start_of(page: str) -> dict:
    """What a page of the static edition starts with."""
    text = page.partition(START)[2].partition("</script>")[0]
    return json.loads(text)


def main() -> None:
    shipped = {file.stem for file in CHECKPOINTS.glob("*.json")}
    names = sys.argv[1:] or [name for name in networks() if name not in shipped]
    with tempfile.TemporaryDirectory() as scratch:
        tree, site = Path(scratch) / "tree", Path(scratch) / "site"
        tree.mkdir()
        checkpoints = linked_tree(tree)
        for name in names:
            save(randomised(name), name, {"name": name, "recipe": "random", "accuracy": 10.0}, checkpoints)
        subprocess.run([sys.executable, "-m", "visualize.site", site], cwd=tree, check=True)
        start = start_of((site / "index.html").read_text())
        graphs = json.loads((site / start["site"]["networks"]).read_text())["networks"]
        reasons = {row["key"]: row["reason"] for row in start["mechanisms"]}
        print("| network | records | CAMs | graph, kB | reason if not |")
        print("|---|---:|---:|---:|---|", flush=True)
        with sync_playwright() as playwright, launched(playwright) as browser, given_out(site) as address:
            page = browser.new_page()
            page.goto(address)
            page.wait_for_function(AT_REST)
            for name in names:
                if name not in graphs:
                    print(f"| {name} | | | | {reasons[name]} |", flush=True)
                    continue
                size = graphs[name]["graph"]["bytes"] / 1000
                try:
                    column = look(page, moved("cat"), (name,))[name]
                except (Error, AssertionError) as error:  # the engine fails, or says that it cannot
                    print(f"| {name} | | | {size:.0f} | {str(error).partition(chr(10))[0]} |", flush=True)
                    continue
                model, _ = restore_with_facts(name, checkpoints)
                apart, cams = differences(column, inspect(model, moved("cat")))
                print(f"| {name} | {apart:.1e} | {max(cams):.1e} | {size:.0f} | |", flush=True)


if __name__ == "__main__":
    main()
