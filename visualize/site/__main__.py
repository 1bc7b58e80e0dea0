"""The static edition of the page: python -m visualize.site OUT [NAME...]

Makes the folder OUT, which any static host can give out: python -m http.server --directory OUT
With names, only these networks can be computed in the browser; else all that are trained.
Needs npm and the packages of .lock/site.txt, for this command alone.
"""

import signal
import sys
from pathlib import Path

from tqdm import tqdm

from ..server import kept


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    try:
        with kept():  # the exporter makes many small objects: each search would go through these, too
            from .build import BuildError, build, steps
    except ModuleNotFoundError as error:
        print(f"The package {error.name} is missing: pip install --require-hashes -r .lock/site.txt")
        return 1
    out, names = Path(sys.argv[1]), sys.argv[2:] or None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # which leaves nothing half made
    try:
        with tqdm(total=steps(), unit="part", leave=False) as bar:
            failed = build(out, names, lambda done: (bar.set_postfix_str(done), bar.update()))
    except BuildError as error:
        print(error)
        return 1
    for reason in failed.values():
        print(reason)
    print(f"The page is in {out}: python -m http.server --directory {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
