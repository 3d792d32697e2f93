# SPDX-License-Identifier: Apache-2.0
# Sidetrack. `make run` shows it at work, `make test` proves it; both install what is missing. See README.md.

PREFIX ?= /usr/local
VARIANT ?= release
CC := gcc
BUILD := build
OBJ := $(BUILD)/obj/$(VARIANT)
BIN := $(if $(filter release,$(VARIANT)),$(BUILD),$(BUILD)/$(VARIANT))

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla
DEPS := libevent libevent_pthreads hiredis openssl libmariadb sqlite3 inih zlib libxxhash jansson
HAVE := $(shell pkg-config --exists $(DEPS) 2>/dev/null && echo yes)
ifeq ($(HAVE),yes)
DEP_CFLAGS := $(shell pkg-config --cflags $(DEPS))
DEP_LIBS := $(shell pkg-config --libs $(DEPS))
endif
OPT.release := -O2 -g
OPT.asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
OPT.tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
CFLAGS += -std=gnu11 -D_GNU_SOURCE $(OPT.$(VARIANT)) $(WARN) -Iproxy -pthread $(DEP_CFLAGS)
LDLIBS += $(DEP_LIBS) -pthread -lm

PROXY_SRC := $(filter-out proxy/main.c proxy/tools/%,$(wildcard proxy/*/*.c))
PROXY_OBJ := $(PROXY_SRC:%.c=$(OBJ)/%.o)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(OBJ)/unit/%)

.PHONY: all run test check bench soak tsan fuzz lint install clean deps
all: $(BIN)/sidetrack $(BIN)/sidetrackctl

$(BIN)/sidetrack: $(OBJ)/proxy/main.o $(OBJ)/libproxy.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BIN)/sidetrackctl: $(OBJ)/proxy/tools/sidetrackctl.o $(OBJ)/libproxy.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(OBJ)/libproxy.a: $(PROXY_OBJ)
	@rm -f $@
	ar rcs $@ $^
$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(OBJ)/unit/%: $(OBJ)/tests/unit/%.o $(OBJ)/libproxy.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# One unit test by name: make unit-test_slice
unit-%: $(OBJ)/unit/%
	$<
unit: $(UNIT_BIN)
	@set -e; for t in $(UNIT_BIN); do echo "== $$t"; $$t; done

include $(wildcard preload/preload.mk tests/tests.mk tests/bench/bench.mk)

clean:
	rm -rf $(BUILD)

-include $(shell test -d $(BUILD) && find $(BUILD) -name '*.d' 2>/dev/null)
