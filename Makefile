# Short names for the README's commands.
export OMP_NUM_THREADS ?= 1
PYTHON ?= python3
LOCK = --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock"

.PHONY: run site test lint lock screenshots benchmark

run: .venv/app
	.venv/bin/python app.py

# The static edition, into the folder site/; `make site OUT=folder` for another one.
site: .venv/site
	.venv/bin/python -m visualize.site $(or $(OUT),site)

test: .venv/tests
	.venv/bin/python -m pytest -n 2 --dist loadfile

lint: .venv/tests
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

# After a change of the short lists: every package they bring along, with its version and the sums of its files, for
# each system and Python from 3.11 on. Versions that still fit stay. The second file holds the first, the third both.
lock: .venv/lock
	.venv/lock/bin/uv pip compile $(LOCK) requirements.txt -o .lock/run.txt
	.venv/lock/bin/uv pip compile $(LOCK) requirements.txt visualize/site/requirements.txt -c .lock/run.txt -o .lock/site.txt
	.venv/lock/bin/uv pip compile $(LOCK) requirements.txt visualize/site/requirements.txt tests/requirements.txt \
		-c .lock/site.txt -o .lock/tests.txt

screenshots: .venv/tests
	.venv/bin/python -m tests.screenshots screenshots
	cp screenshots/readme.png visualize/page/screenshot.png

benchmark: .venv/tests
	.venv/bin/python -m tests.benchmark

.venv/app: .lock/run.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --require-hashes -r .lock/run.txt
	touch $@

.venv/site: .venv/app .lock/site.txt
	.venv/bin/pip install --require-hashes -r .lock/site.txt
	touch $@

.venv/tests: .venv/app .lock/tests.txt
	.venv/bin/pip install --require-hashes -r .lock/tests.txt
	touch $@

.venv/lock:
	$(PYTHON) -m venv $@
	$@/bin/pip install uv==0.13.9
