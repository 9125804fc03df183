# Two commands on a fresh machine: `make demo` and `make test`. Both make their own .venv from pinned versions.
PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
LOCKED := .venv-locked
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: demo test test-lowest soak wheel lint install-locked lock clean

demo: $(VENV)/.runtime
	$(VENV)/bin/tomoscreen demo --out demo

test: $(VENV)/.development
	@# tests of one file share what they make, so they stay on one core
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

LOWEST_TESTS := tests/plates/test_layout.py tests/plates/test_layout_workbook.py tests/plates/test_results.py \
	tests/plates/test_store.py tests/plates/test_tcf.py tests/plates/test_ome_tiff.py tests/plates/test_stitching.py \
	tests/models/test_classifier.py tests/models/test_export.py tests/reports/test_figures.py \
	tests/reports/test_plate.py tests/reports/test_exports.py tests/screening/test_cli.py \
	tests/screening/test_cluster.py tests/screening/test_settings.py

test-lowest: $(LOWEST)/.installed
	@# what old packages say of newer ones is no fault; pandas 2 reads the last digit of a number differently
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile \
		-W ignore::DeprecationWarning -W ignore::FutureWarning \
		--deselect tests/reports/test_plate.py::test_the_files_beside_the_page_hold_the_exact_values $(LOWEST_TESTS)

$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints-lowest.txt \
		--editable '.[s3,tiff,parquet,export]' \
		hypothesis packaging pytest pytest-timeout pytest-xdist scikit-learn tifffile
	touch $@

soak: $(VENV)/.development
	$(VENV)/bin/python -m tests.benchmarks.header_fuzz 2000
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.benchmarks.soak --wells 384 --timepoints 24
	TOMOSCREEN_MACHINE_EXAMPLES=200 $(VENV)/bin/python -m pytest -q tests/faults/test_run_store_machine.py

wheel: $(VENV)/.development
	@# the packages of the development environment, but of tomoscreen only what the wheel holds
	rm -rf build/wheel
	$(PIP) wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv --without-pip build/wheel/venv
	$(PIP) --python build/wheel/venv/bin/python install --quiet --no-deps build/wheel/tomoscreen-*.whl
	echo "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" > \
		"$$(build/wheel/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	cd build/wheel/venv && bin/python -I -c 'import sys, plates, models, reports, screening; \
		sys.exit(not all(m.__file__.startswith(sys.prefix) for m in (plates, models, reports, screening)))'
	cd build/wheel/venv && bin/python -I -m screening --help > /dev/null

lint: $(VENV)/.development
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@# napari's reader of our plates, without the viewer that it would bring
	$(PIP) install --quiet --no-deps napari==0.9.2 napari-ome-zarr==0.10.0 app-model==0.5.1 cachey==0.2.1 \
		HeapDict==1.0.1 in-n-out==0.2.1 hsluv==5.0.5 psygnal==0.16.1 tqdm==4.70.1 vispy==0.17.0
	touch $@

install-locked:
	@# each file is compared with its hash before anything of it runs; nothing is compiled: that would fetch unchecked tools
	rm -rf $(LOCKED)
	$(PYTHON) -m venv $(LOCKED)
	$(LOCKED)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --only-binary :all: \
		--requirement requirements.lock
	$(LOCKED)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-index --no-build-isolation .
	$(LOCKED)/bin/tomoscreen --help > /dev/null

lock: $(VENV)/.development
	$(PIP) install --quiet uv==0.13.9
	echo hatchling | $(VENV)/bin/uv pip compile pyproject.toml - --constraint constraints.txt --universal \
		--generate-hashes --python-version 3.11 --no-header --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) $(LOWEST) $(LOCKED) demo
