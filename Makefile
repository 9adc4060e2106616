# `make demo` and `make test` start from nothing but Python 3.11 and a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build/plugin
INSTALLED := $(VENV)/.installed
JOBS ?= $(shell nproc)

.PHONY: demo demo-protein test test-python test-cpp test-long sanitize benchmark-overhead benchmark-local-energy wheels test-wheel release-check docs lint format clean

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py --out demo --force

demo-protein: $(INSTALLED)
	$(BIN)/python examples/protein_sidechains.py --out protein --force

test: lint test-cpp test-python

# The plugin's own build requirements are installed first, because it must be built against the very torch and
# openmm it will run with; torch first, so that nothing else picks a larger build of it. What comes last is built as its
# makers say, in isolation: some of it is there as source alone.
# Of CUDA and of OpenMM's CUDA platform only what the library is compiled and linked with, and the compiler of the
# device kernels, for a test; that needs no GPU.
$(INSTALLED): pyproject.toml CMakeLists.txt $(shell find cpp kernels -type f)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet "openmm>=8.6,<8.7" scikit-build-core pybind11 nlohmann-json cmake ninja
	$(BIN)/pip install --quiet --no-deps "openmm-cuda-13>=8.6,<8.7" "nvidia-cuda-runtime>=13,<14" "nvidia-cuda-crt>=13,<14" \
		"nvidia-cuda-nvrtc>=13,<14"
	CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	$(BIN)/pip install --quiet "timewarp-openmm[dev]"
	touch $@

# The folder in which the install above has built the plugin; only the tests are added.
test-cpp: $(INSTALLED)
	$(BIN)/cmake $(BUILD) -DTIMEWARP_BUILD_TESTS=ON
	$(BIN)/cmake --build $(BUILD) --parallel $(JOBS)
	$(BIN)/ctest --test-dir $(BUILD) --output-on-failure --parallel $(JOBS)

test-python: $(INSTALLED)
	$(BIN)/python -m pytest -m "not long" --numprocesses $(JOBS) --dist loadfile \
		--no-loadscope-reorder

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long

# The sdist, and a wheel for each Python found here, in dist/; of what is installed for it in build/wheels, torch is the most.
wheels: $(INSTALLED)
	$(BIN)/python packaging/build_wheels.py

release-check: $(INSTALLED)
	$(BIN)/python packaging/release_check.py

# That of this Python, in an environment without anything else.
test-wheel:
	$(PYTHON) packaging/wheel_smoke.py

# AddressSanitizer and UndefinedBehaviorSanitizer over the C++ tests, in a build folder of its own.
sanitize: $(INSTALLED)
	$(BIN)/cmake -S . -B build/sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
		-DPython_EXECUTABLE=$(abspath $(BIN))/python -DTIMEWARP_BUILD_TESTS=ON -DTIMEWARP_SANITIZE=ON
	$(BIN)/cmake --build build/sanitize --parallel $(JOBS)
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

benchmark-overhead: $(INSTALLED)
	$(BIN)/cmake $(BUILD) -DTIMEWARP_BUILD_BENCHMARKS=ON
	$(BIN)/cmake --build $(BUILD) --parallel $(JOBS)
	$(BIN)/python benchmarks/chain_overhead.py $(BUILD)
	for precision in single mixed double; do \
		$(BIN)/python benchmarks/chain_overhead.py $(BUILD) --platform OpenCL --precision $$precision \
			--iterations 500 || exit 1; \
	done

# In a box of some 2,300 particles.
benchmark-local-energy: $(INSTALLED)
	$(BIN)/cmake $(BUILD) -DTIMEWARP_BUILD_BENCHMARKS=ON
	$(BIN)/cmake --build $(BUILD) --parallel $(JOBS) --target local_energy TimewarpOpenMMReference
	$(BUILD)/local_energy tests/data 2.8 $(VENV)/lib/python3*/site-packages/OpenMM.libs/lib/plugins/libOpenMMCPU.so \
		$(BUILD)/libTimewarpOpenMMReference.so

docs: $(INSTALLED)
	$(BIN)/zensical build --strict

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file benchmarks/mypy.ini benchmarks
	$(BIN)/clang-format --dry-run --Werror $(shell find cpp tests/cpp benchmarks -name '*.h' -o -name '*.cpp')

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(shell find cpp tests/cpp benchmarks -name '*.h' -o -name '*.cpp')

clean:
	rm -rf build dist demo $(VENV)
