# The commands of the README. Each first makes .venv, if it is missing or older than the requirements.
.PHONY: book test lab refresh runs bench fork student-edition check-submissions

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

LAB := book/_static/lab/built/lab.json

book: $(READY) $(LAB)  ## build the book
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo "The book is ready. Open: $(CURDIR)/_build/html/index.html"

test: book  ## build the book, run all tests, and every notebook against its stored outputs
	TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab book

refresh: $(READY)  ## run the notebooks again, or CHAPTER=name, and store what they print
	$(BIN)/python tools/refresh.py $(CHAPTER)

runs: $(READY)  ## train again what the book shows as recorded runs; stopped, it goes on where it was
	$(BIN)/python tools/record.py $(or $(EXPERIMENTS),recipe tried ladder degradation networks budgets)

bench: $(READY)  ## measure speed and memory beside d2l and torchvision; write what the book shows
	$(BIN)/python benchmarks/run.py

fork: $(READY)  ## point set-up cells and instructions at URL=https://github.com/owner/name
	$(BIN)/python tools/fork.py "$(URL)"

student-edition: $(READY)  ## write the chapters without solutions and outputs to DIR
	$(BIN)/python tools/student_edition.py "$(or $(DIR),student-edition)"

check-submissions: $(READY)  ## check the exercises in the notebooks of DIR, and write a table there
	$(BIN)/python tools/check_submissions.py "$(DIR)" $(if $(LIMIT),--limit $(LIMIT))

$(LAB): $(READY) tools/lab.py tools/package-lock.json d2lnets/export.py $(wildcard d2lnets/weights/*)
	TQDM_DISABLE=$(CI) $(BIN)/python tools/lab.py

$(READY): requirements.txt requirements-d2l.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version + ". Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-d2l.txt
	@touch $@
