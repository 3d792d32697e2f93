/* SPDX-License-Identifier: Apache-2.0
 *
 * One worker's connection to Redis, as its parts see it: redis_link.c has the socket, the queue of what is awaited,
 * deadlines and the breaker; redis_beat.c knows whether Redis takes writes; redis.c has the protocol of the cache.
 * Private to them.
 */
#ifndef ST_CACHE_REDIS_LINK_H
#define ST_CACHE_REDIS_LINK_H

#include <event2/event.h>
#include <hiredis/hiredis.h>

#include "cache/store.h"

enum {
	EPOCH = 16, RUN_ID = 40, MARK = 16, TAG = RUN_ID + MARK,
	HELLO_US = 1000000,      /* connect and handshake */
	TICK_US = 1000000,       /* INFO */
	BEAT_US = 100000,
	RETRY_US = 25000,        /* the same while a write is refused */
	OUTAGE_US = 150000,      /* beyond times.serve */
	DESERTED_MS = 50000,     /* beyond the 10 s of any beat */
	SILENT_TIMEOUTS = 3, BACKOFF_MIN_US = 50000, BACKOFF_MAX_US = 2000000,
	BACKLOG_MAX = 16 << 20,  /* bytes that Redis does not take */
	OUT_KEEP = 1 << 20
};

enum script { LOOK, FILL, ABANDON, DROP, WHOLE, BEAT, SCRIPTS };

enum item_kind {
	ITEM_OK,     /* of the handshake: anything but an error */
	ITEM_SCRIPT, /* of the handshake: `slot` is the script */
	ITEM_INFO,
	ITEM_PING, ITEM_EPOCH, ITEM_GET, ITEM_LOOK, ITEM_FILL, ITEM_ABANDON,
	ITEM_INVALIDATE,
	ITEM_BEAT,
	ITEM_SETTLE  /* pays what is owed to a slot */
};

struct item { /* one command whose reply is awaited */
	uint8_t kind, slot;
	bool late;
	uint64_t deadline;
	uint64_t note; /* ITEM_SETTLE: what it pays; ITEM_BEAT: when it was put */
	uint64_t slots; /* ITEM_BEAT: which it told of */
	struct cache_call *call;
};

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_HELLO, LINK_READY };

struct redis {
	struct event_base *base;
	struct addr addr;
	char *user, *password, *service;
	unsigned db;
	uint64_t timeout;
	struct cache_times times;
	struct cache_slot *slots;
	struct redis_hooks hooks;

	enum link_state state;
	int fd;
	struct event *readable, *writable, *deadline, *retry, *pulse;
	redisReader *reader;
	struct buf out;
	const char *doomed; /* why the connection must go, once it is safe */
	int deadline_fd;    /* a timerfd */
	bool deadline_armed;
	uint64_t deadline_at; /* when it is due */
	uint64_t heard;     /* when the last reply came, or the queue began to fill */
	uint64_t backoff;
	uint64_t opened;    /* when this connection was begun */
	uint64_t informed;  /* when INFO was asked last */
	bool slow, pinging; /* the breaker is open; its probe is under way */
	bool reading;       /* replies are being handed out: what sessions add is sent after the last */

	struct item *item;  /* ring of `cap`, a power of two */
	uint64_t head, tail, cap;
	uint64_t scan;      /* items before it are late or answered */

	char run_id[RUN_ID + 1], writer[17], sha[SCRIPTS][41]; /* writer: the link's name, too */
	bool has_secret;
	struct siphash_key secret; /* of this Redis, as it was told last */
	uint64_t beaten, confirmed; /* when the last beat was put, and the last that was confirmed */
	bool steady;            /* beats have come for times.recovery */
	uint64_t out_since;     /* 0: Redis took the last beat; never 0 before the first */
	bool deserted;
	bool outage;            /* it takes nobody's, and nobody is served before times.recovery after it does again */
	struct cache_call *waiting; /* acknowledgements whose invalidation is owed */
	bool may_evict;
	/* No fence means nothing until then: Redis may have evicted one that would still stand. By INFO, and as anybody
	 * on this Redis knows. */
	uint64_t seen_evicting, doubt_until;
	uint64_t identity, counter;
	uint64_t batch, asked[CACHE_SLOTS]; /* the batch in which a slot's epoch was asked for */
	bool has_epoch[CACHE_SLOTS], settling[CACHE_SLOTS];
	uint8_t epoch[CACHE_SLOTS][EPOCH];
	uint64_t marked;    /* slots that everybody on this Redis has, on the same terms */
	char mark[CACHE_SLOTS][MARK];
};

/* --- redis_link.c ------------------------------------------------------------------------------------------------- */

uint64_t link_now_us(void); /* monotonic */
void resp_count(struct buf *b, char sigil, size_t n); /* "*3", "$5" */
void resp_bulk(struct buf *b, const void *p, size_t n);
void resp_word(struct buf *b, const char *s);
void resp_number(struct buf *b, uint64_t n);

/* The command just put has its place in the queue; its deadline is the timeout from now. */
struct item *link_expect(struct redis *r, enum item_kind kind, unsigned slot, struct cache_call *call);
/* Is an older reply late? Whatever is asked now is answered behind it. */
bool link_overdue(struct redis *r);
/* Handshake done. */
void link_ready(struct redis *r);
/* Takes one of an invalidation's commands off its count; true when it was the last: redis_invalidated() follows. */
bool link_take_off(struct cache_call *call);
void link_ping_answered(struct redis *r, bool late);
void link_arm(struct event *timer, uint64_t us);
void link_say(struct redis *r, const char *why); /* the status; NULL: all is well */

/* --- redis_beat.c ------------------------------------------------------------------------------------------------- */

/* run_id and the slot's mark: what a valid epoch ends with. Without a mark nobody's is valid. */
void redis_tag(const struct redis *r, unsigned slot, char out[TAG]);
/* May what Redis says of this slot in a reply that has just come be believed? */
bool redis_serves(const struct redis *r, unsigned slot);
void redis_beat(struct redis *r);
void redis_leave(struct redis *r); /* a last word: nobody need wonder what it owed */
void beat_answered(struct redis *r, const struct item *item, const redisReply *reply);
/* A write, or a connection, that was tried from then on was refused. */
void beat_failed(struct redis *r, uint64_t began);
/* The last of an invalidation's commands is confirmed or owed: tells the session, or lets it wait. */
void redis_invalidated(struct redis *r, struct cache_call *call);
/* Tells those that need not wait any longer. */
void release_waiting(struct redis *r, bool all);

/* --- redis.c ------------------------------------------------------------------------------------------------------ */

uint64_t redis_unique(struct redis *r); /* never the same in two links */
void redis_reply(struct redis *r, const struct item *item, const redisReply *reply);
void redis_settle_all(struct redis *r); /* pays what is owed to all slots */
void redis_open(struct redis *r, unsigned slot); /* makes the epoch if it is missing */
void redis_put_script(struct redis *r, enum script script, unsigned keys, unsigned args); /* EVALSHA, up to KEYS */

#endif
