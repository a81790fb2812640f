# make train    the embedded world, from nothing to a trained model
# make test     the tests
# make bench    the kernels and the packing against their peers, on the GPU if there is one
# All set up what they need: .venv from requirements.txt, and the sandbox and the toolchains by apt-get where this user
# may install; otherwise one line says what to install.
PYTHON ?= python3
RUN = .venv/bin/python
JUDGE = bwrap:bubblewrap setpriv:util-linux python3:python3 g++:g++ php:php-cli node:nodejs javac:default-jdk-headless
IR = clang-19:clang-19

train: .venv/ready
	@$(call need,$(JUDGE))
	$(RUN) train.py $(ARGS)

test: .venv/ready
	@$(call need,$(JUDGE) $(IR))
	$(RUN) -m pip install -q --disable-pip-version-check pytest transformers
	$(RUN) -m pytest -q $(ARGS) tests

bench: .venv/ready
	$(RUN) bench/head.py
	$(RUN) bench/packing.py

# Everything in toy/ again from its seed: data, tokenizer, warm start (half an hour), IR groups.
toy: .venv/ready
	@$(call need,$(JUDGE) $(IR))
	$(RUN) -m toy.make

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

# $(call need,PROGRAM:PACKAGE ...): the packages of the programs that are not in /usr/bin, where the sandbox sees them
need = packages=; for pair in $(1); do test -x /usr/bin/$${pair%%:*} || packages="$$packages $${pair\#\#*:}"; done; \
	if [ -z "$$packages" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then echo "installing:$$packages"; apt-get update -qq > /dev/null; \
		for package in $$packages; do DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package \
			> /dev/null || echo "could not install $$package; what needs it is left out"; done; \
	else echo "not installed:$$packages; as root: apt-get install$$packages"; fi

.PHONY: train test bench toy
