# make run     serve an image and boot it   (make run ARGS=--once: and end)
# make test    everything that is tested
# make bench   measure all beside a real Glance, a real Nova and the limits, and write benchmarks/RESULTS.md
# make matrix  run the store kit on all drivers and write docs/store-matrix.md

.PHONY: help run test bench matrix clean
.DEFAULT_GOAL := help
# Else all that is started compiles the project anew.
unexport PYTHONDONTWRITEBYTECODE

help:
	@sed -n 's/^# make/make/p' Makefile

run:
	@tools/prepare
	@exec .venv/bin/python -m novalite.quickstart $(ARGS)

test:
	@tools/prepare test
	@exec .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

bench:
	@tools/prepare test
	@exec .venv/bin/python -m benchmarks --json var/bench/results.json --write $(ARGS)

matrix:
	@tools/prepare test
	@rm -rf var/kit-report
	@.venv/bin/python -m pytest -q -p glancelike.testing.report --kit-report var/kit-report \
		tests/conformance plugins $(ARGS); status=$$?; \
	.venv/bin/python -m glancelike.testing.matrix var/kit-report >docs/store-matrix.md && exit $$status

clean:
	rm -rf .venv .tox build *.egg-info plugins/*/*.egg-info
