/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection to Redis. Commands of a turn are written at once; each has its place in a queue in which the replies
 * are matched, and a deadline. What is late is answered without Redis; its reply still has its place. After that
 * nothing is asked (the breaker is open) until a probe was answered in time; invalidations are written all the same.
 *
 *   DOWN --retry--> CONNECTING --> HELLO --scripts loaded--> READY
 *     ^------------------------------- link_lost ------------------'   backoff 100 ms to 2 s
 */
#include "cache/redis_link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cache/redis_scripts.h"

static const char *const script_text[SCRIPTS] = {
	SCRIPT_LOOK, SCRIPT_FILL, SCRIPT_ABANDON, SCRIPT_DROP, SCRIPT_WHOLE, SCRIPT_BEAT
};

uint64_t link_now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void link_arm(struct event *ev, uint64_t us)
{
	event_add(ev, &(struct timeval){(time_t)(us / 1000000), (suseconds_t)(us % 1000000)});
}

/* A descriptor of its own: the loop's timers are as coarse as the kernel's tick (4 ms), nearly the deadline itself.
 * Armed only while it is not, so it costs a call every few milliseconds at most, whatever the load. */
static void arm_deadline(struct redis *r, uint64_t us)
{
	struct itimerspec at = {.it_value = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000 + 1}};

	timerfd_settime(r->deadline_fd, 0, &at, NULL);
	r->deadline_armed = true;
	r->deadline_at = link_now_us() + us;
}

static void disarm_deadline(struct redis *r)
{
	struct itimerspec never = {0};

	if (r->deadline_armed)
		timerfd_settime(r->deadline_fd, 0, &never, NULL);
	r->deadline_armed = false;
}

/* --- Commands ----------------------------------------------------------------------------------------------------- */

void resp_count(struct buf *b, char sigil, size_t n)
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

void resp_bulk(struct buf *b, const void *p, size_t n)
{
	resp_count(b, '$', n);
	buf_put(b, p, n);
	buf_put(b, "\r\n", 2);
}

void resp_word(struct buf *b, const char *s)
{
	resp_bulk(b, s, strlen(s));
}

void resp_number(struct buf *b, uint64_t n)
{
	char text[24];
	resp_bulk(b, text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)n));
}

/* --- The queue of what is awaited --------------------------------------------------------------------------------- */

static struct item *item_at(struct redis *r, uint64_t i)
{
	return &r->item[i & (r->cap - 1)];
}

bool link_overdue(struct redis *r)
{
	return r->head < r->tail && item_at(r, r->head)->late;
}

static struct item *expect_until(struct redis *r, enum item_kind kind, unsigned slot, struct cache_call *call,
				 uint64_t deadline)
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
	if (r->tail - r->head == 1)
		r->heard = link_now_us(); /* silence counts from the first question */
	if (!r->deadline_armed || r->deadline_at > deadline)
		arm_deadline(r, r->timeout);
	return item;
}

struct item *link_expect(struct redis *r, enum item_kind kind, unsigned slot, struct cache_call *call)
{
	return expect_until(r, kind, slot, call, link_now_us() + r->timeout);
}

static void answer_off(struct redis *r, struct cache_call *call)
{
	r->hooks.found(r->hooks.arg, call, STORE_OFF, &(struct cache_answer){0});
}

bool link_take_off(struct cache_call *call)
{
	return call && --call->left == 0;
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
		return;
	}
	if (call)
		call->owes = true;
	if (link_take_off(call)) {
		call->next = *invalidations;
		*invalidations = call;
	}
}

static void answer_given_up(struct redis *r, struct cache_call *lookups, struct cache_call *invalidations)
{
	struct cache_call *next;
	for (; invalidations; invalidations = next) {
		next = invalidations->next;
		redis_invalidated(r, invalidations);
	}
	for (; lookups; lookups = next) {
		next = lookups->next;
		answer_off(r, lookups);
	}
}

/* --- Connection --------------------------------------------------------------------------------------------------- */

void link_say(struct redis *r, const char *why)
{
	char text[160];
	snprintf(text, sizeof text, why ? "redis down: %s" : "redis ok", why);
	r->hooks.status(r->hooks.arg, text);
}

static void later(struct redis *r)
{
	r->backoff = r->backoff * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US : r->backoff * 2;
	link_arm(r->retry, r->backoff);
}

static void link_close(struct redis *r)
{
	event_del(r->readable);
	event_del(r->writable);
	disarm_deadline(r);
	event_del(r->retry);
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	if (r->reader)
		redisReaderFree(r->reader);
	r->reader = NULL;
	r->state = LINK_DOWN;
	r->doomed = NULL;
	r->has_secret = r->steady = false;
	r->marked = 0;
	r->slow = r->pinging = false;
	buf_fini(&r->out);
	r->out = (struct buf){0};
	r->batch++;
	memset(r->settling, 0, sizeof r->settling);
}

/* What Redis may not have got is owed before anyone hears of it. */
static void link_drop(struct redis *r)
{
	struct cache_call *lookups = NULL, *invalidations = NULL;
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
	answer_given_up(r, lookups, invalidations);
}

static void link_lost(struct redis *r, const char *why)
{
	uint64_t tried = r->state == LINK_READY ? 0 : r->opened;
	if (r->state == LINK_READY)
		log_warn("redis %s: %s", r->addr.text, why);
	link_say(r, why);
	r->hooks.error(r->hooks.arg, STAT_ERR_STORE);
	link_drop(r);
	beat_failed(r, tried);
	later(r);
}

/* Nothing was heard for so long that nobody else has; unless it is only that this process slept. */
static bool lost_in_silence(struct redis *r)
{
	char byte;

	if (r->head == r->tail || link_now_us() < item_at(r, r->head)->deadline + r->times.confirm * 1000 ||
	    recv(r->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		return false;
	r->outage = true;
	link_lost(r, "no answer");
	return true;
}

static void on_writable(evutil_socket_t fd, short what, void *arg);

static void hello(struct redis *r)
{
	uint64_t deadline = link_now_us() + HELLO_US;
	r->state = LINK_HELLO;
	r->reader = redisReaderCreate();
	event_add(r->readable, NULL);
	if (r->password) {
		resp_count(&r->out, '*', r->user ? 3 : 2);
		resp_word(&r->out, "AUTH");
		if (r->user)
			resp_word(&r->out, r->user);
		resp_word(&r->out, r->password);
		expect_until(r, ITEM_OK, 0, NULL, deadline);
	}
	if (r->db) {
		resp_count(&r->out, '*', 2);
		resp_word(&r->out, "SELECT");
		resp_number(&r->out, r->db);
		expect_until(r, ITEM_OK, 0, NULL, deadline);
	}
	resp_count(&r->out, '*', 1);
	resp_word(&r->out, "INFO");
	expect_until(r, ITEM_INFO, 0, NULL, deadline);
	for (unsigned i = 0; i < SCRIPTS; i++) {
		resp_count(&r->out, '*', 3);
		resp_word(&r->out, "SCRIPT");
		resp_word(&r->out, "LOAD");
		resp_word(&r->out, script_text[i]);
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
	r->opened = link_now_us();
	link_arm(r->retry, HELLO_US);
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

void link_ready(struct redis *r)
{
	r->state = LINK_READY;
	r->backoff = BACKOFF_MIN_US;
	event_del(r->retry);
	disarm_deadline(r); /* it stood for the handshake's */
	r->informed = link_now_us();
	log_info("redis %s: connected%s", r->addr.text,
		 r->may_evict ? "; it may evict fences, so what is not cached is read on the primary" : "");
	redis_beat(r); /* what is owed is paid when it was answered: then the tables' marks are known */
}

/* --- Deadlines and the breaker ------------------------------------------------------------------------------------ */

static void send_ping(struct redis *r)
{
	resp_count(&r->out, '*', 1);
	resp_word(&r->out, "PING");
	link_expect(r, ITEM_PING, 0, NULL);
	r->pinging = true;
}

/* One late reply is this busy machine's scheduler; silence over several deadlines is Redis: nothing more is asked until
 * a probe is answered in time. Looked at again when it is due, since perhaps nobody asks anything until then. */
static void judge_silence(struct redis *r, uint64_t now)
{
	uint64_t due = r->heard + SILENT_TIMEOUTS * r->timeout;

	if (r->state != LINK_READY || r->slow || !link_overdue(r))
		return;
	if (now < due) {
		if (!r->deadline_armed)
			arm_deadline(r, due - now);
		return;
	}
	r->slow = true;
	r->backoff = BACKOFF_MIN_US;
	r->hooks.error(r->hooks.arg, STAT_ERR_STORE_TIMEOUT);
	link_say(r, "it is slow");
	link_arm(r->retry, r->backoff);
}

/* Everything that is due goes on without Redis. */
static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct redis *r = arg;
	struct cache_call *lookups = NULL, *invalidations = NULL;
	uint64_t now = link_now_us(), times;

	(void)what;
	if (read(fd, &times, sizeof times) < 0)
		return; /* disarmed meanwhile */
	r->deadline_armed = false;
	if (r->scan < r->head)
		r->scan = r->head;
	for (; r->scan < r->tail; r->scan++) {
		struct item *item = item_at(r, r->scan);
		if (item->late)
			continue;
		if (item->deadline > now) {
			arm_deadline(r, item->deadline - now);
			break;
		}
		item->late = true;
		if (item->kind == ITEM_INVALIDATE)
			r->slots[item->slot].unconfirmed++;
		if (!item->call || !item->call->after)
			give_up(item, &lookups, &invalidations);
	}
	judge_silence(r, now);
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
	if (lost_in_silence(r))
		return;
	if (!r->pinging)
		send_ping(r);
	later(r);
	redis_flush(r);
}

void link_ping_answered(struct redis *r, bool late)
{
	r->pinging = false;
	if (late)
		return; /* on_retry sends the next */
	r->slow = false;
	r->backoff = BACKOFF_MIN_US;
	event_del(r->retry);
	if (r->out_since == 0)
		link_say(r, NULL);
}

static void ask_info(struct redis *r)
{
	r->informed = link_now_us();
	resp_count(&r->out, '*', 1);
	resp_word(&r->out, "INFO");
	link_expect(r, ITEM_INFO, 0, NULL);
}

/* Whether Redis takes writes, what other threads found owed, and each second what Redis is now. */
static void on_pulse(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct redis *r = arg;
	link_arm(r->pulse, r->out_since ? RETRY_US : BEAT_US);
	release_waiting(r, false);
	if (r->state != LINK_READY || lost_in_silence(r))
		return;
	if (!r->slow) {
		redis_beat(r);
		redis_settle_all(r);
		if (link_now_us() - r->informed >= TICK_US)
			ask_info(r);
	}
	redis_flush(r);
}

/* --- Replies ------------------------------------------------------------------------------------------------------ */

/* False when the connection is gone. */
static bool take_replies(struct redis *r)
{
	void *reply;
	uint64_t now = link_now_us();
	r->reading = true;
	while (!r->doomed && redisReaderGetReply(r->reader, &reply) == REDIS_OK && reply) {
		if (r->head == r->tail) {
			r->doomed = "it talks without being asked";
		} else {
			struct item item = *item_at(r, r->head++);
			r->heard = now;
			redis_reply(r, &item, reply);
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

struct redis *redis_new(struct event_base *base, const struct config *config, const struct cache_times *times,
			struct cache_slot *slots, const struct redis_hooks *hooks)
{
	struct redis *r = xcalloc(1, sizeof *r);
	r->base = base;
	r->addr = config->redis;
	r->user = config->redis_user ? xstrdup(config->redis_user) : NULL;
	if (config->redis_password != NULL)
		r->password = secret_strndup(config->redis_password, strlen(config->redis_password));
	r->service = xstrdup(config->service);
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
	r->deadline_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (r->deadline_fd < 0)
		abort(); /* at start or reload only */
	r->deadline = event_new(base, r->deadline_fd, EV_READ | EV_PERSIST, on_deadline, r);
	event_add(r->deadline, NULL);
	r->retry = evtimer_new(base, on_retry, r);
	r->pulse = evtimer_new(base, on_pulse, r);
	r->out_since = link_now_us(); /* also for what this process owes from before it was started */
	link_arm(r->pulse, RETRY_US);
	link_open(r);
	return r;
}

void redis_free(struct redis *r)
{
	redis_leave(r);
	link_drop(r);
	release_waiting(r, true);
	event_free(r->readable);
	event_free(r->writable);
	event_free(r->deadline);
	close(r->deadline_fd);
	event_free(r->retry);
	event_free(r->pulse);
	free(r->item);
	free(r->user);
	free(r->service);
	explicit_bzero(&r->secret, sizeof r->secret);
	secret_free(r->password);
	free(r);
}

