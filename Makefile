# Greenroom. `make help` explains the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python

.PHONY: help run test check unit demo prove simulate bugs chaos bench bench-calls bench-cut bench-first-frame bench-forwarding bench-impaired bench-joins bench-ledger bench-lips bench-node-death bench-spectators bench-whip docs clean install-run install-test

help: ## Explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install-run:
	@python3 -m ops.install run

install-test:
	@python3 -m ops.install test

run: install-run ## Install what is missing and start everything; Ctrl-C stops it
	@exec $(PYTHON) -m ops.supervise

test: install-test check ## Install what is missing, check types and style, run the whole suite
	@# Hundreds of processes are started: each would compile what is imported anew where nothing may be kept.
	@PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -n 4 --dist loadfile --no-loadscope-reorder

check: install-test ## Types and style
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy

unit: install-test ## The tests that need no server
	@$(PYTHON) -m pytest tests/unit

demo: install-run ## A real file as creator, a fan asks, watches, is billed and cut off; every way to end
	@$(PYTHON) -m demo.run

prove: install-test ## The long proofs: kills in the middle of sessions, more seeds (SEED=, else another each time)
	@export SEED=$${SEED:-$$((RANDOM << 15 | RANDOM))}; echo "SEED=$$SEED"; $(PYTHON) -m pytest --prove --hypothesis-seed=$$SEED tests

chaos: install-test ## Real processes under load, kill -9 of each and of both servers, then the audit (SECONDS=, SEED=)
	@$(PYTHON) -m chaos

simulate: install-test ## The whole money path on one virtual clock, with crashes (SEED=, SESSIONS=, BUG=)
	@$(PYTHON) -m simulation --seed $${SEED:-1} --sessions $${SESSIONS:-1000} $${BUG:+--bug $$BUG}

bugs: install-test ## Plant each of the money bugs, one after the other: found or not, in how long, by whom (SEED=)
	@$(PYTHON) -m simulation --bugs --seed $${SEED:-1}

bench: bench-forwarding bench-calls bench-cut bench-first-frame bench-joins bench-ledger bench-node-death bench-spectators ## Every benchmark

bench-forwarding: install-run ## Packets per CPU second and latency of the media process, against floor and peer
	@$(PYTHON) -m bench.forwarding

bench-impaired: install-test ## Chromium and Firefox over bad lines (loss, jitter, 300 kbit/s, outage, other address); needs root, firefox-esr if there (SEED=, SECONDS=, ONLY=, BROWSERS=)
	@$(PYTHON) -m bench.impaired

bench-lips: install-test ## How far apart sound and picture come at a viewer, through the node and without it, on a good line, with loss, with jitter; needs root (SECONDS=, ONLY=, RUNS=)
	@$(PYTHON) -m bench.impaired_lips

bench-calls: install-run ## How many private calls of two one core carries with p99 under 5 ms
	@$(PYTHON) -m bench.calls

bench-cut: install-run ## From terminate-stream, and from budget end, to the last packet the fan receives; then under a full room, by command and over HTTP
	@$(PYTHON) -m bench.cut
	@$(PYTHON) -m bench.cut_load
	@$(PYTHON) -m bench.cut_house

bench-first-frame: install-test ## A late joiner's Chromium: from its answer to the first picture; camera to glass (JOINS=)
	@$(PYTHON) -m bench.first_frame --joins $(or $(JOINS),20)

bench-joins: install-run ## What a node holds while a full room comes and goes; writes docs/joins.svg (SECONDS=)
	@$(PYTHON) -m bench.joins --seconds $(or $(SECONDS),600)

bench-ledger: install-run ## Holds and settlements a second on one hot creator, durable, against a pgbench floor
	@$(PYTHON) -m bench.ledger

bench-node-death: install-test ## From the kill of a call's media node until both Chromiums see each other again on another, and what the receipt says (ROUNDS=)
	@$(PYTHON) -m bench.node_death

bench-spectators: install-test ## From camera to disk and to Chromium's glass, and a room's CPU against a bare ffmpeg (SECONDS=, ORIGIN=, ROOMS=, LOW_LATENCY=1)
	@$(PYTHON) -m bench.spectators --seconds $(or $(SECONDS),60) --origin $(or $(ORIGIN),0) --rooms $(or $(ROOMS),0) $(if $(LOW_LATENCY),--low-latency)

bench-whip: install-test ## OBS's WebRTC engine and GStreamer's as encoder and player; what to install: tests/integration/media/whip_stacks.py
	@$(PYTHON) -m pytest -q -s tests/integration/media/whip_stacks.py

docs: install-test ## Write the generated parts of docs/ again
	@SECRET_KEY=nothing-is-signed-while-documents-are-written $(PYTHON) -m flask --app web docs

clean: ## Remove what was installed and made, data included
	rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache
