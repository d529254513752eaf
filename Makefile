# `make demo` and `make test` do everything from a bare checkout: they need make, Python 3.11 or newer with its venv
# module, and a package index. Set-up is kept in .venv and redone when pyproject.toml or requirements.lock changes.

VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check
SOURCES := src tests $(wildcard benchmarks examples)

# The first of these that is new enough; `make PYTHON=/path/to/python3.12 demo` overrides.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

# The lock constrains what an extra may bring, so that each command installs only what it needs, at exactly one version.
INSTALL      := $(PIP) install -qq --constraint requirements.lock
DEMO_EXTRAS  := local
TEST_EXTRAS  := local,serve,recursive,hf,embeddings,lab,dev
BUILD_NEEDS  := pip hatchling editables
# Held back: the version that machines without a GPU have a CPU-only wheel of; others bring gigabytes of CUDA libraries.
HELD         := torch==2.13.0

# Processes that run tests, a file at a time each; the real model that they open takes half a gigabyte in each.
WORKERS ?= 2

.PHONY: help demo test lint browser models lock clean
help:
	@echo "make demo   one question, answered at about 1, 5 and 20 seconds by a small model on this machine"
	@echo "make test   ruff, mypy and every test, with the coverage gate"
	@echo "make lint   ruff and mypy only"
	@echo "make lock   resolve the dependencies again and rewrite requirements.lock"
	@echo "make clean  remove .venv and all caches of this checkout; fetched models stay in the user's cache directory"

demo: $(VENV)/.demo-ready
	@$(PY) -m fathom.language.download qwen2.5-coder-0.5b
	@$(PY) examples/demo.py

test: lint models browser
	$(PY) -m pytest --cov --cov-report=term --numprocesses $(WORKERS) --dist loadfile

lint: $(VENV)/.test-ready
	$(PY) -m ruff check $(SOURCES)
	$(PY) -m ruff format --check $(SOURCES)
	$(PY) -m mypy

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		echo "The playground's tests need Chromium, which is not installed;" \
		"on Debian: apt-get install chromium; on Fedora: dnf install chromium"; exit 1; }

models: $(VENV)/.test-ready
	@$(PY) -m fathom.language.download qwen2.5-coder-0.5b smollm2-135m

$(PY):
	@test -n "$(PYTHON)" || { echo "Fathom needs Python 3.11 or newer and found none: install it, or say where it is with" \
		"make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "Fathom needs Python 3.11 or newer, and $(PYTHON) is not that"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks the venv module;" \
		"on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Creating $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.demo-ready: pyproject.toml requirements.lock | $(PY)
	@echo "Installing Fathom into $(VENV) ..."
	@$(INSTALL) $(BUILD_NEEDS)
	@$(INSTALL) --no-build-isolation --editable '.[$(DEMO_EXTRAS)]'
	@if [ "$$(uname)" = Linux ]; then $(PY) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || { \
		echo "llama.cpp needs the library libgomp.so.1, which is not installed;" \
		"on Debian and Ubuntu: apt-get install libgomp1; on Fedora: dnf install libgomp"; exit 1; }; fi
	@touch $@

$(VENV)/.test-ready: $(VENV)/.demo-ready
	@echo "Installing what the tests need ..."
	@$(INSTALL) --no-build-isolation --editable '.[$(TEST_EXTRAS)]'
	@touch $@

# Local version labels such as +cpu are dropped: which build of a version fits is for the machine's index to say.
define LOCK
import json, sys
found = {d["metadata"]["name"].lower(): d["metadata"]["version"].split("+")[0] for d in json.load(sys.stdin)["install"]}
found.pop("fathom-inference")
print("# Exact versions of all that `make demo` and `make test` install, used as pip constraints. Resolved on Linux with")
print(f"# Python {sys.version_info.major}.{sys.version_info.minor}. Rewrite with: make lock")
print("\n".join(f"{name}=={version}" for name, version in sorted(found.items())))
endef
export LOCK
lock: | $(PY)
	@$(PIP) install -qq 'pip>=25.1'
	@$(PIP) install -qq --dry-run --ignore-installed --report $(VENV)/lock.json \
		$(BUILD_NEEDS) '$(HELD)' --editable '.[$(TEST_EXTRAS)]'
	@$(PY) -c "$$LOCK" < $(VENV)/lock.json > requirements.lock

clean:
	rm -rf $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
