# SPDX-License-Identifier: Apache-2.0
# The shim, and the program that puts it under others. Shares no code with proxy/.
# make preload-test: all tests of this folder; preload-bench: what it costs; preload-tsan.

SHIM_SRC := preload/endpoint.c preload/rules.c preload/proxyv2.c preload/peers.c preload/redirect.c
RUN_SRC := preload/run.c preload/names.c preload/program.c preload/supervise.c
PRELOAD_HDR := $(wildcard preload/*.h)
# These run inside, and in front of, other people's programs: in every variant they are made without sanitizers.
PRELOAD_CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 -g $(WARN) -pthread
SHIM_LINK := -fPIC -shared -Wl,--version-script=preload/shim.map -Wl,-z,now,-z,relro
PRELOAD_BIN := $(BUILD)/libsidetrack.so $(BUILD)/sidetrack-run
# The library asks for nothing that musl has not; tested where Debian's musl-tools are installed.
ifneq ($(shell command -v musl-gcc),)
PRELOAD_MUSL_AID := $(BUILD)/preload/probe-musl
endif

.PHONY: shim preload-aids preload-test preload-tsan preload-bench
all: shim
shim: $(PRELOAD_BIN)

$(BUILD)/libsidetrack.so: $(SHIM_SRC) preload/shim.c preload/shim.map $(PRELOAD_HDR)
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(PRELOAD_CFLAGS) $(SHIM_LINK) -o $@ $(filter %.c,$^)
$(BUILD)/sidetrack-run: $(SHIM_SRC) $(RUN_SRC) $(PRELOAD_HDR)
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(PRELOAD_CFLAGS) -o $@ $(filter %.c,$^)

# Under test with sanitizers, in the variants that have them: the parts, linked into the test programs.
SHIM_OBJ := $(SHIM_SRC:%.c=$(OBJ)/%.o)
RUN_OBJ := $(RUN_SRC:%.c=$(OBJ)/%.o)
PRELOAD_SAN := $(OBJ)/preload/test_rules $(OBJ)/preload/stress $(OBJ)/preload/sidetrack-run
PRELOAD_AIDS := $(addprefix $(BUILD)/preload/,greeter probe probe-static uring deny stress counter.so bench_shim)
$(OBJ)/tests/preload/%.o: CFLAGS += -Ipreload
$(OBJ)/tests/fuzz/fuzz_shimrules.o: CFLAGS += -Ipreload
$(OBJ)/fuzz/fuzz_shimrules: $(filter-out %/redirect.o %/peers.o,$(SHIM_OBJ))
$(OBJ)/preload/test_rules: $(OBJ)/tests/preload/test_rules.o $(filter-out %/redirect.o,$(SHIM_OBJ))
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -lcmocka
$(OBJ)/preload/stress: $(OBJ)/tests/preload/stress.o $(OBJ)/preload/shim.o $(SHIM_OBJ)
	$(Q)$(CC) $(CFLAGS) -o $@ $^
$(OBJ)/preload/sidetrack-run: $(RUN_OBJ) $(SHIM_OBJ)
	$(Q)$(CC) $(CFLAGS) -o $@ $^
$(BUILD)/preload/%.so: tests/preload/%.c
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(PRELOAD_CFLAGS) -fPIC -shared -o $@ $<
$(BUILD)/preload/%-static: tests/preload/%.c
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(PRELOAD_CFLAGS) -static -o $@ $< 2>/dev/null
$(BUILD)/preload/%-musl: tests/preload/%.c
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)musl-gcc $(PRELOAD_CFLAGS) -o $@ $<
$(BUILD)/preload/bench_shim: tests/bench/bench_shim.c
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(PRELOAD_CFLAGS) -o $@ $<
$(BUILD)/preload/%: tests/preload/%.c
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(PRELOAD_CFLAGS) -o $@ $<

# For the top's test target: what has to be there first, and what is run then.
PRELOAD_TESTS := $(OBJ)/preload/test_rules $(OBJ)/preload/stress \
	"$(BUILD)/preload/stress $(OBJ)/preload/sidetrack-run" \
	"$(BUILD)/preload/deny 438 $(BUILD)/preload/stress $(OBJ)/preload/sidetrack-run" \
	"tests/preload/test_shim.sh $(OBJ)/preload/sidetrack-run" \
	tests/preload/test_redirect.sh tests/preload/test_programs.py
preload-aids: shim $(PRELOAD_SAN) $(PRELOAD_AIDS) $(PRELOAD_MUSL_AID)
preload-test: preload-aids
	@tests/run.sh $(PRELOAD_TESTS)
preload-tsan:
	$(MAKE) VARIANT=tsan preload-aids
	@tests/run.sh $(BUILD)/obj/tsan/preload/test_rules $(BUILD)/obj/tsan/preload/stress \
		"$(BUILD)/preload/stress $(BUILD)/obj/tsan/preload/sidetrack-run"
preload-bench: preload-aids
	@$(BUILD)/preload/bench_shim $(BUILD)
