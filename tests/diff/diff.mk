# SPDX-License-Identifier: Apache-2.0
# make diff: the same statements directly and through the proxy, tests/diff/README.md.
# DIFF_STATEMENTS, DIFF_SEED, DIFF_MODE=observe|split|cache|all|none, DIFF_WITHOUT=group,..., DIFF_DIFFERENCES, DIFF_ROUND

DIFF_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tests/diff/*.c)) $(patsubst %,$(OBJ)/proxy/%.o,base/slice base/mem \
	base/log mysql/auth mysql/handshake mysql/reply mysql/result)
$(BUILD)/support/diff: $(DIFF_OBJ)
	@mkdir -p $(@D) && echo "  link $@"
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

support: $(BUILD)/support/diff
.PHONY: diff
diff:
	tests/lab/install.sh test
	$(MAKE) -j$$(nproc) all $(BUILD)/support/diff
	DIFF_STATEMENTS=$${DIFF_STATEMENTS:-1000000} DIFF_WITHOUT=$${DIFF_WITHOUT:-} \
		DIFF_SEED=$${DIFF_SEED:-$$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')} tests/integration/test_diff.py
