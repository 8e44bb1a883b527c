# Everything a contributor types. `make help` lists it.
TARGET   := x86_64-unknown-linux-gnu
MYRT     := target/$(TARGET)/release/myrt
RUNTIME  ?= $(MYRT)
PREFIX   ?= /usr/local

.PHONY: build demo check test runtime-tests engines-test calibrate vm vm-shell vm-test vm-engines conformance install clean help

build: ## Build the static binary
	@hack/deps build
	cargo build --release --locked

demo: build ## Run the main job: a real bundle, its plan, its limits and its isolation
	hack/demo $(MYRT)

check: ## Format, lints, unit tests and golden plans; needs no root
	@hack/deps build
	set -e; for crate in . runtime-tests hack/bench; do export CARGO_TARGET_DIR=$$crate/target; \
		cargo fmt --check --manifest-path $$crate/Cargo.toml; \
		cargo clippy --locked --all-targets --manifest-path $$crate/Cargo.toml -- -D warnings; done
	cargo test --locked

test: build check guard runtime-tests ## Everything that this machine can run (as root)

runtime-tests: ## Black-box tests against RUNTIME: the host as it is, and a pure cgroup v2 view
	@hack/deps test
	hack/runtime-tests $(RUNTIME)

calibrate: ## The same tests against the distribution's runc and crun
	@hack/deps test
	hack/runtime-tests runc crun

vm: ## The test VM: Debian 13, systemd, cgroup v2, SELinux enforcing, Docker, Podman, under qemu (as root)
	hack/vm/image

vm-shell: build vm ## A shell in the VM, with what was built; what it writes is gone when it ends
	hack/vm/vm shell $(MYRT)

vm-test: build vm ## runtime-tests in the VM
	hack/vm/test $(RUNTIME)

vm-engines: build vm ## In the VM: SELinux under Docker and Podman, and the suite of the engines with myrt
	hack/vm/selinux-engines $(RUNTIME)
	hack/vm/engines $(RUNTIME) '$(FILTER)'

vm-calls: build vm ## In the VM: count the system calls of myrt, crun and runc
	hack/vm/calls $(RUNTIME)

engines-test: build ## What Docker, containerd and Podman do with runc, crun and myrt (docs/engines.md)
	@hack/deps engines
	hack/engines/run $(FILTER)

conformance: build ## The OCI validation suite, built in SUITE=dir
	hack/conformance $(SUITE) $(RUNTIME)

# RUNTIMES: names on the PATH or paths, with spaces between.
.PHONY: bench guard
bench: build ## Measure against RUNTIMES, or all peers on the PATH; QUICK=1 ONLY=run,exec OUT=dir
	hack/bench/run $(MYRT) $(RUNTIMES)

guard: build ## Compare exact counts (system calls, instructions, memory, size) with hack/bench/budget.txt; QUICK=1 UPDATE=1
	hack/bench/run --guard $(MYRT)

.PHONY: hot
hot: ## Write src/hot.ld anew: the functions that a container's life uses, side by side in the binary
	@hack/deps build
	cargo rustc --release --locked --bin myrt -- -Clink-arg=-Wl,-Map=$(CURDIR)/target/myrt.map
	hack/bench/run --hot target/myrt.map $(MYRT) >target/hot.ld
	mv target/hot.ld src/hot.ld

install: build ## Install to PREFIX/bin
	install -D -m 755 $(MYRT) $(DESTDIR)$(PREFIX)/bin/myrt

clean: ## Remove what was built
	cargo clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16
