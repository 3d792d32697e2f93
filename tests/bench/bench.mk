# SPDX-License-Identifier: Apache-2.0
# Figures: tests/bench/README.md says how they are made.
#   make bench            the whole table, about 10 minutes
#   make bench-quick      about a minute, for the loop of changing and measuring
#   make bench-syscalls   system calls a statement
# BENCH_TARGETS, BENCH_CONNS, BENCH_PROTOCOLS, BENCH_SECONDS, BENCH_ROUNDS, BENCH_PARTS, BENCH_WORKERS, BENCH_PEER

BENCH_BASE := $(patsubst %,$(OBJ)/proxy/base/%.o,slice mem log)
BENCH_BIN := $(addprefix $(BIN)/bench/,floor load)
BENCH_SQL := $(patsubst tests/bench/%.c,$(BIN)/bench/%,$(wildcard tests/bench/bench_sql.c))

$(BIN)/bench/floor: $(OBJ)/tests/bench/floor.o $(BENCH_BASE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^
$(BIN)/bench/load: $(patsubst %,$(OBJ)/tests/bench/%.o,load client hold) $(BENCH_BASE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ -lcrypto
$(BIN)/bench/bench_sql: $(OBJ)/tests/bench/bench_sql.o $(OBJ)/libproxy.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

.PHONY: bench bench-quick bench-syscalls bench-tools
bench-tools: $(BENCH_BIN)
bench: $(BIN)/sidetrack $(BENCH_BIN) $(BENCH_SQL)
	tests/bench/bench.py $(BIN) full
bench-quick: $(BIN)/sidetrack $(BENCH_BIN)
	tests/bench/bench.py $(BIN) quick
bench-syscalls: $(BIN)/sidetrack $(BENCH_BIN)
	tests/bench/bench.py $(BIN) syscalls
