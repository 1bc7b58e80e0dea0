# Short names for the README's commands.
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
