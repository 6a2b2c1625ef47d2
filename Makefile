# make demo: make a clip of known truth, track it and measure.   make test: lint, types, tests.   make docs: the site.
# make bench: every measurement, or one of them: make bench RUN="benchmark_association --people 100".
# All set up what is missing. PyTorch for the CPU alone, where an index has it: make TORCH_INDEX=URL demo.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: demo test check docs bench clean

demo: $(VENV)/.ready
	@$(BIN)/reid-tracker demo

test: check $(VENV)/.browser
	@# Two at a time: a third of the tests wait for processes, cameras and browsers of their own.
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy training

# NO_MKDOCS_2_WARNING: an advertisement, not a warning.
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/docs/index.html"

bench: $(VENV)/.ready
	@$(BIN)/python scripts/run.py $(RUN)

# OpenCV needs libGL and GLib from the system; they are installed only where it cannot be imported without.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ $(ROOT) apt-get update -q && $(ROOT) apt-get install -qy python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/python -m pip install --quiet --editable '.[dev,export,live,ray]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || \
		{ $(ROOT) apt-get update -q && $(ROOT) apt-get install -qy libgl1 libglib2.0-0; }
	@$(BIN)/python -c 'import cv2'
	@touch $@

# What the tests of live streams and of the page drive; where there is no apt-get they are skipped.
SERVERS := gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good
$(VENV)/.browser: $(VENV)/.ready
	@{ command -v chromedriver && command -v chromium && \
		/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")'; } >/dev/null 2>&1 || \
		! command -v apt-get >/dev/null || { $(ROOT) apt-get update -q && \
		$(ROOT) apt-get install -qy --no-install-recommends chromium chromium-driver $(SERVERS); }
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
