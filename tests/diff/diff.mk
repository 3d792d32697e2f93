# SPDX-License-Identifier: Apache-2.0
# make diff: the same statements directly and through the proxy, tests/diff/README.md.
# DIFF_STATEMENTS, DIFF_SEED, DIFF_MODE=observe|split|cache|all|none, DIFF_WITHOUT=group,..., DIFF_DIFFERENCES, DIFF_ROUND

DIFF_STATEMENTS ?= 1000000
export DIFF_STATEMENTS DIFF_SEED DIFF_MODE DIFF_WITHOUT DIFF_DIFFERENCES DIFF_ROUND

$(BUILD)/support/diff: $(patsubst %.c,$(BUILD)/obj/release/%.o,$(wildcard tests/diff/*.c)) $(BUILD)/obj/release/libproxy.a
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

support: $(BUILD)/support/diff
.PHONY: diff
diff:
	tests/lab/install.sh test
	$(MAKE) -j$$(nproc) all $(BUILD)/support/diff
	tests/integration/test_diff.py
