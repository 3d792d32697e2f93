/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots, and the monitor's pure part: who is the primary, and what counts as applied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cluster/topology.h"
#include "service/monitor_parts.h"

static struct topology *one_replica(void)
{
	struct topology *t = xcalloc(1, sizeof *t);

	t->refs = 1;
	t->n = 1;
	t->primary = -1;
	t->max_replica_lag_us = 1000000;
	t->views[0] = (struct server_view){.role = ROLE_REPLICA, .state = SERVER_UP, .weight = 1};
	t->views[0].server = xcalloc(1, sizeof(struct server));
	t->views[0].server->refs = 1;
	atomic_store(&t->views[0].server->fresh_us, 5000000);
	return t;
}

static void a_replica_serves_while_all_is_well(void **state)
{
	struct topology *t = topology_ref(one_replica());
	struct server_view *v = &t->views[0];

	(void)state;
	assert_true(topology_readable(t, 0, 5000000));
	assert_true(topology_readable(t, 0, 5999999));
	assert_false(topology_readable(t, 0, 6000000));
	atomic_store(&v->server->failed, 1);
	assert_false(topology_readable(t, 0, 5000000));
	atomic_store(&v->server->failed, 0);
	atomic_store(&v->server->fresh_us, 0);
	assert_false(topology_readable(t, 0, 1));
	atomic_store(&v->server->fresh_us, 5000000);
	v->drained = true;
	assert_false(topology_readable(t, 0, 5000000));
	v->drained = false;
	v->weight = 0;
	assert_false(topology_readable(t, 0, 5000000));
	v->weight = 1;
	v->state = SERVER_DOWN;
	assert_false(topology_readable(t, 0, 5000000));
	v->state = SERVER_UP;
	v->role = ROLE_PRIMARY;
	assert_false(topology_readable(t, 0, 5000000));
	struct server *kept = server_ref(v->server);
	topology_unref(t);
	topology_unref(t);
	assert_int_equal(atomic_load(&kept->refs), 1);
	server_unref(kept);
}

/* One server: u up, w writable, r running replica (io and sql), s stopped replica, P or R configured role. */
static struct watch watch_of(const char *facts)
{
	struct watch w = {.checked = true, .seen_once = true};

	w.up = strchr(facts, 'u') != NULL;
	w.seen.read_only = strchr(facts, 'w') == NULL;
	w.seen.io_running = w.seen.sql_running = strchr(facts, 'r') != NULL;
	w.seen.replicates = w.seen.io_running || strchr(facts, 's') != NULL;
	w.config.role = strchr(facts, 'P') != NULL ? CONFIG_ROLE_PRIMARY :
			strchr(facts, 'R') != NULL ? CONFIG_ROLE_REPLICA :
						     CONFIG_ROLE_AUTO;
	return w;
}

static const struct {
	const char *a, *b, *c;
	int current, want;
	unsigned writable;
	const char *what;
} elections[] = {
	{"uw", "ur", "ur", -1, 0, 1, "the writable one"},
	{"ur", "uw", "ur", -1, 1, 1, "wherever it stands"},
	{"ur", "ur", "ur", -1, -1, 0, "nobody is writable"},
	{"w", "ur", "ur", 0, -1, 0, "the primary is down"},
	{"w", "uwr", "ur", 0, -1, 0, "a replica left writable is no heir"},
	{"w", "uwr", "ur", -1, -1, 0, "nor at the start, while one is down"},
	{"uw", "uwr", "ur", -1, 0, 1, "the one that does not replicate"},
	{"uwr", "uw", "ur", 0, 1, 1, "also when the other was the primary"},
	{"w", "uws", "ur", 0, 1, 1, "promoted: its replication was stopped"},
	{"u", "uw", "ur", 0, 1, 1, "promoted, the old one is read-only"},
	{"uw", "uw", "ur", 0, 0, 2, "two: the old one is kept"},
	{"uw", "uw", "ur", 1, 1, 2, "two: the old one is kept"},
	{"uw", "uw", "ur", -1, 0, 2, "two at the start: the first"},
	{"w", "uw", "ur", 0, 1, 1, "it went"},
	{"uw", "uw", "ur", 1, 1, 2, "it came back and does not get it back"},
	{"uwr", "uwr", "ur", -1, 0, 0, "a ring"},
	{"uwr", "uwr", "ur", 1, 1, 0, "a ring keeps its primary"},
	{"uwr", "wr", "ur", 1, -1, 0, "half a ring looks like a replica"},
	{"uR", "uwR", "uR", -1, -1, 0, "role = replica is obeyed"},
	{"ur", "urP", "ur", -1, 1, 0, "role = primary is obeyed"},
	{"uw", "uP", "ur", -1, 0, 1, "unless another is writable and it is not"},
};

static void the_primary_is_elected(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof elections / sizeof *elections; i++) {
		struct watch w[] = {watch_of(elections[i].a), watch_of(elections[i].b), watch_of(elections[i].c)};
		struct watch *const list[] = {&w[0], &w[1], &w[2]};
		int current = elections[i].current;
		unsigned writable;
		struct watch *p = monitor_elect(list, 3, current < 0 ? NULL : &w[current], &writable);
		int got = p == NULL ? -1 : (int)(p - w);
		if (got != elections[i].want || writable != elections[i].writable)
			fail_msg("row %u (%s): got %d, %u writable", i, elections[i].what, got, writable);
	}
}

static void roles_follow_from_what_was_seen(void **state)
{
	struct watch primary = watch_of("uw"), replica = watch_of("ur"), idle = watch_of("u"), second = watch_of("uw");
	struct watch sloppy = watch_of("uwr"), fixed = watch_of("uwR"), never = {0};

	(void)state;
	assert_int_equal(monitor_role(&primary, &primary), ROLE_PRIMARY);
	assert_int_equal(monitor_role(&replica, &primary), ROLE_REPLICA);
	assert_int_equal(monitor_role(&idle, &primary), ROLE_REPLICA);
	assert_int_equal(monitor_role(&sloppy, &primary), ROLE_REPLICA);
	assert_int_equal(monitor_role(&fixed, &primary), ROLE_REPLICA);
	assert_int_equal(monitor_role(&second, &primary), ROLE_UNKNOWN);
	assert_int_equal(monitor_role(&never, NULL), ROLE_UNKNOWN);
}

static struct gtid_pos pos_of(const char *text)
{
	struct gtid_pos pos;

	assert_int_equal(gtid_pos_parse(slice_str(text), &pos), 0);
	return pos;
}

/* The primary is server 2; server 1 was it before, up to 0-1-100. */
static void only_the_primarys_history_counts(void **state)
{
	struct known known = {0};
	struct gtid_pos out = {0}, next = pos_of("0-2-500,1-2-3"), old = pos_of("0-1-100"), lost = pos_of("0-1-101");
	struct gtid_pos local = pos_of("0-3-90"), over = {.overflow = true};

	(void)state;
	known_add(&known, "0-1-100,0-2-120,1-2-1");
	known_filter(&known, 2, &lost, &out);
	known_filter(&known, 2, &local, &out);
	assert_int_equal(out.n, 0);
	known_filter(&known, 2, &old, &out);
	assert_true(gtid_pos_covers_pos(&out, &old));
	known_filter(&known, 2, &next, &out); /* newer than the last sample of the primary */
	assert_true(gtid_pos_covers_pos(&out, &next));
	known_filter(&known, 2, &over, &out);
	assert_true(out.overflow);
}

static void own_writes_are_told_from_replicated_ones(void **state)
{
	struct observation seen = {.server_id = 1};
	struct gtid_pos out = {0};

	(void)state;
	seen.binlog = pos_of("0-1-100,1-2-7");
	own_tail(&seen, &out);
	assert_int_equal(out.n, 1);
	assert_int_equal(out.id[0].seq, 100);
}

static void long_histories_are_cut(void **state)
{
	struct known known = {0};
	char text[32];

	(void)state;
	for (unsigned i = 0; i < KNOWN + 10; i++) {
		snprintf(text, sizeof text, "0-%u-5,bad,", i);
		known_add(&known, text);
	}
	assert_int_equal(known.n, KNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_replica_serves_while_all_is_well),
		cmocka_unit_test(the_primary_is_elected),
		cmocka_unit_test(roles_follow_from_what_was_seen),
		cmocka_unit_test(only_the_primarys_history_counts),
		cmocka_unit_test(own_writes_are_told_from_replicated_ones),
		cmocka_unit_test(long_histories_are_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
