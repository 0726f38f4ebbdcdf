# One-word targets; CI (.ci/run) uses the same ones.
PYTHON ?= python

.PHONY: install test coverage resources triton-resources cuda-build lint types format bench gpu-check train clean

install:  ## the package in place with its test and developer tools
	$(PYTHON) -m pip install -e '.[test]' -r .ci/lint-requirements.txt

test:  ## every test
	$(PYTHON) -m pytest

coverage:  ## which lines of the CUDA kernels the op tests run in lockstep
	$(PYTHON) -m tests.native.coverage --reset
	$(PYTHON) -m pytest -q tests/ops -k lockstep
	$(PYTHON) -m tests.native.coverage

resources:  ## registers, shared memory and spills of the CUDA kernels, written to tests/native/resources.txt
	$(PYTHON) -m tests.native.resources

triton-resources:  ## the same of the Triton kernels, to tests/native/triton_resources.txt
	TRITON_INTERPRET=0 $(PYTHON) -m tests.native.triton_resources

cuda-build:  ## the package against a CUDA build of torch in an environment of its own; needs nvcc, but no GPU
	.ci/cuda-build

lint:  ## ruff and clang-format, changing nothing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	git ls-files -z '*.h' '*.cpp' '*.cu' '*.cuh' | xargs -0 -r clang-format --dry-run -Werror

types:  ## the type checker
	$(PYTHON) -m mypy

format:  ## let ruff and clang-format rewrite
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	git ls-files -z '*.h' '*.cpp' '*.cu' '*.cuh' | xargs -0 -r clang-format -i

bench:  ## the benchmarks, then benchmarks/results and the README's table; LENGTHS=store: sentence lengths of a text
	mkdir -p build
	$(PYTHON) -m pytest benchmarks/ --benchmark-only --benchmark-json=build/benchmarks.json $(LENGTHS:%=--lengths-from %)
	$(PYTHON) -m benchmarks.report build/benchmarks.json benchmarks/results/cpu

gpu-check:  ## on a machine with a GPU: build, check, time; benchmarks/results/gpu.json and gpu.md (8 minutes at most)
	$(PYTHON) -m benchmarks.gpu.check

train:  ## the built-in corpus, the README's command
	fastlm-train --model encoder --layers 6

clean:  ## build outputs
	rm -rf build dist *.egg-info fastlm/*.so fastlm/_build.json
