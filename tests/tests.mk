# SPDX-License-Identifier: Apache-2.0
# make test: all of it. Parts: make lint, check (no servers), fuzz, integration, tsan. FUZZ_SECONDS=N: a target's time.
# make soak SOAK_SECONDS=N: the coherence test with faults of everything, for so long.
# One integration test by hand: make all support && tests/integration/test_X.py [PART OF A TEST'S NAME]...

SUPPORT_BIN := $(patsubst tests/support/%.c,$(BUILD)/support/%,$(wildcard tests/support/*.c))
DRIVER_BIN := $(patsubst tests/unit/%.c,$(OBJ)/unit/%,$(wildcard tests/unit/*_driver.c))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(OBJ)/fuzz/%)
LINT := $(wildcard tests/lint/*.sh)
INTEGRATION := $(wildcard tests/integration/test_*.py tests/integration/test_*.sh)
THREADED := $(addprefix tests/integration/,test_direct_equal.py test_services.py test_coherence.py)
export FUZZ_SECONDS

SOAK_SECONDS ?= 3600
.PHONY: test lint check fuzz integration tsan soak support unit-bins fuzz-bins
# Each variant is a make of its own, with its own objects; and headers may only just have been installed.
test:
	tests/lab/install.sh test
	$(MAKE) -j$$(nproc) support
	$(MAKE) -j$$(nproc) VARIANT=asan all unit-bins preload-aids
	$(MAKE) -j$$(nproc) VARIANT=fuzz fuzz-bins
	$(MAKE) -s VARIANT=asan run-tests
run-tests:
	@SIDETRACK=$(BIN)/sidetrack TEST_BIN=$(OBJ)/unit tests/run.sh $(LINT) $(UNIT_BIN) $(FUZZ_RUNS) $(PRELOAD_TESTS) $(INTEGRATION)
lint:
	@tests/run.sh $(LINT)
check: unit-bins
	@tests/run.sh $(LINT) $(UNIT_BIN)
fuzz:
	$(MAKE) -j$$(nproc) VARIANT=fuzz fuzz-bins
	@tests/run.sh --limit 86400 $(FUZZ_RUNS)
integration: all unit-bins support
	@SIDETRACK=$(BIN)/sidetrack TEST_BIN=$(OBJ)/unit tests/run.sh $(INTEGRATION)
tsan:
	tests/lab/install.sh test
	$(MAKE) -j$$(nproc) support
	$(MAKE) -j$$(nproc) VARIANT=tsan $(BUILD)/tsan/sidetrack unit-bins
	@# without address randomization, which TSan of Debian 12 does not bear where it is strong
	@SIDETRACK=$(BUILD)/tsan/sidetrack setarch -R tests/run.sh $(UNIT_SRC:tests/unit/%.c=$(BUILD)/obj/tsan/unit/%) $(THREADED)
soak:
	tests/lab/install.sh test
	$(MAKE) -j$$(nproc) support
	$(MAKE) -j$$(nproc) VARIANT=asan $(BUILD)/asan/sidetrack
	SOAK_SECONDS=$(SOAK_SECONDS) SIDETRACK=$(BUILD)/asan/sidetrack tests/integration/test_coherence.py soak

support: $(SUPPORT_BIN)
$(BUILD)/support/coherence: $(wildcard tests/support/coherence*.h)
unit-bins: $(UNIT_BIN) $(DRIVER_BIN)
fuzz-bins: $(FUZZ_BIN)
FUZZ_RUNS := $(patsubst tests/fuzz/%.c,"tests/fuzz/run.sh $(BUILD)/obj/fuzz/fuzz/%",$(FUZZ_SRC))

$(BUILD)/support/%: tests/support/%.c
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $< $(LDLIBS)
$(OBJ)/fuzz/%: $(OBJ)/tests/fuzz/%.o $(OBJ)/libproxy.a
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)
