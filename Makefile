# make run     serve an image and boot it   (make run ARGS=--once: and end)
# make test    everything that is tested

.PHONY: help run test clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

run:
	@tools/prepare
	@exec .venv/bin/python -m novalite.quickstart $(ARGS)

test:
	@tools/prepare test
	@exec .venv/bin/python -m pytest -n 3 --dist loadfile $(ARGS)

clean:
	rm -rf .venv .tox build *.egg-info plugins/*/*.egg-info
