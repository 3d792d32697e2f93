/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker's link to Redis. Commands of a turn are written at once; each has its place in a queue in which the
 * replies are matched, and a deadline. What is late is answered without Redis; its reply still has its place.
 *
 *   lookup:  [GET epoch]  HGET row d<shape>   -> the entry is of that epoch, made in this very Redis: a hit
 *                                             -> else the look script: a hit after all, a lease, or neither
 *
 * The epoch is asked for once in a batch, before the batch's HGETs: whoever changed it later did so after those lookups
 * began. An invalidation is confirmed, or late (the slot's unconfirmed count stands until the reply is there), or lost
 * (the slot is owed an epoch); in both of these nobody in this process is served from the slot.
 */
#include <errno.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cache/redis_scripts.h"
#include "cache/store.h"

enum {
	EPOCH = 16, RUN_ID = 40,
	HELLO_US = 1000000,      /* connect and handshake */
	DEAD_US = 3000000,       /* no reply for so long: another connection may do better */
	TICK_US = 1000000,
	BACKOFF_MIN_US = 100000, BACKOFF_MAX_US = 2000000,
	BACKLOG_MAX = 16 << 20,  /* bytes that Redis does not take */
	OUT_KEEP = 1 << 20
};

enum script { LOOK, FILL, ABANDON, DROP, WHOLE, SCRIPTS };
static const char *const script_text[SCRIPTS] = {SCRIPT_LOOK, SCRIPT_FILL, SCRIPT_ABANDON, SCRIPT_DROP, SCRIPT_WHOLE};

enum item_kind {
	ITEM_OK,     /* of the handshake: anything but an error */
	ITEM_SCRIPT, /* of the handshake: `slot` is the script */
	ITEM_INFO,
	ITEM_PING, ITEM_EPOCH, ITEM_GET, ITEM_LOOK, ITEM_FILL, ITEM_ABANDON,
	ITEM_INVALIDATE,
	ITEM_SETTLE  /* pays what is owed to a slot */
};

struct item { /* one command whose reply is awaited */
	uint8_t kind, slot;
	bool late;
	uint64_t deadline;
	uint64_t owed; /* ITEM_SETTLE: what it pays */
	struct cache_call *call;
};

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_HELLO, LINK_READY };

struct redis {
	struct event_base *base;
	struct addr addr;
	char *user, *password;
	unsigned db;
	uint64_t timeout;
	struct cache_times times;
	struct cache_slot *slots;
	struct redis_hooks hooks;

	enum link_state state;
	int fd;
	struct event *readable, *writable, *deadline, *retry, *tick;
	redisReader *reader;
	struct buf out;
	const char *doomed; /* why the connection must go, once it is safe */
	uint64_t backoff;
	bool slow, pinging; /* the breaker is open; its probe is under way */
	bool reading;       /* replies are being handed out: what sessions add is sent after the last */

	struct item *item;  /* ring of `cap`, a power of two */
	uint64_t head, tail, cap;
	uint64_t scan;      /* items before it are late or answered */

	char run_id[RUN_ID + 1], writer[17], sha[SCRIPTS][41];
	bool may_evict;
	uint64_t identity, counter;
	uint64_t batch, asked[CACHE_SLOTS]; /* the batch in which a slot's epoch was asked for */
	bool has_epoch[CACHE_SLOTS], settling[CACHE_SLOTS];
	uint8_t epoch[CACHE_SLOTS][EPOCH];
};

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void arm(struct event *ev, uint64_t us)
{
	event_add(ev, &(struct timeval){(time_t)(us / 1000000), (suseconds_t)(us % 1000000)});
}

/* Never the same in two links: leases and epochs of all proxies are told apart by it. */
static uint64_t unique(struct redis *r)
{
	uint64_t x = r->identity + ++r->counter * UINT64_C(0x9e3779b97f4a7c15);
	return x ? x : unique(r);
}

/* --- Commands: RESP by hand, for the few that run for each statement ------------------------------------------------ */

static void put_count(struct buf *b, char sigil, size_t n)
{
	char text[24], *p = text + sizeof text;
	*--p = '\n';
	*--p = '\r';
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	*--p = sigil;
	buf_put(b, p, (size_t)(text + sizeof text - p));
}

static void put_bulk(struct buf *b, const void *p, size_t n)
{
	put_count(b, '$', n);
	buf_put(b, p, n);
	buf_put(b, "\r\n", 2);
}

static void put_word(struct buf *b, const char *s)
{
	put_bulk(b, s, strlen(s));
}

static void put_number(struct buf *b, uint64_t n)
{
	char text[24];
	put_bulk(b, text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)n));
}

static void put_token(struct buf *b, uint64_t token)
{
	char text[17];
	snprintf(text, sizeof text, "%016llx", (unsigned long long)token);
	put_bulk(b, text, 16);
}

static void put_row_key(struct buf *b, const struct cache_slot *slot, const uint8_t *row, size_t len, const char *suffix)
{
	size_t table = strlen(slot->table), tail = strlen(suffix);
	put_count(b, '$', 4 + table + 1 + len + 1 + tail);
	buf_put(b, "st:{", 4);
	buf_put(b, slot->table, table);
	buf_put(b, ":", 1);
	buf_put(b, row, len);
	buf_put(b, "}", 1);
	buf_put(b, suffix, tail);
	buf_put(b, "\r\n", 2);
}

static void put_table_key(struct buf *b, const struct cache_slot *slot, char suffix)
{
	size_t table = strlen(slot->table);
	put_count(b, '$', 4 + table + 2);
	buf_put(b, "st:{", 4);
	buf_put(b, slot->table, table);
	buf_put(b, "}", 1);
	buf_put(b, &suffix, 1);
	buf_put(b, "\r\n", 2);
}

static void put_script(struct redis *r, enum script script, unsigned keys, unsigned args)
{
	put_count(&r->out, '*', 3 + keys + args);
	put_word(&r->out, "EVALSHA");
	put_bulk(&r->out, r->sha[script], 40);
	put_number(&r->out, keys);
}

static void put_epoch(struct redis *r)
{
	uint8_t text[EPOCH + RUN_ID];
	uint64_t n = unique(r);
	memcpy(text, &r->identity, 8);
	memcpy(text + 8, &n, 8);
	memcpy(text + EPOCH, r->run_id, RUN_ID);
	put_bulk(&r->out, text, sizeof text);
}

/* --- The queue of what is awaited --------------------------------------------------------------------------------------- */

static struct item *item_at(struct redis *r, uint64_t i)
{
	return &r->item[i & (r->cap - 1)];
}

static struct item *expect_until(struct redis *r, enum item_kind kind, unsigned slot, struct cache_call *call, uint64_t deadline)
{
	if (r->tail - r->head == r->cap) {
		struct item *bigger = xcalloc(r->cap * 2, sizeof *bigger);
		for (uint64_t i = r->head; i < r->tail; i++)
			bigger[i & (r->cap * 2 - 1)] = *item_at(r, i);
		free(r->item);
		r->item = bigger;
		r->cap *= 2;
	}
	struct item *item = item_at(r, r->tail++);
	*item = (struct item){.kind = (uint8_t)kind, .slot = (uint8_t)slot, .call = call, .deadline = deadline};
	if (!event_pending(r->deadline, EV_TIMEOUT, NULL))
		arm(r->deadline, r->timeout);
	return item;
}

static struct item *expect(struct redis *r, enum item_kind kind, unsigned slot, struct cache_call *call)
{
	return expect_until(r, kind, slot, call, now_us() + r->timeout);
}

static void answer_off(struct redis *r, struct cache_call *call)
{
	r->hooks.found(r->hooks.arg, call, STORE_OFF, &(struct cache_answer){0});
}

/* Takes one of an invalidation's commands off its count; a call that has none left goes to the list. */
static void take_off(struct cache_call *call, struct cache_call **list)
{
	if (call && --call->left == 0) {
		call->next = *list;
		*list = call;
	}
}

static bool is_lookup(const struct item *item)
{
	return item->kind == ITEM_GET || item->kind == ITEM_LOOK;
}

/* Takes item's call away without a reply. Lists are answered when the whole queue is consistent, because sessions ask
 * for more from their callbacks. */
static void give_up(struct item *item, struct cache_call **lookups, struct cache_call **invalidations)
{
	struct cache_call *call = item->call;
	item->call = NULL;
	if (call && is_lookup(item)) {
		call->next = *lookups;
		*lookups = call;
	} else {
		take_off(call, invalidations);
	}
}

static void answer_given_up(struct redis *r, struct cache_call *lookups, struct cache_call *invalidations)
{
	struct cache_call *next;
	for (; invalidations; invalidations = next) {
		next = invalidations->next;
		r->hooks.invalidated(r->hooks.arg, invalidations);
	}
	for (; lookups; lookups = next) {
		next = lookups->next;
		answer_off(r, lookups);
	}
}

/* --- Connection ------------------------------------------------------------------------------------------------------------ */

static void say_status(struct redis *r, const char *why)
{
	char text[160];
	snprintf(text, sizeof text, why ? "redis down: %s" : "redis ok", why);
	r->hooks.status(r->hooks.arg, text);
}

static void later(struct redis *r)
{
	r->backoff = r->backoff * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US : r->backoff * 2;
	arm(r->retry, r->backoff);
}

static void link_close(struct redis *r)
{
	event_del(r->readable);
	event_del(r->writable);
	event_del(r->deadline);
	event_del(r->retry);
	event_del(r->tick);
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	if (r->reader)
		redisReaderFree(r->reader);
	r->reader = NULL;
	r->state = LINK_DOWN;
	r->doomed = NULL;
	r->slow = r->pinging = false;
	buf_fini(&r->out);
	r->out = (struct buf){0};
	r->batch++;
	memset(r->settling, 0, sizeof r->settling);
}

/* The connection is gone: what Redis may not have got is owed before anyone hears of it. */
static void link_lost(struct redis *r, const char *why)
{
	struct cache_call *lookups = NULL, *invalidations = NULL;
	if (r->state == LINK_READY)
		log_warn("redis %s: %s", r->addr.text, why);
	say_status(r, why);
	r->hooks.error(r->hooks.arg, STAT_ERR_STORE);
	link_close(r);
	for (; r->head < r->tail; r->head++) {
		struct item *item = item_at(r, r->head);
		if (item->kind == ITEM_INVALIDATE) {
			r->slots[item->slot].owed++;
			r->slots[item->slot].unconfirmed -= item->late;
		}
		give_up(item, &lookups, &invalidations);
	}
	r->scan = r->head;
	later(r);
	answer_given_up(r, lookups, invalidations);
}

static void on_writable(evutil_socket_t fd, short what, void *arg);

static void hello(struct redis *r)
{
	uint64_t deadline = now_us() + HELLO_US;
	r->state = LINK_HELLO;
	r->reader = redisReaderCreate();
	event_add(r->readable, NULL);
	if (r->password) {
		put_count(&r->out, '*', r->user ? 3 : 2);
		put_word(&r->out, "AUTH");
		if (r->user)
			put_word(&r->out, r->user);
		put_word(&r->out, r->password);
		expect_until(r, ITEM_OK, 0, NULL, deadline);
	}
	if (r->db) {
		put_count(&r->out, '*', 2);
		put_word(&r->out, "SELECT");
		put_number(&r->out, r->db);
		expect_until(r, ITEM_OK, 0, NULL, deadline);
	}
	put_count(&r->out, '*', 1);
	put_word(&r->out, "INFO");
	expect_until(r, ITEM_INFO, 0, NULL, deadline);
	for (unsigned i = 0; i < SCRIPTS; i++) {
		put_count(&r->out, '*', 3);
		put_word(&r->out, "SCRIPT");
		put_word(&r->out, "LOAD");
		put_word(&r->out, script_text[i]);
		expect_until(r, ITEM_SCRIPT, i, NULL, deadline);
	}
	redis_flush(r);
}

static void link_open(struct redis *r)
{
	r->fd = r->addr.len ? socket(r->addr.sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
	if (r->fd < 0) {
		link_lost(r, r->addr.len ? strerror(errno) : "its address could not be resolved");
		return;
	}
	if (!r->addr.is_unix)
		setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	event_assign(r->readable, r->base, r->fd, EV_READ | EV_PERSIST, event_get_callback(r->readable), r);
	event_assign(r->writable, r->base, r->fd, EV_WRITE, on_writable, r);
	r->state = LINK_CONNECTING;
	arm(r->retry, HELLO_US);
	if (connect(r->fd, (struct sockaddr *)&r->addr.sa, r->addr.len) == 0)
		hello(r);
	else if (errno == EINPROGRESS)
		event_add(r->writable, NULL);
	else
		link_lost(r, strerror(errno));
}

void redis_flush(struct redis *r)
{
	if (r->reading)
		return;
	r->batch++;
	size_t sent = 0;
	while (sent < r->out.len) {
		ssize_t n = send(r->fd, r->out.data + sent, r->out.len - sent, MSG_NOSIGNAL);
		if (n > 0) {
			sent += (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN) {
			link_lost(r, strerror(errno));
			return;
		}
		break;
	}
	if (sent == r->out.len && r->out.cap > OUT_KEEP) {
		buf_fini(&r->out);
		r->out = (struct buf){0};
	} else if (sent == r->out.len) {
		buf_clear(&r->out);
	} else {
		buf_consume(&r->out, sent);
		event_add(r->writable, NULL);
		if (r->out.len > BACKLOG_MAX)
			link_lost(r, "it takes no commands");
	}
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct redis *r = arg;
	if (r->state != LINK_CONNECTING) {
		redis_flush(r);
		return;
	}
	int error = 0;
	socklen_t len = sizeof error;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		link_lost(r, strerror(error));
	else
		hello(r);
}

/* --- Paying what is owed ------------------------------------------------------------------------------------------------------ */

static void settle(struct redis *r, unsigned i)
{
	struct cache_slot *slot = &r->slots[i];
	uint64_t owed = slot->owed;
	if (r->state != LINK_READY || owed == slot->paid || r->settling[i])
		return;
	put_script(r, WHOLE, 2, 7);
	put_table_key(&r->out, slot, 'e');
	put_table_key(&r->out, slot, 'F');
	put_word(&r->out, "A");
	for (unsigned arg = 0; arg < 4; arg++) /* no writer, no GTID: the primary only for the margin */
		put_word(&r->out, "");
	put_number(&r->out, r->times.margin);
	put_epoch(r);
	expect(r, ITEM_SETTLE, i, NULL)->owed = owed;
	r->settling[i] = true;
}

static void settle_all(struct redis *r)
{
	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		settle(r, i);
}

static void settled(struct redis *r, const struct item *item, bool ok)
{
	struct cache_slot *slot = &r->slots[item->slot];
	r->settling[item->slot] = false;
	if (!ok)
		return; /* the tick tries again */
	uint64_t paid = slot->paid;
	while (paid < item->owed && !atomic_compare_exchange_weak(&slot->paid, &paid, item->owed))
		;
	settle(r, item->slot);
}

/* --- Deadlines and the breaker ------------------------------------------------------------------------------------------------ */

static void send_ping(struct redis *r)
{
	put_count(&r->out, '*', 1);
	put_word(&r->out, "PING");
	expect(r, ITEM_PING, 0, NULL);
	r->pinging = true;
}

/* Everything that is due goes on without Redis, and nothing more is asked until a probe is answered in time. */
static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct redis *r = arg;
	struct cache_call *lookups = NULL, *invalidations = NULL;
	uint64_t now = now_us();
	if (r->scan < r->head)
		r->scan = r->head;
	for (; r->scan < r->tail; r->scan++) {
		struct item *item = item_at(r, r->scan);
		if (item->late)
			continue;
		if (item->deadline > now) {
			arm(r->deadline, item->deadline - now);
			break;
		}
		item->late = true;
		if (item->kind == ITEM_INVALIDATE)
			r->slots[item->slot].unconfirmed++;
		give_up(item, &lookups, &invalidations);
		if (r->state == LINK_READY && !r->slow) {
			r->slow = true;
			r->backoff = BACKOFF_MIN_US;
			r->hooks.error(r->hooks.arg, STAT_ERR_STORE_TIMEOUT);
			say_status(r, "it is slow");
			arm(r->retry, r->backoff);
		}
	}
	answer_given_up(r, lookups, invalidations);
	if (r->state == LINK_READY)
		redis_flush(r);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct redis *r = arg;
	if (r->state == LINK_DOWN) {
		link_open(r);
		return;
	}
	if (r->state != LINK_READY) {
		link_lost(r, "no answer to the handshake");
		return;
	}
	if (r->head < r->tail && now_us() > item_at(r, r->head)->deadline + DEAD_US) {
		link_lost(r, "no answer");
		return;
	}
	if (!r->pinging)
		send_ping(r);
	later(r);
	redis_flush(r);
}

static void ping_answered(struct redis *r, const struct item *item)
{
	r->pinging = false;
	if (item->late)
		return; /* on_retry sends the next */
	r->slow = false;
	r->backoff = BACKOFF_MIN_US;
	event_del(r->retry);
	say_status(r, NULL);
}

/* Each second: what Redis is now, and what other threads found owed. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct redis *r = arg;
	arm(r->tick, TICK_US);
	if (r->state != LINK_READY || r->slow)
		return;
	put_count(&r->out, '*', 1);
	put_word(&r->out, "INFO");
	expect(r, ITEM_INFO, 0, NULL);
	settle_all(r);
	redis_flush(r);
}

/* --- Replies --------------------------------------------------------------------------------------------------------------------- */

/* The value of a line "name:value" in INFO's text; "" when it is not there. */
static void info_value(const char *info, const char *name, char *out, size_t cap)
{
	size_t n = strlen(name);
	*out = 0;
	for (const char *line = info; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) == 0 && line[n] == ':') {
			snprintf(out, cap, "%.*s", (int)strcspn(line + n + 1, "\r\n"), line + n + 1);
			return;
		}
	}
}

static void got_info(struct redis *r, const redisReply *reply)
{
	char run_id[64], role[32], limit[32], policy[32];
	if (reply->type != REDIS_REPLY_STRING) {
		r->doomed = "it does not answer INFO";
		return;
	}
	info_value(reply->str, "run_id", run_id, sizeof run_id);
	info_value(reply->str, "role", role, sizeof role);
	info_value(reply->str, "maxmemory", limit, sizeof limit);
	info_value(reply->str, "maxmemory_policy", policy, sizeof policy);
	if (strlen(run_id) != RUN_ID)
		r->doomed = "it tells no run_id";
	else if (strcmp(role, "master") != 0)
		r->doomed = "it is a replica";
	else if (r->state == LINK_READY && strcmp(run_id, r->run_id) != 0)
		r->doomed = "another Redis answers";
	memcpy(r->run_id, run_id, sizeof r->run_id);
	r->run_id[RUN_ID] = 0;
	r->may_evict = strcmp(limit, "0") != 0 && strcmp(policy, "noeviction") != 0;
}

static void got_script(struct redis *r, const struct item *item, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_STRING || reply->len != 40) {
		r->doomed = "it takes no scripts";
		return;
	}
	memcpy(r->sha[item->slot], reply->str, 41);
	if (item->slot != SCRIPTS - 1)
		return;
	r->state = LINK_READY;
	r->backoff = BACKOFF_MIN_US;
	event_del(r->retry);
	event_del(r->deadline); /* it stood for the handshake's */
	arm(r->tick, TICK_US);
	log_info("redis %s: connected%s", r->addr.text,
		 r->may_evict ? "; it may evict keys (maxmemory-policy), so entries are filled from the primary only" : "");
	say_status(r, NULL);
	settle_all(r);
}

static void got_epoch(struct redis *r, const struct item *item, const redisReply *reply)
{
	r->has_epoch[item->slot] = reply->type == REDIS_REPLY_STRING && reply->len == EPOCH + RUN_ID &&
				   memcmp(reply->str + EPOCH, r->run_id, RUN_ID) == 0;
	if (r->has_epoch[item->slot])
		memcpy(r->epoch[item->slot], reply->str, EPOCH);
}

static void found_hit(struct redis *r, struct cache_call *call, const char *value, size_t len)
{
	struct cache_answer answer = {.data = (const uint8_t *)value + EPOCH, .len = len - EPOCH};
	r->hooks.found(r->hooks.arg, call, STORE_HIT, &answer);
}

static void got_entry(struct redis *r, const struct item *item, const redisReply *reply)
{
	struct cache_call *call = item->call;
	if (!call)
		return;
	if (!slot_serves(&r->slots[item->slot]))
		answer_off(r, call);
	else if (reply->type == REDIS_REPLY_STRING && reply->len >= EPOCH && r->has_epoch[item->slot] &&
		 memcmp(reply->str, r->epoch[item->slot], EPOCH) == 0)
		found_hit(r, call, reply->str, (size_t)reply->len);
	else
		redis_look_again(r, call);
}

static uint64_t reply_number(const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_INTEGER)
		return (uint64_t)reply->integer;
	return reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
}

static void got_look(struct redis *r, const struct item *item, const redisReply *reply)
{
	static const enum store_found kinds[] = {STORE_OFF, STORE_HIT, STORE_LEASE, STORE_BUSY, STORE_READ};
	struct cache_call *call = item->call;
	struct cache_answer answer = {.fill_primary = r->may_evict};
	bool array = reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2;
	uint64_t kind = array ? reply_number(reply->element[0]) : 0;
	if (!call) /* a lease that nobody waits for any more ends by itself */
		return;
	if (!slot_serves(&r->slots[item->slot]) || kind < 1 || kind > 4) {
		answer_off(r, call);
	} else if (kind == 1) {
		const redisReply *value = reply->element[1];
		if (value->type == REDIS_REPLY_STRING && value->len >= EPOCH)
			found_hit(r, call, value->str, (size_t)value->len);
		else
			answer_off(r, call);
	} else if (reply->elements == 5) {
		answer.fence_primary = reply_number(reply->element[1]) != 0;
		answer.fence.domain = (uint32_t)reply_number(reply->element[2]);
		answer.fence.server = (uint32_t)reply_number(reply->element[3]);
		answer.fence.seq = reply_number(reply->element[4]);
		answer.lease = call->answer.lease;
		r->hooks.found(r->hooks.arg, call, kinds[kind], &answer);
	} else {
		answer_off(r, call);
	}
}

/* Confirmed or failed, before anyone hears of it. */
static void got_invalidation(struct redis *r, const struct item *item, const redisReply *reply)
{
	struct cache_slot *slot = &r->slots[item->slot];
	struct cache_call *invalidations = NULL;
	if (reply->type == REDIS_REPLY_ERROR) {
		slot->owed++;
		settle(r, item->slot);
	}
	slot->unconfirmed -= item->late;
	take_off(item->call, &invalidations);
	answer_given_up(r, NULL, invalidations);
}

/* Errors after which this connection is of no use: scripts flushed, demoted to a replica, still loading, ACLs changed. */
static void look_at_error(struct redis *r, const struct item *item, const redisReply *reply)
{
	static const char *const fatal[] = {"NOSCRIPT", "READONLY", "LOADING", "NOAUTH", "NOPERM", "MISCONF", "MASTERDOWN"};
	static const char *const why[] = {"its scripts were flushed", "it became a replica", "it is loading its data",
					  "it wants a password", "the account lacks a permission",
					  "it refuses writes (MISCONF)", "it became a replica"};
	r->hooks.error(r->hooks.arg, STAT_ERR_STORE);
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		if (strncmp(reply->str, fatal[i], strlen(fatal[i])) == 0)
			r->doomed = why[i];
	if (!r->doomed && (item->kind == ITEM_OK || item->kind == ITEM_SCRIPT || item->kind == ITEM_INFO))
		r->doomed = "it refuses the handshake (user, password, database?)";
	log_debug("redis %s: %s", r->addr.text, reply->str);
}

static void got_reply(struct redis *r, const struct item *item, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		look_at_error(r, item, reply);
	switch ((enum item_kind)item->kind) {
	case ITEM_OK:
	case ITEM_ABANDON:
		break;
	case ITEM_SCRIPT:
		if (!r->doomed)
			got_script(r, item, reply);
		break;
	case ITEM_INFO:
		if (!r->doomed)
			got_info(r, reply);
		break;
	case ITEM_PING:
		ping_answered(r, item);
		break;
	case ITEM_EPOCH:
		got_epoch(r, item, reply);
		break;
	case ITEM_GET:
		got_entry(r, item, reply);
		break;
	case ITEM_LOOK:
		got_look(r, item, reply);
		break;
	case ITEM_FILL:
		r->hooks.filled(r->hooks.arg, item->slot, reply->type == REDIS_REPLY_INTEGER && reply->integer == 1);
		break;
	case ITEM_INVALIDATE:
		got_invalidation(r, item, reply);
		break;
	case ITEM_SETTLE:
		settled(r, item, reply->type == REDIS_REPLY_INTEGER);
		break;
	}
}

/* False when the connection is gone. */
static bool take_replies(struct redis *r)
{
	void *reply;
	r->reading = true;
	while (!r->doomed && redisReaderGetReply(r->reader, &reply) == REDIS_OK && reply) {
		if (r->head == r->tail) {
			r->doomed = "it talks without being asked";
		} else {
			struct item item = *item_at(r, r->head++);
			got_reply(r, &item, reply);
		}
		freeReplyObject(reply);
	}
	r->reading = false;
	if (!r->doomed && r->reader->err)
		r->doomed = "its replies make no sense";
	if (r->doomed)
		link_lost(r, r->doomed);
	return r->state != LINK_DOWN;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct redis *r = arg;
	char bytes[32768];
	ssize_t n = read(fd, bytes, sizeof bytes);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		link_lost(r, n ? strerror(errno) : "it closed the connection");
		return;
	}
	if (redisReaderFeed(r->reader, bytes, (size_t)n) != REDIS_OK)
		r->doomed = "its replies make no sense";
	if (take_replies(r))
		redis_flush(r);
}

/* --- The store's operations -------------------------------------------------------------------------------------------------------- */

struct redis *redis_new(struct event_base *base, const struct config *config, const struct cache_times *times,
			struct cache_slot *slots, const struct redis_hooks *hooks)
{
	struct redis *r = xcalloc(1, sizeof *r);
	r->base = base;
	r->addr = config->redis;
	r->user = config->redis_user ? xstrdup(config->redis_user) : NULL;
	r->password = config->redis_password ? xstrdup(config->redis_password) : NULL;
	r->db = config->redis_db;
	r->timeout = config->redis_timeout_ms * 1000;
	r->times = *times;
	r->slots = slots;
	r->hooks = *hooks;
	r->fd = -1;
	r->cap = 64;
	r->item = xcalloc(r->cap, sizeof *r->item);
	r->batch = 1;
	r->backoff = BACKOFF_MIN_US / 2;
	if (getrandom(&r->identity, sizeof r->identity, 0) != sizeof r->identity)
		abort();
	snprintf(r->writer, sizeof r->writer, "%016llx", (unsigned long long)r->identity);
	r->readable = event_new(base, -1, 0, on_readable, r);
	r->writable = event_new(base, -1, 0, on_writable, r);
	r->deadline = evtimer_new(base, on_deadline, r);
	r->retry = evtimer_new(base, on_retry, r);
	r->tick = evtimer_new(base, on_tick, r);
	link_open(r);
	return r;
}

void redis_free(struct redis *r)
{
	link_lost(r, "the store was closed");
	link_close(r);
	event_free(r->readable);
	event_free(r->writable);
	event_free(r->deadline);
	event_free(r->retry);
	event_free(r->tick);
	free(r->item);
	free(r->user);
	if (r->password)
		explicit_bzero(r->password, strlen(r->password));
	free(r->password);
	free(r);
}

void redis_lookup(struct redis *r, struct cache_call *call)
{
	struct cache_slot *slot = &r->slots[call->slot];
	if (r->state != LINK_READY || r->slow || !slot_serves(slot)) {
		settle(r, call->slot);
		answer_off(r, call);
		return;
	}
	if (r->asked[call->slot] != r->batch) {
		r->asked[call->slot] = r->batch;
		put_count(&r->out, '*', 2);
		put_word(&r->out, "GET");
		put_table_key(&r->out, slot, 'e');
		expect(r, ITEM_EPOCH, call->slot, NULL);
	}
	uint8_t field[1 + CACHE_SHAPE] = {'d'};
	memcpy(field + 1, call->key.shape, CACHE_SHAPE);
	put_count(&r->out, '*', 3);
	put_word(&r->out, "HGET");
	put_row_key(&r->out, slot, call->key.row, call->key.len, "");
	put_bulk(&r->out, field, sizeof field);
	expect(r, ITEM_GET, call->slot, call);
}

void redis_look_again(struct redis *r, struct cache_call *call)
{
	struct cache_slot *slot = &r->slots[call->slot];
	if (r->state != LINK_READY || r->slow || !slot_serves(slot)) {
		answer_off(r, call);
		return;
	}
	call->answer.lease = unique(r);
	put_script(r, LOOK, 4, 7);
	put_row_key(&r->out, slot, call->key.row, call->key.len, "");
	put_row_key(&r->out, slot, call->key.row, call->key.len, "f");
	put_table_key(&r->out, slot, 'e');
	put_table_key(&r->out, slot, 'F');
	put_bulk(&r->out, call->key.shape, CACHE_SHAPE);
	put_token(&r->out, call->answer.lease);
	put_number(&r->out, r->times.lease);
	put_bulk(&r->out, r->run_id, RUN_ID);
	uint64_t n = unique(r);
	uint8_t epoch[EPOCH];
	memcpy(epoch, &r->identity, 8);
	memcpy(epoch + 8, &n, 8);
	put_bulk(&r->out, epoch, EPOCH);
	put_number(&r->out, r->times.margin);
	put_number(&r->out, CACHE_FORMS);
	expect(r, ITEM_LOOK, call->slot, call);
}

void redis_fill(struct redis *r, unsigned slot, const struct cache_key *key, uint64_t lease, const void *data, size_t len,
		uint64_t ttl_ms)
{
	if (r->state != LINK_READY || r->slow || !slot_serves(&r->slots[slot])) {
		r->hooks.filled(r->hooks.arg, slot, false);
		return;
	}
	put_script(r, FILL, 2, 5);
	put_row_key(&r->out, &r->slots[slot], key->row, key->len, "");
	put_table_key(&r->out, &r->slots[slot], 'e');
	put_bulk(&r->out, key->shape, CACHE_SHAPE);
	put_token(&r->out, lease);
	put_bulk(&r->out, r->run_id, RUN_ID);
	put_number(&r->out, ttl_ms);
	put_bulk(&r->out, data, len);
	expect(r, ITEM_FILL, slot, NULL);
}

void redis_abandon(struct redis *r, unsigned slot, const struct cache_key *key, uint64_t lease)
{
	if (r->state != LINK_READY || r->slow)
		return; /* the lease ends by itself */
	put_script(r, ABANDON, 1, 2);
	put_row_key(&r->out, &r->slots[slot], key->row, key->len, "");
	put_bulk(&r->out, key->shape, CACHE_SHAPE);
	put_token(&r->out, lease);
	expect(r, ITEM_ABANDON, slot, NULL);
}

static void put_write(struct redis *r, enum cache_phase phase, struct gtid gtid)
{
	char seq[24] = "";
	if (!gtid_none(gtid))
		snprintf(seq, sizeof seq, "%020llu", (unsigned long long)gtid.seq);
	put_word(&r->out, phase == CACHE_BEFORE ? "B" : "A");
	put_word(&r->out, r->writer);
	put_number(&r->out, gtid.domain);
	put_number(&r->out, gtid.server);
	put_word(&r->out, seq);
	put_number(&r->out, phase == CACHE_BEFORE ? r->times.pending : r->times.margin);
}

/* While Redis is slow an invalidation is still written, but nobody waits for it. */
static void expect_invalidation(struct redis *r, unsigned slot, struct cache_call *call)
{
	struct item *item = expect(r, ITEM_INVALIDATE, slot, NULL);
	item->late = r->slow;
	if (item->late) {
		r->slots[slot].unconfirmed++;
	} else {
		item->call = call;
		call->left++;
	}
}

static void invalidate_slot(struct redis *r, unsigned i, struct cache_call *call, const struct cache_change *change,
			    enum cache_phase phase, struct gtid gtid)
{
	struct cache_slot *slot = &r->slots[i];
	if (r->state != LINK_READY) {
		slot->owed++;
		return;
	}
	for (unsigned k = 0; !change->whole && k < change->nkeys; k++) {
		const struct cache_row *row = &change->keys[k];
		put_script(r, DROP, 2, 6);
		put_row_key(&r->out, slot, row->bytes, row->len, "");
		put_row_key(&r->out, slot, row->bytes, row->len, "f");
		put_write(r, phase, gtid);
		expect_invalidation(r, i, call);
	}
	if (!change->whole)
		return;
	put_script(r, WHOLE, 2, 7);
	put_table_key(&r->out, slot, 'e');
	put_table_key(&r->out, slot, 'F');
	put_write(r, phase, gtid);
	put_epoch(r);
	expect_invalidation(r, i, call);
}

void redis_invalidate(struct redis *r, struct cache_call *call, const struct cache_change *changes, unsigned n,
		      const uint64_t *slots_of, enum cache_phase phase, struct gtid gtid)
{
	struct cache_call *invalidations = NULL;
	call->left = 1;
	for (unsigned i = 0; i < n; i++)
		for (uint64_t left = slots_of[changes[i].rule]; left; left &= left - 1)
			invalidate_slot(r, (unsigned)__builtin_ctzll(left), call, &changes[i], phase, gtid);
	take_off(call, &invalidations);
	answer_given_up(r, NULL, invalidations);
}
