/* SPDX-License-Identifier: Apache-2.0
 *
 * Does this Redis take writes? Every proxy tries all the time: a beat is a write that is refused when an invalidation
 * would be. It is served from Redis only for SERVE_US after a beat was sent that was confirmed, and only once beats
 * have come, from whomever, without a longer break for `recovery`. Who has an invalidation refused, or cannot send it,
 * lets the client wait until it has tried for OUTAGE_US (docs/cache.md has the proof):
 *
 *   confirmed --a write is refused, the link is lost--> out --a try begun OUTAGE_US later fails--> outage
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
	return r->steady && r->heard < r->confirmed + SERVE_US && slot_serves(&r->slots[slot]);
}

/* --- Beats -------------------------------------------------------------------------------------------------------- */

void redis_beat(struct redis *r)
{
	struct siphash_key mine;
	char key[96];

	siphash_key_random(&mine);
	redis_put_script(r, BEAT, 2, 2);
	resp_bulk(&r->out, key, (size_t)snprintf(key, sizeof key, "st:{%s}b", r->service));
	resp_bulk(&r->out, key, (size_t)snprintf(key, sizeof key, "st:{%s}-", r->service));
	resp_bulk(&r->out, mine.bytes, sizeof mine.bytes);
	resp_number(&r->out, SERVE_US / 1000);
	r->beaten = link_now_us();
	link_expect(r, ITEM_BEAT, 0, NULL)->note = r->beaten;
}

static bool understood(struct redis *r, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
		return false;
	const redisReply *secret = reply->element[0], *age = reply->element[1];
	if (secret->type != REDIS_REPLY_STRING || secret->len != sizeof r->secret.bytes ||
	    age->type != REDIS_REPLY_INTEGER)
		return false;
	memcpy(r->secret.bytes, secret->str, sizeof r->secret.bytes);
	r->has_secret = true;
	r->steady = age->integer >= 0 && (uint64_t)age->integer >= r->times.recovery;
	return true;
}

void beat_answered(struct redis *r, const struct item *item, const redisReply *reply)
{
	if (!understood(r, reply)) {
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
	} else if (began > r->out_since && began - r->out_since >= OUTAGE_US) {
		r->outage = true;
	}
	release_waiting(r, false);
}

/* --- Acknowledgements that wait ----------------------------------------------------------------------------------- */

static bool nothing_owed(const struct redis *r)
{
	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		if (r->slots[i].owed != r->slots[i].paid)
			return false;
	return true;
}

void release_waiting(struct redis *r, bool all)
{
	struct cache_call *call = r->waiting, *next;
	uint64_t now = link_now_us();

	if (!call)
		return;
	r->waiting = NULL; /* whoever is told may ask for more */
	all = all || r->outage || nothing_owed(r);
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
