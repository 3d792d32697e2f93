# SPDX-License-Identifier: Apache-2.0
# Sidetrack. `make run` shows it at work, `make test` proves it; both install what is missing. See README.md.

PREFIX ?= /usr/local
VARIANT ?= release
CC := gcc
BUILD := build
OBJ := $(BUILD)/obj/$(VARIANT)
BIN := $(if $(filter release,$(VARIANT)),$(BUILD),$(BUILD)/$(VARIANT))

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla
DEPS := libevent hiredis openssl libmariadb sqlite3 libxxhash jansson
HAVE := $(shell pkg-config --exists $(DEPS) 2>/dev/null && echo yes)
ifeq ($(HAVE),yes)
DEP_CFLAGS := $(shell pkg-config --cflags $(DEPS))
DEP_LIBS := $(shell pkg-config --libs $(DEPS))
else ifeq ($(filter run test tsan lint clean,$(MAKECMDGOALS)),)
$(error Libraries to build with are missing. `make run` and `make test` install them, or: tests/lab/install.sh run)
endif
OPT.release := -O2 -g -flto=auto
OPT.asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
OPT.tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
OPT.fuzz := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
ifeq ($(VARIANT),fuzz)
CC := clang
WARN := -w # gcc has the say
endif
Q := $(if $(V),,@)# make V=1 shows the commands
CFLAGS += -std=gnu11 -D_GNU_SOURCE $(OPT.$(VARIANT)) $(WARN) -Iproxy -pthread $(DEP_CFLAGS)
LDLIBS += $(DEP_LIBS) -pthread -lm

PROXY_SRC := $(filter-out proxy/main.c proxy/tools/%,$(wildcard proxy/*/*.c))
PROXY_OBJ := $(PROXY_SRC:%.c=$(OBJ)/%.o)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(OBJ)/unit/%)

.PHONY: all run install clean
all: $(BIN)/sidetrack $(BIN)/sidetrackctl

# A make of its own compiles: the headers that this one looked for may only just have been installed.
run:
	tests/lab/install.sh run
	$(MAKE) -j$$(nproc) all
	tests/lab/run.sh

$(BIN)/sidetrack: $(OBJ)/proxy/main.o $(OBJ)/libproxy.a
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(BIN)/sidetrackctl: $(OBJ)/proxy/tools/sidetrackctl.o $(OBJ)/libproxy.a
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)
$(OBJ)/libproxy.a: $(PROXY_OBJ)
	@rm -f $@
	$(Q)gcc-ar rcs $@ $^
$(OBJ)/%.o: %.c
	@mkdir -p $(@D) && echo "  cc $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(OBJ)/unit/%: $(OBJ)/tests/unit/%.o $(OBJ)/libproxy.a
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# One unit test by name: make unit-test_slice
unit-%: $(OBJ)/unit/%
	$<

.SECONDARY: # objects are kept

include $(wildcard preload/preload.mk tests/tests.mk tests/bench/bench.mk tests/diff/diff.mk)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/sidetrack $(DESTDIR)$(PREFIX)/share/doc/sidetrack/examples
	install $(addprefix $(BIN)/,sidetrack sidetrackctl sidetrack-run) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(wildcard $(BIN)/libsidetrack*.so) $(DESTDIR)$(PREFIX)/lib/sidetrack
	install -m 644 $(wildcard conf/*) $(DESTDIR)$(PREFIX)/share/doc/sidetrack/examples
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 644 $(wildcard docs/man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(wildcard docs/man/*.8) $(DESTDIR)$(PREFIX)/share/man/man8
clean:
	rm -rf $(BUILD)

-include $(shell test -d $(BUILD) && find $(BUILD) -name '*.d' 2>/dev/null)
