# SPDX-License-Identifier: Apache-2.0
# Figures: tests/bench/README.md says how they are made.
#   make bench            the whole table, about 10 minutes
#   make bench-quick      about a minute, for the loop of changing and measuring
#   make bench-syscalls   system calls a statement
# BENCH_TARGETS, BENCH_CONNS, BENCH_PROTOCOLS, BENCH_SECONDS, BENCH_ROUNDS, BENCH_PARTS, BENCH_WORKERS, BENCH_PEER

BENCH_BASE := $(patsubst %,$(OBJ)/proxy/base/%.o,slice mem log)
BENCH_BIN := $(addprefix $(BIN)/bench/,floor load bench_sql)
BENCH_RUN := full

$(BIN)/bench/floor: $(OBJ)/tests/bench/floor.o $(BENCH_BASE)
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^
$(BIN)/bench/load: $(patsubst %,$(OBJ)/tests/bench/%.o,load client hold) $(BENCH_BASE)
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -lcrypto
$(BIN)/bench/bench_sql: $(OBJ)/tests/bench/bench_sql.o $(OBJ)/libproxy.a
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

.PHONY: bench bench-quick bench-syscalls bench-tools
bench-tools: $(BIN)/sidetrack $(BENCH_BIN)
bench-quick: BENCH_RUN := quick
bench-syscalls: BENCH_RUN := syscalls
bench bench-quick bench-syscalls:
	tests/lab/install.sh test
	$(MAKE) -j$$(nproc) bench-tools
	tests/bench/bench.py $(BIN) $(BENCH_RUN)
