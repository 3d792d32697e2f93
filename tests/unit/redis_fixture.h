/* SPDX-License-Identifier: Apache-2.0
 *
 * For test_redis.c: a redis-server of our own in a temporary folder, and links to it that are each a process' only one.
 */
#ifndef ST_TESTS_REDIS_FIXTURE_H
#define ST_TESTS_REDIS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cache_model.h"

enum { WAIT_MS = 20000, SLOT = 3, LINKS = 3 };

/* Long enough for a slow machine where a test is about what happens meanwhile; short for the model. */
static const struct cache_times slow = {.lease = 1500, .margin = 1000, .pending = 30000, .confirm = 4000,
					.serve = 3000};
static const struct cache_times quick = {.lease = 400, .margin = MODEL_LAG + 40, .pending = 3000, .confirm = 4000,
					 .serve = 3000};
static struct cache_times times;

/* --- A Redis of our own ------------------------------------------------------------------------------------------- */

static char folder[64], sock[96];
static pid_t redis_pid;
static redisContext *admin;

static void redis_start(void)
{
	char dir[80];
	snprintf(dir, sizeof dir, "%s", folder);
	redis_pid = fork();
	assert_true(redis_pid >= 0);
	if (redis_pid == 0) {
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", sock, "--dir", dir, "--save", "",
		       "--loglevel", "warning", "--logfile", "redis.log", (char *)NULL);
		_exit(127);
	}
	for (unsigned i = 0; i < WAIT_MS / 10; i++) {
		admin = redisConnectUnix(sock);
		if (admin && !admin->err)
			return;
		redisFree(admin);
		usleep(10000);
	}
	fail_msg("redis-server did not start");
}

static void redis_stop(void)
{
	redisFree(admin);
	kill(redis_pid, SIGKILL);
	waitpid(redis_pid, NULL, 0);
}

/* One command by hand; what its answer says, as text. */
static const char *redis_do(const char *format, ...)
{
	static char text[8192];
	va_list args;
	va_start(args, format);
	redisReply *reply = redisvCommand(admin, format, args);
	va_end(args);
	assert_non_null(reply);
	if (reply->type == REDIS_REPLY_INTEGER)
		snprintf(text, sizeof text, "%lld", reply->integer);
	else
		snprintf(text, sizeof text, "%s", reply->str ? reply->str : "");
	freeReplyObject(reply);
	return text;
}

/* --- Links: each of a process of its own -------------------------------------------------------------------------- */

struct result {
	struct cache_op op;
	bool done;
	enum store_found found;
	struct cache_answer answer;
	char data[4096];
};

struct proxy { /* one process with one worker */
	struct cache_slot slots[CACHE_SLOTS];
	struct redis *redis;
	struct config config;
	unsigned filled, refused, errors;
	char status[160];
};

static struct event_base *base;
static struct proxy proxies[LINKS];

static void on_found(void *arg, struct cache_call *call, enum store_found found, const struct cache_answer *answer)
{
	(void)arg;
	struct result *to = call->op ? call->op->priv : NULL;
	free(call);
	if (!to)
		return;
	to->done = true;
	to->found = found;
	to->answer = *answer;
	if (found == STORE_HIT) {
		assert_true(answer->len < sizeof to->data);
		memcpy(to->data, answer->data, answer->len);
		to->data[answer->len] = 0;
	}
}

static void on_invalidated(void *arg, struct cache_call *call)
{
	(void)arg;
	struct result *to = call->op ? call->op->priv : NULL;
	free(call);
	if (to)
		to->done = true;
}

static void on_filled(void *arg, unsigned slot, bool stored)
{
	struct proxy *p = arg;
	assert_int_equal(slot, SLOT);
	p->filled += stored;
	p->refused += !stored;
}

static void on_error(void *arg, enum stat_error kind)
{
	(void)kind;
	((struct proxy *)arg)->errors++;
}

static void on_status(void *arg, const char *text)
{
	struct proxy *p = arg;
	snprintf(p->status, sizeof p->status, "%s", text);
}

static void pump(void)
{
	for (unsigned i = 0; i < LINKS; i++)
		if (proxies[i].redis)
			redis_flush(proxies[i].redis);
	event_base_loop(base, EVLOOP_ONCE);
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

#define wait_until(condition)                                                                                          \
	do {                                                                                                           \
		for (uint64_t until_ = now_ms() + WAIT_MS; !(condition);) {                                            \
			if (now_ms() > until_)                                                                         \
				fail_msg("never happened: %s", #condition);                                            \
			pump();                                                                                        \
		}                                                                                                      \
	} while (0)

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg; /* only so that pump() never sleeps for long */
}

static void proxy_open(struct proxy *p, uint64_t timeout_ms)
{
	static char table[] = "app.token";
	memset(p, 0, sizeof *p);
	p->slots[SLOT].table = table;
	p->slots[SLOT].usable = true;
	p->config.redis_timeout_ms = timeout_ms;
	struct sockaddr_un *un = (struct sockaddr_un *)&p->config.redis.sa;
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof un->sun_path, "%s", sock);
	snprintf(p->config.redis.text, sizeof p->config.redis.text, "%s", sock);
	p->config.redis.len = sizeof *un;
	p->config.redis.is_unix = true;
	struct redis_hooks hooks = {p, on_found, on_invalidated, on_filled, on_error, on_status};
	p->redis = redis_new(base, &p->config, &times, p->slots, &hooks);
}

static void proxy_ready(struct proxy *p)
{
	wait_until(strcmp(p->status, "redis ok") == 0 && slot_serves(&p->slots[SLOT]));
}

static void proxy_close(struct proxy *p)
{
	redis_free(p->redis);
	p->redis = NULL;
}

/* Deadlines are generous where a test is not about them: machines may be slow. */
static int setup_with(void **state, const struct cache_times *t)
{
	times = *t;
	snprintf(folder, sizeof folder, "/tmp/st-redis-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(sock, sizeof sock, "%s/redis.sock", folder);
	base = event_base_new();
	struct event *beat = event_new(base, -1, EV_PERSIST, on_beat, event_self_cbarg());
	event_add(beat, &(struct timeval){0, 2000});
	*state = beat;
	redis_start();
	for (unsigned i = 0; i < LINKS; i++) {
		proxy_open(&proxies[i], 5000);
		proxy_ready(&proxies[i]);
	}
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, &slow);
}

static int setup_model(void **state)
{
	return setup_with(state, &quick);
}

static int teardown(void **state)
{
	for (unsigned i = 0; i < LINKS; i++)
		if (proxies[i].redis)
			proxy_close(&proxies[i]);
	redis_stop();
	event_free(*state);
	event_base_free(base);
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static struct cache_key key_of(const char *row, unsigned shape)
{
	struct cache_key k = {.len = (uint8_t)strlen(row)};
	memcpy(k.row, row, k.len);
	memcpy(k.shape, &shape, sizeof shape);
	return k;
}

static struct gtid gtid(uint64_t seq)
{
	return (struct gtid){.domain = 0, .server = 1, .seq = seq};
}

static struct cache_call *call_for(struct result *to)
{
	struct cache_call *call = xcalloc(1, sizeof *call);
	memset(to, 0, sizeof *to);
	to->op.priv = to;
	call->op = &to->op;
	call->slot = SLOT;
	return call;
}

static void start_look(struct proxy *p, const struct cache_key *key, struct result *to)
{
	struct cache_call *call = call_for(to);
	call->key = *key;
	redis_lookup(p->redis, call);
}

static enum store_found look(struct proxy *p, const struct cache_key *key, struct result *to)
{
	start_look(p, key, to);
	wait_until(to->done);
	return to->found;
}

static bool fill(struct proxy *p, const struct cache_key *key, uint64_t lease, const char *value, uint64_t ttl)
{
	unsigned filled = p->filled, before = p->filled + p->refused;
	redis_fill(p->redis, SLOT, key, lease, value, strlen(value), ttl);
	wait_until(p->filled + p->refused > before);
	return p->filled > filled;
}

static void start_drop(struct proxy *p, const char *row, enum cache_phase phase, struct gtid g, struct result *to)
{
	struct cache_change change = {.rule = 0, .whole = row == NULL, .nkeys = row != NULL};
	const uint64_t slots_of[CONFIG_RULES] = {1u << SLOT};
	if (row) {
		change.keys[0].len = (uint8_t)strlen(row);
		memcpy(change.keys[0].bytes, row, strlen(row));
	}
	redis_invalidate(p->redis, call_for(to), &change, 1, slots_of, phase, g);
}

static void drop(struct proxy *p, const char *row, enum cache_phase phase, struct gtid g)
{
	struct result to;
	start_drop(p, row, phase, g, &to);
	wait_until(to.done);
}

/* Looks until the fences that a fresh table starts with are gone. */
static enum store_found look_unfenced(struct proxy *p, const struct cache_key *key, struct result *to)
{
	for (uint64_t until = now_ms() + WAIT_MS;;) {
		enum store_found found = look(p, key, to);
		if (found != STORE_LEASE || !(to->answer.fence_primary || to->answer.fence.seq) || now_ms() > until)
			return found;
		redis_abandon(p->redis, SLOT, key, to->answer.lease);
	}
}

#endif
