# Kefu's commands. `make help` lists them.

SETUP := python3 ops/local/setup.py
SERVICES := .local/services/bin/python
WORKER := .local/worker/bin/python
OPS := .local/ops/bin/python
LINT_IMPORTS := .local/services/bin/lint-imports
MYPY := $(SERVICES) -m mypy
QUIET := RASA_TELEMETRY_ENABLED=false TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS=ignore
LOCK := uv pip compile -q --generate-hashes --no-emit-index-url --no-header

.PHONY: help run test chart train shell bench chaos soak lint lock clean
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: ## set up what is missing and run everything on this machine, until Ctrl-C
	@exec $(SETUP) --run

test: ## set up what is missing, check the code and run all tests
	@$(SETUP) --ops --load
	@$(MAKE) --no-print-directory check
	@rm -f $(FAILED) results/flaky.txt
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target AGAIN=yes $(GROUPS); code=$$?; \
	failed=$$(ls $(FAILED) 2>/dev/null | sed s/^/@/); \
	if [ "$$failed" ]; then $(SERVICES) -m pytest -p tests.again --second-try $$failed || code=1; fi; exit $$code

# Three at a time, because each of them waits for half of its time. The longest begin, so that all end at about the same
# time.
GROUPS := test-load test-system test-worker test-integration test-cluster test-parts test-chart
LOAD := $(wildcard $(addprefix tests/e2e/test_,bench.py capacity_forecast.py load.py partitions.py soak.py))
CLUSTER := $(wildcard tests/chart/test_releasing.py tests/chart/test_roles.py tests/chart/test_running*.py)
# System tests that fail are tried once more when the others have ended: tests/again.py.
FAILED := results/failed-test-*.txt
SYSTEM = $(SERVICES) -m pytest -p tests.again --durations=10 $(if $(AGAIN),--failures-to=results/failed-$@.txt)
.PHONY: $(GROUPS)
test-load:
	@$(SYSTEM) tests/chaos $(LOAD)

test-system:
	@$(SYSTEM) tests/e2e $(LOAD:%=--ignore=%)

test-worker:
	@$(QUIET) $(WORKER) -m pytest -W ignore tests/worker

test-integration:
	@$(SERVICES) -m pytest tests/integration

test-cluster:
	@$(OPS) -m pytest $(CLUSTER)

test-parts:
	@$(SERVICES) -m pytest --ignore=tests/e2e --ignore=tests/chaos --ignore=tests/integration

test-chart:
	@$(OPS) -m pytest tests/chart $(CLUSTER:%=--ignore=%)

# The files of ops/ that run in the worker's environment.
UNDER_RASA := ops/bench/nlu.py $(addprefix ops/local/,train.py training.py) \
	$(addprefix ops/understanding/,crossed.py footprint.py heldout.py)
.PHONY: check
check:
	@$(SERVICES) -m ruff check .
	@$(SERVICES) -m ruff format --check .
	@$(LINT_IMPORTS) --no-cache
	@$(MYPY) $(UNDER_RASA:%=--exclude %) kefu/*.py kefu/gateway kefu/tools kefu/settings actions ops
	@$(MYPY) --python-executable $(WORKER) kefu/worker $(UNDER_RASA)

train: ## train the model if anything that it is made of has changed, and tell what that did
	@$(SETUP)

card: ## measure the trained model and write ops/model-card.md
	@$(SETUP)
	@$(SERVICES) -m ops.understanding

shell: ## talk to the trained model in the terminal
	@$(SETUP)
	@$(QUIET) $(SERVICES) -m ops.local.shell

chart: ## render, check and run the chart, lint images and compose file
	@$(SETUP) --ops
	@$(OPS) -m pytest tests/chart

.PHONY: intent
intent: ## write the stubs of a new intent (NAME=price_match, TOPIC=refunds) and say what is left to do
	@$(SETUP) --no-train
	@$(SERVICES) -m ops.local.intent "$(NAME)" $(if $(TOPIC),--topic "$(TOPIC)")

.PHONY: screenshot
screenshot: ## draw the README's picture of the chat page (needs Chromium and a Chinese font)
	@$(SETUP)
	@$(SERVICES) -m ops.local.screenshot

.PHONY: tools
tools: ## get promtool, kube-score, actionlint and a Redis with TLS, which some tests want
	@python3 -m ops.local.tools

bench: ## measure stock Rasa and Kefu in rounds into results/ (SHORT=1; AGAINST=commit: this build and that one)
	@$(SETUP)
	@$(SERVICES) -m ops.bench $(if $(SHORT),--short) $(if $(AGAINST),--against $(AGAINST))

chaos: ## kill 1,000 times under load and count (KILLS=, SEED=, MINUTES= for a slice; results/chaos.json)
	@$(SETUP)
	@$(SERVICES) -m ops.chaos $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

soak: ## an hour of load with memory sampled (MINUTES=; results/soak.json)
	@$(SETUP)
	@$(SERVICES) -m ops.bench.soak $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: load
load: ## put load on everything here and compare with the last accepted run (SCENARIO=steps, SCALE=0.02)
	@$(SETUP) --load
	@$(SERVICES) -m ops.load run $(or $(SCENARIO),steps) --scale $(or $(SCALE),0.02)

lint: ## check the code's style, imports and types
	@$(SETUP) --no-train
	@$(MAKE) --no-print-directory check

lock: ## resolve the requirements anew (needs uv, Python 3.10 and 3.12)
	cd ops/requirements && $(LOCK) --python-version 3.8 uv.in -o uv.txt
	cd ops/requirements && $(LOCK) --python 3.10 worker.in -o worker.txt && $(LOCK) --python 3.10 worker-dev.in -o worker-dev.txt
	cd ops/requirements && $(LOCK) --python 3.12 services.in -o services.txt && $(LOCK) --python 3.12 dev.in -o dev.txt
	cd ops/requirements && $(LOCK) --python 3.12 ops.in -o ops.txt && $(LOCK) --python 3.12 load.in -o load.txt
	cd ops/requirements && $(LOCK) --python 3.12 go.in -o go.txt

clean: ## remove what the commands made, environments included
	rm -rf .local models .rasa results .mypy_cache .pytest_cache .ruff_cache
