# Short names for the README's commands. The two MALLOC settings keep the memory of a long-running server flat; one
# thread for each network is right where two visitors are served at once on two cores.
export MALLOC_ARENA_MAX = 2
export MALLOC_MMAP_THRESHOLD_ = 262144
export OMP_NUM_THREADS ?= 1
PYTHON ?= python3

.PHONY: run test lint screenshots benchmark

run: .venv/app
	.venv/bin/python app.py

test: .venv/tests
	.venv/bin/python -m pytest

lint: .venv/tests
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

screenshots: .venv/tests
	.venv/bin/python -m tests.screenshots screenshots
	cp screenshots/desktop_whole.png visualize/page/screenshot.png

benchmark: .venv/tests
	.venv/bin/python -m tests.benchmark

.venv/app: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -r requirements.txt
	touch $@

.venv/tests: .venv/app tests/requirements.txt
	.venv/bin/pip install -r tests/requirements.txt
	touch $@
