/* SPDX-License-Identifier: Apache-2.0
 *
 * Does this Redis take writes? Every proxy tries all the time: a beat is a write that is refused when an invalidation
 * would be. It is served from Redis only for times.serve after a beat was sent that was confirmed, and only once beats
 * have come, from whomever, without a longer break for times.recovery. Who has an invalidation refused, or cannot send
 * it, lets the client wait until it has tried for longer than times.serve (docs/cache.md has the proof):
 *
 *   confirmed --a write is refused, the link is lost--> out --a try so much later has failed too--> outage
 *       ^------------------------ a beat is confirmed --'----------------------------------------'
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cache/redis_link.h"

const struct siphash_key *redis_secret(const struct redis *r)
{
	return r->has_secret ? &r->secret : NULL;
}

bool redis_serves(const struct redis *r, unsigned slot)
{
	return r->steady && r->heard < r->confirmed + r->times.serve * 1000 && r->marked >> slot & 1 &&
	       slot_serves(&r->slots[slot]);
}

void redis_tag(const struct redis *r, unsigned slot, char out[TAG])
{
	memcpy(out, r->run_id, RUN_ID);
	if (r->marked >> slot & 1)
		memcpy(out + RUN_ID, r->mark[slot], MARK);
	else
		memset(out + RUN_ID, '-', MARK);
}

static bool owes_anything(const struct redis *r)
{
	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		if (r->slots[i].owed != r->slots[i].paid)
			return true;
	return false;
}

/* --- Beats -------------------------------------------------------------------------------------------------------- */

/* The terms of these slots, as the script reads them. */
static void put_tables(struct redis *r, uint64_t slots)
{
	char text[CACHE_SLOTS * (MARK + 1) + 1];
	size_t n = 0;

	for (uint64_t left = slots; left; left &= left - 1)
		n += (size_t)snprintf(text + n, sizeof text - n, "%016llx,",
				      (unsigned long long)r->slots[__builtin_ctzll(left)].terms);
	resp_bulk(&r->out, text, n);
}

/* lasting: ms for which it counts beyond its time. */
static void put_beat(struct redis *r, uint64_t slots, uint64_t lasting)
{
	struct siphash_key secret;
	char text[96];
	uint64_t now = link_now_us();

	siphash_key_random(&secret);
	redis_put_script(r, BEAT, 2, 8);
	resp_bulk(&r->out, text, (size_t)snprintf(text, sizeof text, "st:{%s}b", r->service));
	resp_bulk(&r->out, text, (size_t)snprintf(text, sizeof text, "st:{%s}-", r->service));
	resp_bulk(&r->out, secret.bytes, sizeof secret.bytes);
	resp_number(&r->out, r->times.serve);
	resp_number(&r->out, r->times.recovery);
	resp_word(&r->out, r->writer);
	put_tables(r, slots);
	resp_bulk(&r->out, text,
		  (size_t)snprintf(text, sizeof text, "%016llx", (unsigned long long)redis_unique(r)));
	resp_number(&r->out, lasting);
	resp_number(&r->out, r->seen_evicting > now ? (r->seen_evicting - now) / 1000 : 0);
	r->beaten = now;
	struct item *item = link_expect(r, ITEM_BEAT, 0, NULL);
	item->note = now;
	item->slots = slots;
}

void redis_beat(struct redis *r)
{
	uint64_t slots = 0;

	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		if (r->slots[i].usable)
			slots |= UINT64_C(1) << i;
	put_beat(r, slots, 0);
}

void redis_desert(struct redis *r)
{
	if (r->state != LINK_READY)
		return;
	put_beat(r, 0, DESERTED_MS);
	redis_flush(r);
	r->deserted = true;
}

void redis_leave(struct redis *r)
{
	char key[96];

	if (r->state != LINK_READY || r->deserted || owes_anything(r))
		return;
	resp_count(&r->out, '*', 3);
	resp_word(&r->out, "HDEL");
	resp_bulk(&r->out, key, (size_t)snprintf(key, sizeof key, "st:{%s}b", r->service));
	resp_bulk(&r->out, key, (size_t)snprintf(key, sizeof key, "p%s", r->writer));
	link_expect(r, ITEM_ABANDON, 0, NULL);
	redis_flush(r);
}

static void take_marks(struct redis *r, const struct item *item, redisReply *const *marks)
{
	uint64_t had = r->marked;

	r->marked = 0;
	for (uint64_t left = item->slots; left; left &= left - 1, marks++) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		if ((*marks)->type != REDIS_REPLY_STRING || (*marks)->len != MARK) {
			if (had >> i & 1)
				log_warn("redis %s: %s is not cached while another proxy has other rules for it",
					 r->addr.text, r->slots[i].table);
			continue;
		}
		bool another = !(had >> i & 1) || memcmp(r->mark[i], (*marks)->str, MARK) != 0;
		memcpy(r->mark[i], (*marks)->str, MARK);
		r->marked |= UINT64_C(1) << i;
		if (another)
			redis_open(r, i);
	}
}

enum { SAYS_SECRET, SAYS_AGE, SAYS_DOUBT, SAYS_MARKS }; /* a beat's reply */

static bool understood(struct redis *r, const struct item *item, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY ||
	    reply->elements != SAYS_MARKS + (size_t)__builtin_popcountll(item->slots))
		return false;
	const redisReply *secret = reply->element[SAYS_SECRET], *age = reply->element[SAYS_AGE],
			 *doubt = reply->element[SAYS_DOUBT];
	if (secret->type != REDIS_REPLY_STRING || secret->len != sizeof r->secret.bytes ||
	    age->type != REDIS_REPLY_INTEGER || doubt->type != REDIS_REPLY_INTEGER || doubt->integer < 0 ||
	    doubt->integer > INT32_MAX)
		return false;
	memcpy(r->secret.bytes, secret->str, sizeof r->secret.bytes);
	r->has_secret = true;
	r->steady = age->integer >= 0 && (uint64_t)age->integer >= r->times.recovery;
	uint64_t doubt_until = link_now_us() + (uint64_t)doubt->integer * 1000;
	if (doubt->integer > 0 && r->doubt_until < doubt_until)
		r->doubt_until = doubt_until;
	take_marks(r, item, reply->element + SAYS_MARKS);
	return true;
}

void beat_answered(struct redis *r, const struct item *item, const redisReply *reply)
{
	if (!understood(r, item, reply)) {
		beat_failed(r, item->note);
		link_say(r, reply->type == REDIS_REPLY_ERROR ? reply->str : "it does not understand a beat");
		return;
	}
	bool was_out = r->out_since != 0;
	r->confirmed = item->note;
	r->out_since = 0;
	r->outage = false;
	if (was_out && !r->slow)
		link_say(r, NULL);
	if (was_out)
		redis_settle_all(r);
}

void beat_failed(struct redis *r, uint64_t began)
{
	if (r->out_since == 0) {
		r->out_since = link_now_us();
		link_arm(r->pulse, RETRY_US);
	} else if (began > r->out_since && began - r->out_since >= r->times.serve * 1000 + OUTAGE_US) {
		r->outage = true;
	}
	release_waiting(r, false);
}

/* --- Acknowledgements that wait ----------------------------------------------------------------------------------- */

void release_waiting(struct redis *r, bool all)
{
	struct cache_call *call = r->waiting, *next;
	uint64_t now = link_now_us();

	if (!call)
		return;
	r->waiting = NULL; /* whoever is told may ask for more */
	all = all || r->outage || !owes_anything(r);
	for (; call; call = next) {
		next = call->next;
		if (all || now >= call->until_us) {
			r->hooks.invalidated(r->hooks.arg, call);
		} else {
			call->next = r->waiting;
			r->waiting = call;
		}
	}
}

void redis_invalidated(struct redis *r, struct cache_call *call)
{
	if (!call->owes || !call->after || r->outage) {
		r->hooks.invalidated(r->hooks.arg, call);
		return;
	}
	call->until_us = link_now_us() + r->times.confirm * 1000;
	call->next = r->waiting;
	r->waiting = call;
}
