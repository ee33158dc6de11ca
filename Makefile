# Needs GNU make (3.81 or newer) and Python 3.11 to 3.13. `make` alone lists what there is.

.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/sh

# What the command line sets is text, also where make would call something: it expands what it exports. From here on its
# origin is "override".
$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),\
  $(eval override $(name) := $$(value $(name)))$(eval export $(name))))

# --- Set-up: .venv in the checkout, made once --------------------------------------------------------------------------
#
# .venv/.place holds the checkout's path while .venv is whole. It is removed before anything in .venv is changed and
# written last, so a set-up that was killed, a checkout that was moved and a .venv that something else made all look the
# same, and the next make starts over. A stamp beside it says which requirements are installed.

# With an NVIDIA driver, TensorFlow is installed with its CUDA libraries. CUDA=yes or CUDA= decides it by hand.
CUDA ?= $(if $(wildcard /proc/driver/nvidia/version),yes,$(shell nvidia-smi -L >/dev/null 2>&1 && echo yes))
CUDA := $(CUDA)

REQUIREMENTS := requirements$(if $(CUDA),-cuda).txt
READY := .venv/.ready$(if $(CUDA),-cuda)
READY_DEV := .venv/.ready-dev

quote = '$(subst ','\'',$(1))'

ifndef SETUP_PYTHON

# PYTHON is used as given. Without it, the first of these that is a Python which fits.
CANDIDATES := $(if $(PYTHON),$(call quote,$(PYTHON)),python3 python3.13 python3.12 python3.11)
find_python = $(shell for python in $(CANDIDATES); do "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && command -v "$$python" && break; done)
describe_python = $(shell for python in $(CANDIDATES); do "$$python" -c 'import sys; print("found Python %d.%d.%d at %s" % (sys.version_info[:3] + (sys.executable,)))' 2>/dev/null || echo "found no working Python at $$python"; break; done)
python = $(or $(find_python),$(error $(describe_python), but this needs Python 3.11 to 3.13: set PYTHON=/path/to/python3.12))

# One at a time: whoever waited finds the work done. The lock is on this file, because .venv itself may be replaced, and
# goes with the last process that holds it, so a kill leaves no stale one.
$(READY) $(READY_DEV):
	@python=$(call quote,$(python)); exec 9<>Makefile; \
	"$$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; \
	$(MAKE) -s --no-print-directory SETUP_PYTHON="$$python" $@ >&2

else

define install
@place=$$(cat .venv/.place 2>/dev/null); rm -f .venv/.place; \
[ "$$place" = "$$(pwd -P)" ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || { \
	echo 'Setting up .venv. The first time, this takes some minutes.'; \
	rm -rf .venv && "$$SETUP_PYTHON" -m venv .venv; }
@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $(1)
endef
define done
@pwd -P > .venv/.place && touch $@
endef

$(READY):
	$(call install,$(REQUIREMENTS))
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(done)

$(READY_DEV):
	$(call install,requirements-dev.txt)
	$(done)

endif

$(READY): $(REQUIREMENTS) pyproject.toml .venv/bin/python
$(READY_DEV): requirements-dev.txt $(READY)
.venv/bin/python: ;

ifneq ($(shell cat .venv/.place 2>/dev/null),$(CURDIR))
$(READY): FORCE
endif
FORCE:

# --- Commands: an upper-case variable is the flag of that name ----------------------------------------------------------

# TUNING_HOME and DATA_DIR reach every command through the environment; make exports what its command line sets.
# conda and some shells export HOST, hosting services PORT: only make's own command line may say where the dashboard
# listens, who may ask it, and whether studies are changed in it.
ifneq ($(origin HOST),override)
HOST :=
endif
ifneq ($(origin PORT),override)
PORT :=
endif
ifneq ($(origin ALLOW_HOST),override)
ALLOW_HOST :=
endif
ifneq ($(origin EDIT),override)
EDIT :=
endif
# Likewise whether the code in a bundle is run.
ifneq ($(origin RUN_CODE),override)
RUN_CODE :=
endif
unexport HOST PORT ALLOW_HOST EDIT

# Where artifacts and checkpoints are kept, of every command: what the shell exports under so plain a name is not meant.
ifeq ($(origin FILES),override)
export TUNING_FILES := $(value FILES)
endif

# Of a user's modules only those are found that hide none of Python's or the project's, see storage/processes/isolation.py.
ifneq ($(value PYTHONPATH),)
export TUNING_PYTHONPATH := $(value PYTHONPATH)
endif
unexport PYTHONPATH

# The value is taken raw and quoted, so spaces, quotes and dollar signs in it are its own.
quoted = $(call quote,$(value $(1)))
flag = $(if $(value $(2)),$(1)=$(call quoted,$(2)))
switch = $(if $(filter-out 0 no false,$(value $(2))),$(1))
# Said either way: FLIPS=1 or FLIPS=0.
either = $(if $(value $(3)),$(if $(filter-out 0 no false,$(value $(3))),$(1),$(2)))

# exec: a signal that make passes on reaches the command, not a shell around it.
TUNING := exec .venv/bin/tuning

.PHONY: tune
tune: $(READY)  ## run or continue a study: DATASET= [FOR= STUDY= TRIALS= EPOCHS= TIMEOUT= WORKERS= MODEL= SPACE= ...]
	@$(TUNING) tune $(call flag,--dataset,DATASET) $(call flag,--study,STUDY) $(call flag,--trials,TRIALS) \
	  $(call flag,--for,FOR) $(call switch,--search-only,SEARCH_ONLY) \
	  $(call flag,--epochs,EPOCHS) $(call flag,--timeout,TIMEOUT) $(call flag,--workers,WORKERS) \
	  $(call flag,--workers-per-device,WORKERS_PER_DEVICE) $(call flag,--model,MODEL) $(call flag,--space,SPACE) \
	  $(call flag,--base-weights,BASE_WEIGHTS) \
	  $(call flag,--class-weights,CLASS_WEIGHTS) $(call flag,--precision,PRECISION) \
	  $(call flag,--image-size,IMAGE_SIZE) $(call flag,--fit,FIT) $(call either,--flips,--no-flips,FLIPS) \
	  $(call flag,--train-images,TRAIN_IMAGES) $(call flag,--seed,SEED) $(call flag,--storage,STORAGE) \
	  $(call flag,--cluster,CLUSTER) $(call switch,--ship,SHIP) $(call flag,--spec,SPEC) \
	  $(call flag,--trial-timeout,TRIAL_TIMEOUT) \
	  $(call flag,--budget-epochs,BUDGET_EPOCHS) $(call flag,--strategy,STRATEGY) $(call flag,--from-study,FROM_STUDY) \
	  $(call flag,--objective,OBJECTIVE) $(call flag,--direction,DIRECTION) $(call flag,--audit,AUDIT) \
	  $(call flag,--checkpoint-interval,CHECKPOINT_INTERVAL) $(call switch,--no-progress,NO_PROGRESS) \
	  $(call either,--dashboard,--no-dashboard,DASHBOARD)

.PHONY: confirm
confirm: $(READY)  ## train the best configurations again with other seeds: [STUDY= TOP= SEEDS= WORKERS= CLUSTER= ...]
	@$(TUNING) confirm $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call flag,--top,TOP) \
	  $(call flag,--seeds,SEEDS) $(call flag,--model,MODEL) $(call flag,--objective,OBJECTIVE) \
	  $(call flag,--cluster,CLUSTER) $(call switch,--ship,SHIP) $(call flag,--workers,WORKERS) \
	  $(call flag,--timeout,TIMEOUT) $(call switch,--no-progress,NO_PROGRESS)

.PHONY: refit
refit: $(READY)  ## train the winner for long: [STUDY= EPOCHS= ALL_DATA=1 STORAGE= CLUSTER= TIMEOUT= ...]
	@$(TUNING) refit $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call flag,--epochs,EPOCHS) \
	  $(call switch,--all-data,ALL_DATA) \
	  $(call flag,--model,MODEL) $(call flag,--objective,OBJECTIVE) $(call flag,--cluster,CLUSTER) \
	  $(call switch,--ship,SHIP) $(call flag,--timeout,TIMEOUT) $(call switch,--no-progress,NO_PROGRESS)

.PHONY: worker
worker: $(READY)  ## join a study from anywhere: STUDY= STORAGE= [MODEL= STRATEGY= OBJECTIVE= PHASE=]
	@$(TUNING) worker $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call flag,--model,MODEL) \
	  $(call flag,--strategy,STRATEGY) $(call flag,--objective,OBJECTIVE) $(call flag,--phase,PHASE)

.PHONY: status
status: $(READY)  ## state, budget, rate, forecast, best so far: [STUDY= STORAGE= JSON=1]
	@$(TUNING) status $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call switch,--json,JSON)

.PHONY: trials
trials: $(READY)  ## the leaderboard: [STUDY= STORAGE= FORMAT=table|csv|json]
	@$(TUNING) trials $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call flag,--format,FORMAT)

.PHONY: report
report: $(READY)  ## a study as a page that can be sent, with how to make each figure again: [STUDY= STORAGE= OUTPUT=]
	@$(TUNING) report $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call flag,--output,OUTPUT)

.PHONY: verify
verify: $(READY)  ## compute every figure of a report anew, and say which differ: FILE= [STUDY= STORAGE=]
	@$(TUNING) verify $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(if $(value FILE),-- $(call quoted,FILE))

.PHONY: compare
compare: $(READY)  ## two studies side by side: STUDIES="a b" [STORAGE= JSON=1]
	@$(TUNING) compare $(call flag,--storage,STORAGE) $(call switch,--json,JSON) \
	  $(if $(value STUDIES),-- $(foreach name,$(value STUDIES),$(call quote,$(name))))

.PHONY: watch
watch: $(READY)  ## the live view of a study that somebody else runs: [STUDY= STORAGE= NO_PROGRESS=1]
	@$(TUNING) watch $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call switch,--no-progress,NO_PROGRESS)

.PHONY: replay
replay: $(READY)  ## train a trial again from its record, and compare the curves: TRIAL= [STUDY= STORAGE= MODEL= OBJECTIVE=]
	@$(TUNING) replay $(call flag,--trial,TRIAL) $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) \
	  $(call flag,--model,MODEL) $(call flag,--objective,OBJECTIVE)

.PHONY: dashboard
dashboard: $(READY)  ## the web view: [STORAGE= HOST= PORT= ALLOW_HOST= EDIT=1]
	@$(TUNING) dashboard $(call flag,--storage,STORAGE) $(call flag,--host,HOST) $(call flag,--port,PORT) \
	  $(call flag,--allow-host,ALLOW_HOST) $(call switch,--edit,EDIT)

.PHONY: delete
delete: $(READY)  ## a study with its artifacts and checkpoints: STUDY= [STORAGE= YES=1]
	@$(TUNING) delete $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call switch,--yes,YES)

.PHONY: record
record: $(READY)  ## write a study's learning curves as a table for bench-search: OUT= [STUDY= STORAGE=]
	@$(TUNING) record $(call flag,--out,OUT) $(call flag,--study,STUDY) $(call flag,--storage,STORAGE)

.PHONY: backup
backup: $(READY)  ## copy a study, also while it runs: OUT= [STUDY= STORAGE=]
	@$(TUNING) backup $(call flag,--out,OUT) $(call flag,--study,STUDY) $(call flag,--storage,STORAGE)

.PHONY: restore
restore: $(READY)  ## bring a study back from a backup: FROM= [STORAGE= STUDY=]
	@$(TUNING) restore $(call flag,--storage,STORAGE) $(call flag,--study,STUDY) \
	  $(if $(value FROM),-- $(call quoted,FROM))

.PHONY: gc
gc: $(READY)  ## files that no study needs any more; YES=1 frees them: [STUDY= STORAGE= YES=1]
	@$(TUNING) gc $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call switch,--yes,YES)

.PHONY: export
export: $(READY)  ## the best model as a bundle, of the study tuned last: [STUDY= or DATASET= STORAGE= TRIAL= FORMAT= OUT= MODEL= FLIPS=1]
	@$(TUNING) export $(or $(call flag,--study,STUDY),$(call flag,--dataset,DATASET)) $(call flag,--storage,STORAGE) $(call flag,--trial,TRIAL) \
	  $(call flag,--format,FORMAT) $(call flag,--out,OUT) $(call flag,--model,MODEL) $(call switch,--flips,FLIPS)

.PHONY: predict
predict: $(READY)  ## classify an image that is in no data set: IMAGE= [STUDY= or MODEL= STORAGE= JSON=1 RUN_CODE=1]
	@$(TUNING) predict $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) $(call flag,--model,MODEL) $(call switch,--json,JSON) \
	  $(call switch,--run-code,RUN_CODE) \
	  $(if $(value IMAGE),-- $(call quoted,IMAGE))

.PHONY: explore
explore: $(READY)  ## class balance, samples, statistics as pictures: DATASET= [IMAGE_SIZE= FIT= FLIPS=]
	@$(TUNING) explore $(call flag,--dataset,DATASET) \
	  $(call flag,--image-size,IMAGE_SIZE) $(call flag,--fit,FIT) $(call either,--flips,--no-flips,FLIPS)

.PHONY: data
data: $(if $(DATASET),data-prepare,data-list)  ## data-prepare with a DATASET=, data-list without

.PHONY: data-list
data-list: $(READY)  ## the data sets, and which of them are here
	@$(TUNING) data list

.PHONY: data-prepare
data-prepare: $(READY)  ## fetch and verify a data set, or decode your own: DATASET= [IMAGE_SIZE= FIT= FLIPS=]
	@$(TUNING) data prepare \
	  $(call flag,--image-size,IMAGE_SIZE) $(call flag,--fit,FIT) $(call either,--flips,--no-flips,FLIPS) $(if $(value DATASET),-- $(call quoted,DATASET))

# --- Development -------------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(READY)  ## make .venv; every other target does it by itself

# One thread for each test process: with more threads than cores, those of NumPy wait for each other.
# Files of tests are handed out in the order of tests/conftest.py, those that take longest first.
run_tests := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(READY_DEV)  ## every test but those of test-long: [ARGS="-k words"]
	@$(run_tests) -m 'not long' $(ARGS)

.PHONY: test-long
test-long: $(READY_DEV)  ## what repeats at length what make test proves; tests/long.json keeps when it last passed
	@CI=true $(run_tests) -m long -p tests.long_tests

.PHONY: test-fast
test-fast: $(READY_DEV)  ## the tests that take seconds, without Keras: [ARGS=]
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto tests/unit -m 'not (keras or slow or long or network or postgres)' $(ARGS)

.PHONY: test-faults
test-faults: $(READY_DEV)  ## kill, stop, fill, lock and cut off: nothing may be lost: [ARGS=]
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/faults -m 'faults and not (slow or long)' $(ARGS)

.PHONY: soak
soak: $(READY_DEV)  ## a study of 60 trials under fire for half an hour or more: [SEED= RESULT=]
	@exec .venv/bin/python -m tests.faults.soak $(call flag,--seed,SEED) $(call flag,--result,RESULT)

.PHONY: soak-short
soak-short: $(READY_DEV)  ## the same in about a minute, with short leases: [SEED=]
	@exec .venv/bin/python -m tests.faults.soak --short $(call flag,--seed,SEED)

# What was simulated is kept under .bench/search: stopped at any time, it goes on.
.PHONY: bench-search
bench-search: $(READY_DEV)  ## the search against the field: [SMOKE=1 TABLES="a.npz ..." SEEDS= WORKERS="1 8" CONTESTANTS= JOBS= ...]
	@OMP_NUM_THREADS=1 exec .venv/bin/python -m tests.benchmarks.search $(call switch,--smoke,SMOKE) \
	  $(if $(value TABLES),--tables $(TABLES)) $(if $(value CONTESTANTS),--contestants $(CONTESTANTS)) \
	  $(if $(value WORKERS),--workers $(WORKERS)) $(call flag,--seeds,SEEDS) $(call flag,--jobs,JOBS) \
	  $(call flag,--budget,BUDGET) $(call switch,--until-seen,UNTIL_SEEN) $(call flag,--against,AGAINST) \
	  $(call flag,--draw,DRAW) $(call flag,--result,RESULT)

.PHONY: bench-budgeted
bench-budgeted: $(READY_DEV)  ## the search in studies as a plan has them, few epochs in all: [TABLES= TRIALS= EPOCHS= SEEDS= WORKERS= ...]
	@OMP_NUM_THREADS=1 exec .venv/bin/python -m tests.benchmarks.search.budgeted \
	  $(if $(value TABLES),--tables $(TABLES)) $(if $(value CONTESTANTS),--contestants $(CONTESTANTS)) \
	  $(call flag,--trials,TRIALS) $(call flag,--epochs,EPOCHS) $(call flag,--workers,WORKERS) \
	  $(call flag,--seeds,SEEDS) $(call flag,--jobs,JOBS) $(call flag,--result,RESULT)

.PHONY: bench-thinking
bench-thinking: $(READY_DEV)  ## how long the search thinks at 1,000 trials, beside Optuna: [TRIALS= HANDOVERS= CONTESTANTS= TABLE= RESULT=]
	@OMP_NUM_THREADS=1 exec .venv/bin/python -m tests.benchmarks.search.thinking $(call flag,--trials,TRIALS) \
	  $(call flag,--handovers,HANDOVERS) $(if $(value CONTESTANTS),--contestants $(CONTESTANTS)) \
	  $(call flag,--table,TABLE) $(call flag,--result,RESULT)

.PHONY: bench-peers
bench-peers: .bench/syne-asha/.ready .bench/syne-mobster/.ready  ## set up the peers that need environments of their own (Syne Tune)

.bench/%/.ready: tests/benchmarks/search/requirements-%.txt | $(READY)
	@rm -rf $(@D) && mkdir -p .bench && .venv/bin/python -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

.PHONY: bench-overhead
bench-overhead: $(READY_DEV)  ## the wall time of 24 trials, against the peers and a bound: [SMOKE=1 REPEATS= CONTESTANTS= THREADS= RESULT=]
	@exec .venv/bin/python -m tests.benchmarks.throughput.overhead $(call switch,--smoke,SMOKE) \
	  $(call flag,--repeats,REPEATS) $(if $(value CONTESTANTS),--contestants $(CONTESTANTS)) \
	  $(call flag,--threads,THREADS) $(call flag,--result,RESULT)

.PHONY: bench-memory
bench-memory: $(READY_DEV)  ## traces and growth of a worker over 200 trials, and its first step: [SMOKE=1 TRIALS= REPEATS= RESULT=]
	@exec .venv/bin/python -m tests.benchmarks.throughput.memory $(call switch,--smoke,SMOKE) \
	  $(call flag,--trials,TRIALS) $(call flag,--repeats,REPEATS) $(call flag,--result,RESULT)

.PHONY: bench-gpu
bench-gpu: $(READY_DEV)  ## images per second of one trial and of several at once: [SMOKE=1 REPEATS= MODELS= AT_ONCE= RESULT=]
	@exec .venv/bin/python -m tests.benchmarks.throughput.gpu $(call switch,--smoke,SMOKE) \
	  $(call flag,--repeats,REPEATS) $(if $(value MODELS),--models $(MODELS)) \
	  $(if $(value AT_ONCE),--at-once $(AT_ONCE)) $(call flag,--result,RESULT)

.PHONY: bench-data
bench-data: $(READY_DEV)  ## preparing a folder of 20,000 small pictures, against reading and decoding them: [SMOKE=1 PICTURES= REPEATS= RESULT=]
	@exec .venv/bin/python -m tests.benchmarks.data $(call switch,--smoke,SMOKE) $(call flag,--pictures,PICTURES) \
	  $(call flag,--repeats,REPEATS) $(call flag,--result,RESULT)

.PHONY: bench-storage
bench-storage: $(READY_DEV)  ## reading and writing studies of 10,000 trials, beside stock Optuna: [SMOKE=1 ROUNDS= DATABASES= RESULT=]
	@OMP_NUM_THREADS=1 exec .venv/bin/python -m tests.benchmarks.storage $(call switch,--smoke,SMOKE) \
	  $(call flag,--rounds,ROUNDS) $(if $(value DATABASES),--databases $(DATABASES)) $(call flag,--result,RESULT)

.PHONY: bench-claims
bench-claims: $(READY_DEV)  ## claims and reports a second of many workers, and what share of their time that takes: [SMOKE=1 WORKERS="1 8" PROCESSES= DATABASES= RESULT=]
	@OMP_NUM_THREADS=1 exec .venv/bin/python -m tests.benchmarks.claims $(call switch,--smoke,SMOKE) \
	  $(if $(value WORKERS),--workers $(WORKERS)) $(call flag,--processes,PROCESSES) \
	  $(if $(value DATABASES),--databases $(DATABASES)) $(call flag,--result,RESULT)

.PHONY: bench-dashboard
bench-dashboard: $(READY_DEV)  ## the dashboard at 10,000 trials, beside Optuna's own: [SMOKE=1 REPEATS= RESULT=]
	@exec .venv/bin/python -m tests.benchmarks.dashboard $(call switch,--smoke,SMOKE) $(call flag,--repeats,REPEATS) \
	  $(call flag,--result,RESULT)

# What was run is kept under .bench/training, so that the table can be printed again.
.PHONY: bench-training
bench-training: $(READY_DEV)  ## the search against the field in real training: [SMOKE=1 DATASETS= EPOCHS= BUDGET= SEED= DRAW= ...]
	@exec .venv/bin/python -m tests.benchmarks.training $(call switch,--smoke,SMOKE) \
	  $(if $(value DATASETS),--datasets $(DATASETS)) $(if $(value CONTESTANTS),--contestants $(CONTESTANTS)) \
	  $(call flag,--epochs,EPOCHS) $(call flag,--budget,BUDGET) $(call flag,--workers,WORKERS) \
	  $(call flag,--threads,THREADS) $(call flag,--seed,SEED) $(call switch,--again,AGAIN) \
	  $(call flag,--draw,DRAW) $(call flag,--result,RESULT)

# What was trained is kept under .bench/recipe, so that the table can be printed again.
.PHONY: bench-recipe
bench-recipe: $(READY_DEV)  ## what each part of a network and its recipe is worth: [SMOKE=1 VARIANTS= DATASET= EPOCHS= SEEDS= ...]
	@TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 exec .venv/bin/python \
	  -m tests.benchmarks.recipe $(call switch,--smoke,SMOKE) $(if $(value VARIANTS),--variants $(VARIANTS)) \
	  $(call flag,--dataset,DATASET) $(call flag,--train-images,TRAIN_IMAGES) $(call flag,--epochs,EPOCHS) \
	  $(call flag,--seeds,SEEDS) $(call flag,--result,RESULT)

# What was trained is kept under .bench/fidelity, so that the table can be printed again.
.PHONY: bench-fidelity
bench-fidelity: $(READY_DEV)  ## how short trainings rank what long ones rank, and what they cost: [SMOKE=1 DATASET= MODEL= CONFIGURATIONS= FIDELITIES= ...]
	@TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 exec .venv/bin/python \
	  -m tests.benchmarks.fidelity $(call switch,--smoke,SMOKE) $(call flag,--dataset,DATASET) \
	  $(call flag,--model,MODEL) $(call flag,--configurations,CONFIGURATIONS) \
	  $(if $(value FIDELITIES),--fidelities $(FIDELITIES)) $(call flag,--against,AGAINST) \
	  $(call flag,--validation-images,VALIDATION_IMAGES) $(call flag,--workers,WORKERS) $(call flag,--result,RESULT)

# What was run is kept in tests/benchmarks/results/best.jsonl: stopped at any time, it goes on with the cell that it was in.
.PHONY: bench-best
bench-best: $(READY_DEV)  ## test accuracy of what is handed over in a given time, against the field: [SMOKE=1 CELLS="cifar10/15 mnist/5/ours ..." ANYWAY=1 RESULT=]
	@exec .venv/bin/python -m tests.benchmarks.best $(call switch,--smoke,SMOKE) \
	  $(if $(value CELLS),--cells $(CELLS)) $(call switch,--anyway,ANYWAY) $(call flag,--result,RESULT)

.PHONY: lint
lint: $(READY_DEV)  ## style, types, and who may import whom
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

.PHONY: format
format: $(READY_DEV)  ## mend what can be mended without asking
	@.venv/bin/ruff check --fix --quiet || true
	@.venv/bin/ruff format

.PHONY: docs
docs: $(READY_DEV)  ## write into the pages what they take from the code and from results
	@.venv/bin/python -m tests.pages

.PHONY: notebook
notebook: $(READY_DEV)  ## run the tutorial, and keep what it shows in it
	@TUNING_PRECISION=float32 .venv/bin/python -m tests.pages.tutorial

# A browser is needed: .ci/browser installs one.
.PHONY: screenshots
screenshots: $(READY_DEV)  ## take the pictures of dashboard, report and notebook in the pages anew: [STUDY= STORAGE= OUT=]
	@exec .venv/bin/python -m tests.pages.screenshots $(call flag,--study,STUDY) $(call flag,--storage,STORAGE) \
	  $(call flag,--out,OUT)

.PHONY: clean
clean:  ## remove .venv and caches; studies and data stay
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find models storage studies tuning tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## this list
	@echo 'make TARGET [VARIABLE=value ...], for example: make tune DATASET=mnist TRIALS=20'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
