# make train        the embedded world, from nothing to a trained model
# make test         formatting, lint and the tests
# make bench        kernels and packing against their peers, on the GPU if there is one;
#                   the judge against bare processes
# make toolchains   the compilers and interpreters of all eleven languages
# make toy          everything in toy/ again from its seed (half an hour)
#
# All set up what they need: .venv from requirements.txt, and the sandbox and the toolchains by
# apt-get where this user may install; otherwise one line says what to install.
PYTHON ?= python3
RUN = .venv/bin/python
TEST_TOOLS = pytest pytest-xdist transformers ruff==0.17.6

# PROGRAM:PACKAGE of what must be in /usr/bin
JUDGE = bwrap:bubblewrap setpriv:util-linux python3:python3 g++:g++ php:php-cli node:nodejs \
	javac:default-jdk-headless
IR = clang-19:clang-19
ELEVEN = $(JUDGE) go:golang-go mcs:mono-mcs mono:mono-runtime scalac:scala ghc:ghc npm:npm

# Compiled once by `make toolchains`, used by judge/languages.py
PCH = /usr/local/include/oorl/bits/stdc++.h
GO = GOCACHE=/usr/local/share/oorl-go GO111MODULE=off CGO_ENABLED=0 /usr/bin/go
APT_INSTALL = DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
MONO_LIBRARIES = libmono-system-numerics4.0-cil libmono-system-core4.0-cil

train: .venv/ready
	@$(call need,$(JUDGE))
	$(RUN) train.py $(ARGS)

test: .venv/ready
	@$(call need,$(IR))
	@$(MAKE) --no-print-directory toolchains
	$(RUN) -m pip install -q --disable-pip-version-check $(TEST_TOOLS)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pytest -q -n 2 --dist loadfile $(ARGS) tests

# Beside Debian's packages: Mono's libraries (mono-runtime has no System.Numerics), TypeScript from
# npm, a precompiled bits/stdc++.h, and Go's standard library, which is not compiled since Go 1.20.
toolchains:
	@$(call need,$(ELEVEN))
	@ls /usr/lib/mono/4.5/System.Numerics.dll > /dev/null 2>&1 || test "$$(id -u)" != 0 || \
		$(APT_INSTALL) $(MONO_LIBRARIES) > /dev/null
	@test -x /usr/bin/tsc || \
		{ test "$$(id -u)" = 0 && npm install --silent -g --prefix /usr typescript > /dev/null; } || \
		echo "not installed: typescript; as root: npm install -g --prefix /usr typescript"
	@test -f $(PCH).gch || test "$$(id -u)" != 0 || { \
		mkdir -p $(dir $(PCH)) && echo '#include_next <bits/stdc++.h>' > $(PCH) && \
		g++ -std=c++17 -O1 -pipe -fmax-errors=5 -w -x c++-header $(PCH) -o $(PCH).gch; }
	@! test -x /usr/bin/go || ls $$(/usr/bin/go env GOROOT)/pkg/*/fmt.a > /dev/null 2>&1 || \
		test "$$(id -u)" != 0 || $(GO) build std

bench: .venv/ready
	$(RUN) bench/head.py
	$(RUN) bench/packing.py
	$(RUN) bench/judge.py
	$(RUN) bench/load.py
	$(RUN) bench/step.py
	$(RUN) bench/memory.py
	$(RUN) bench/noise.py

toy: .venv/ready
	@$(call need,$(JUDGE) $(IR))
	$(RUN) -m toy.make

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

# $(call need,PROGRAM:PACKAGE ...): installs the packages of the programs that are not in /usr/bin,
# where the sandbox sees them
need = packages=; \
	for pair in $(1); do \
		test -x /usr/bin/$${pair%%:*} || packages="$$packages $${pair\#\#*:}"; \
	done; \
	if [ -z "$$packages" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing:$$packages"; \
		apt-get update -qq > /dev/null; \
		for package in $$packages; do \
			$(APT_INSTALL) $$package > /dev/null || \
				echo "could not install $$package; what needs it is left out"; \
		done; \
	else \
		echo "not installed:$$packages; as root: apt-get install$$packages"; \
	fi

.PHONY: train test toolchains bench toy
