"""What the README, the requirements and the continuous integration promise each other."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_grad_cam.utils.image import scale_cam_image
from rows import channel
from rows.row import check_parameters, check_records

import models
import visualize
from models import catalogue
from models.catalogue import FAMILIES
from models.recording import recording
from models.resnet import ResNet18
from models.results import evidence, table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """The one-line commands of the README that start by making the environment."""
    return re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)


def test_the_readme_has_one_command_to_run_and_one_to_test():
    run, test = commands()
    assert run.endswith("python app.py") and test.endswith("python -m pytest -n 2 --dist loadfile")


def test_ci_runs_the_readmes_test_command():
    assert commands()[1] in (ROOT / ".ci" / "run").read_text().split("\n")


def locked(name: str) -> dict[str, str]:
    """The lines of a lock, by package; one that depends on the version of Python has several."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / ".lock" / f"{name}.txt").read_text()):
        if not entry.startswith("#"):
            key = entry.split("==")[0]
            found[key] = found.get(key, "") + entry + "\n"
    return found


@pytest.mark.parametrize(
    "name, lists",
    [
        ("run", ["requirements.txt"]),
        ("site", ["requirements.txt", "visualize/site/requirements.txt"]),
        ("tests", ["requirements.txt", "visualize/site/requirements.txt", "tests/requirements.txt"]),
    ],
)
def test_the_lock_holds_what_the_short_lists_ask_for(name, lists):
    lock = locked(name)
    for line in "".join((ROOT / file).read_text() for file in lists).split():
        package, version = line.split("==")
        assert re.match(rf"{package}=={version}( ;.*)? \\\n", lock.get(package, "")), (
            f"{line}: run `make lock`"
        )
    assert README.count(f"--require-hashes -r .lock/{name}.txt") == 1


@pytest.mark.parametrize("name", ["run", "site", "tests"])
def test_every_locked_package_has_its_sums_and_no_address(name):
    lines = [line for entry in locked(name).values() for line in entry.strip().split("\n")]
    for line in lines:  # no index, no address, no file: what the reader's pip is set to
        assert re.fullmatch(
            r"[a-z0-9.-]+==[\w.]+( ; [\w\s.'<>=!()]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line
        ), line
    for entry in locked(name).values():
        for one in re.findall(r"^\S.*\n(?:    .*\n?)*", entry, re.MULTILINE):
            assert "--hash=sha256:" in one


def test_what_runs_is_what_is_tested():
    run, site, tests = locked("run"), locked("site"), locked("tests")
    assert run.items() <= site.items() <= tests.items() and len(tests) > len(site) > len(run) > 80


def test_the_lock_of_npm_pins_everything_and_names_no_host():
    lock = json.loads((ROOT / "visualize" / "site" / "package-lock.json").read_text())
    packages = {place: entry for place, entry in lock["packages"].items() if place}
    wanted = json.loads((ROOT / "visualize" / "site" / "package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "resolved" not in json.dumps(lock) and "http" not in json.dumps(lock)


def test_the_readmes_table_is_what_the_command_prints():
    written = re.search(r"<!-- table -->\n(.*?)\n<!-- /table -->", README, re.DOTALL)
    assert written and written[1] == table.markdown(), (
        "run `python -m models.results.table --write README.md`"
    )


def test_what_the_test_images_cannot_tell_is_said_as_it_is():
    """From how often two networks are not right together: for one pair, and for all pairs of the table."""
    pairs = re.findall(r"no measurable difference \(\+(\d+) -(\d+)\)", README)
    apart = np.median([int(more) + int(fewer) for more, fewer in pairs]) ** 0.5 / 100  # points
    count = int(re.search(r"Holm's correction for the (\d+) comparisons of this table", README)[1])
    one, all_of_them = (NormalDist().inv_cdf(1 - 0.025 / tries) * apart for tries in (1, count))
    assert f"Below about {one:.1f} points" in README and f"below about {all_of_them:.1f} not after" in README
    guide = (ROOT / "visualize" / "texts" / "reading" / "en.md").read_text().replace("\n", " ")
    assert f"below about {one:.1f} points these test images cannot tell" in guide
    assert f"below about {all_of_them:.1f} not once" in guide
    for file in (ROOT / "visualize" / "texts" / "reading").glob("*.md"):
        assert re.findall(r"0\.[4-9](?= )", file.read_text().split("**")[-1]) == [
            f"{one:.1f}",
            f"{all_of_them:.1f}",
        ]


def test_the_readmes_evidence_is_what_the_command_prints():
    written = re.search(r"<!-- evidence -->\n(.*?)\n<!-- /evidence -->", README, re.DOTALL)
    assert written and written[1] == evidence.markdown(), (
        "run `python -m models.results.evidence --write README.md`"
    )
    (said,) = re.findall(r"[^.]*they cannot be asked\.", README)
    networks = {models.CATALOGUE[f["name"]].title.removesuffix(" ResNet18"): f for f in table.trained()}
    longest_first = sorted(map(re.escape, networks), key=len, reverse=True)
    named = set(re.findall("|".join(longest_first), said))
    unasked = {title for title, facts in networks.items() if "evidence" not in facts}
    assert named == unasked, "begin with `python -m models.results.evidence NAME`, or name what has no gates"


def test_the_space_uses_the_pinned_gradio():
    pinned = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert re.search(r"^sdk_version: (.*)$", README, re.MULTILINE)[1] == pinned["gradio"]


@pytest.mark.parametrize("line", [line for line in README.split("\n") if "](visualize" in line])
def test_pictures_of_the_readme_exist(line):
    assert (ROOT / re.search(r"\]\((.*?)\)", line)[1]).is_file()


def test_the_readmes_example_of_a_mechanism_works(monkeypatch):
    code = re.search(r"```python\n(import torch\n.*?@mechanism.*?)```", README, re.DOTALL)[1]
    assert code.count("\n") < 40
    monkeypatch.setattr(catalogue, "_entries", {})
    exec(code, {"__name__": "models.attention.contrast", "__package__": "models.attention"})
    (line,) = re.findall(r"^ +(\"contrast\": Row\(.*\)),$", README, re.MULTILINE)
    row = eval(f"{{{line}}}", vars(channel))["contrast"]  # as in that file
    entry = catalogue._entries["contrast"]
    network = ResNet18(entry=entry).eval()
    check_parameters(row, entry, network)
    check_records(row, network)
    with torch.inference_mode(), recording(network) as records:
        network(torch.randn(2, 3, 32, 32))
    assert records["layer4.1.refine.gate"].tensor.std() > 0


def test_the_readmes_lines_for_the_package_grad_cam_give_our_map():
    code = re.search(r"```python\n(import numpy, torch\nfrom pytorch_grad_cam.*?)```", README, re.DOTALL)[1]
    picture = Image.open(ROOT / "visualize" / "page" / "examples" / "cat.png").convert("RGB")
    model = models.load("se")
    seen = visualize.inspect(model, picture)
    space = {"models": models, "model": model, "picture": picture, "seen": seen}
    exec(code, space)
    ours = scale_cam_image([cv2.resize(seen.cams["layer4.1"], (32, 32))])[0]  # enlarged as the package does
    assert np.abs(space["heat"] - ours).max() < 1e-4 and space["heat"].std() > 0.05
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.slow
def test_models_need_no_web_page():
    """`models` imports neither matplotlib nor gradio, nor does what inspects, and `visualize` no gradio.

    Nor what takes a second each to import, and the first screen does without.
    """
    code = """
import sys, models, models.train.run, models.train.sweep, visualize
from models.metadata import mechanisms_table
from visualize.inspection.untrained import example_picture
late = {"matplotlib.pyplot", "gradio", "pytorch_grad_cam", "torchvision", "torch._dynamo"}
mechanisms_table()
visualize.inspect(models.load("non_local"), example_picture("cat"))
assert not late & set(sys.modules), late & set(sys.modules)
import visualize.record.compare, visualize.export.files
assert "gradio" not in sys.modules, "visualize"
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_table_has_a_row_per_measured_network(tmp_path):
    assert table.markdown(tmp_path).count("\n") == 1  # the header alone
    text = "a\n<!-- table -->\nold\n<!-- /table -->\nb"
    assert table.write_into(text, "new") == "a\n<!-- table -->\nnew\n<!-- /table -->\nb"
    with pytest.raises(ValueError, match="missing"):
        table.write_into("no marks", "new")


def test_tracked_files_are_small():
    """No data set and no resume file in git: nothing above an int8 checkpoint's 12 MB."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert all(file.stat().st_size < 12.5e6 for file in files if file.exists())


def test_the_order_does_not_depend_on_who_is_imported_first():
    """Tables and lists are in it."""
    code = "import models.attention.ulsam, models, json; print(json.dumps([*models.CATALOGUE]))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(said.stdout) == [*models.CATALOGUE]
    files = {family: [] for family in FAMILIES}
    for entry in list(models.CATALOGUE.values())[1:]:
        files[entry.family].append(entry.source)
    assert all(found == sorted(found) for found in files.values())


@pytest.mark.parametrize("command", ["table", "evidence"])
def test_the_tables_are_printed_whatever_the_code_page(command: str):
    """On Windows, where output goes into a file; θ⁻ is in no code page of Europe's."""
    words = [
        sys.executable,
        "-m",
        f"models.results.{command}",
        *(["--table"] if command == "evidence" else []),
    ]
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    said = subprocess.run(words, capture_output=True, cwd=ROOT, env=env, check=True).stdout.decode("utf-8")
    assert "| Efficient Channel Attention |" in said and (command == "evidence" or "θ⁻" in said)
