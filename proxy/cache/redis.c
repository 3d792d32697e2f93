/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache's protocol over a link to Redis (docs/cache.md).
 *
 *   lookup:  [GET epoch]  HGET row d<shape>   -> the entry is of that epoch, made in this very Redis: a hit
 *                                             -> else the look script: a hit after all, a lease, or neither
 *
 * The epoch is asked for once in a batch, before the batch's HGETs: whoever changed it later did so after those lookups
 * began. An invalidation is confirmed, or late (the slot's unconfirmed count stands until the reply is there), or lost
 * (the slot is owed an epoch); in both of these nobody in this process is served from the slot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/redis_link.h"

/* Never the same in two links: leases and epochs of all proxies are told apart by it. */
uint64_t redis_unique(struct redis *r)
{
	uint64_t x = r->identity + ++r->counter * UINT64_C(0x9e3779b97f4a7c15);
	return x ? x : redis_unique(r);
}

/* --- Commands: RESP by hand, for the few that run for each statement ---------------------------------------------- */

static void put_token(struct buf *b, uint64_t token)
{
	char text[17];
	snprintf(text, sizeof text, "%016llx", (unsigned long long)token);
	resp_bulk(b, text, 16);
}

static void put_row_key(struct buf *b, const struct cache_slot *slot, const uint8_t *row, size_t len,
			const char *suffix)
{
	size_t table = strlen(slot->table), tail = strlen(suffix);
	resp_count(b, '$', 4 + table + 1 + len + 1 + tail);
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
	resp_count(b, '$', 4 + table + 2);
	buf_put(b, "st:{", 4);
	buf_put(b, slot->table, table);
	buf_put(b, "}", 1);
	buf_put(b, &suffix, 1);
	buf_put(b, "\r\n", 2);
}

void redis_put_script(struct redis *r, enum script script, unsigned keys, unsigned args)
{
	resp_count(&r->out, '*', 3 + keys + args);
	resp_word(&r->out, "EVALSHA");
	resp_bulk(&r->out, r->sha[script], 40);
	resp_number(&r->out, keys);
}

enum { OPEN_ARGS = 4 /* of the scripts' open() */, WITHDRAW_MS = 2000 };

static void put_open(struct redis *r, unsigned slot)
{
	uint8_t epoch[EPOCH];
	char tag[TAG];
	uint64_t n = redis_unique(r);
	memcpy(epoch, &r->identity, 8);
	memcpy(epoch + 8, &n, 8);
	resp_bulk(&r->out, epoch, sizeof epoch);
	redis_tag(r, slot, tag);
	resp_bulk(&r->out, tag, TAG);
	resp_number(&r->out, r->times.margin);
	resp_number(&r->out, r->times.recovery);
}

/* --- Paying what is owed ------------------------------------------------------------------------------------------ */

static void settle(struct redis *r, unsigned i)
{
	struct cache_slot *slot = &r->slots[i];
	uint64_t owed = slot->owed;
	if (r->state != LINK_READY || owed == slot->paid || r->settling[i])
		return;
	redis_put_script(r, WHOLE, 2, 6 + OPEN_ARGS);
	put_table_key(&r->out, slot, 'e');
	put_table_key(&r->out, slot, 'F');
	resp_word(&r->out, "A");
	for (unsigned arg = 0; arg < 4; arg++) /* no writer, no GTID: the primary only for the margin */
		resp_word(&r->out, "");
	resp_number(&r->out, r->times.margin);
	put_open(r, i);
	link_expect(r, ITEM_SETTLE, i, NULL)->note = owed;
	r->settling[i] = true;
}

void redis_settle_all(struct redis *r)
{
	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		settle(r, i);
}

static void settled(struct redis *r, const struct item *item, bool ok)
{
	struct cache_slot *slot = &r->slots[item->slot];
	r->settling[item->slot] = false;
	if (!ok)
		return; /* the pulse tries again */
	uint64_t paid = slot->paid;
	while (paid < item->note && !atomic_compare_exchange_weak(&slot->paid, &paid, item->note))
		;
	settle(r, item->slot);
	release_waiting(r, false);
}

/* --- Replies ------------------------------------------------------------------------------------------------------ */

static void answer_off(struct redis *r, struct cache_call *call)
{
	r->hooks.found(r->hooks.arg, call, STORE_OFF, &(struct cache_answer){0});
}

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
	bool evicts = strcmp(limit, "0") != 0 && strcmp(policy, "noeviction") != 0;
	if (evicts || r->may_evict)
		r->doubt_until = r->seen_evicting = link_now_us() + (r->times.pending + r->times.margin) * 1000;
	r->may_evict = evicts;
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
	link_ready(r);
}

static void got_epoch(struct redis *r, const struct item *item, const redisReply *reply)
{
	char tag[TAG];
	redis_tag(r, item->slot, tag);
	r->has_epoch[item->slot] = reply->type == REDIS_REPLY_STRING && reply->len == EPOCH + TAG &&
				   memcmp(reply->str + EPOCH, tag, TAG) == 0;
	if (r->has_epoch[item->slot])
		memcpy(r->epoch[item->slot], reply->str, EPOCH);
}

static void found_hit(struct redis *r, struct cache_call *call, const char *value, size_t len)
{
	struct cache_answer answer = {.data = (uint8_t *)(uintptr_t)value + EPOCH, .len = len - EPOCH};
	r->hooks.found(r->hooks.arg, call, STORE_HIT, &answer);
}

static void got_entry(struct redis *r, const struct item *item, const redisReply *reply)
{
	struct cache_call *call = item->call;
	if (!call)
		return;
	if (!redis_serves(r, item->slot))
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
	struct cache_answer answer = {0};
	bool array = reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2;
	uint64_t kind = array ? reply_number(reply->element[0]) : 0;
	if (!call) /* a lease that nobody waits for any more ends by itself */
		return;
	if (!redis_serves(r, item->slot) || kind < 1 || kind > 4) {
		answer_off(r, call);
	} else if (kind == 1) {
		const redisReply *value = reply->element[1];
		if (value->type == REDIS_REPLY_STRING && value->len >= EPOCH)
			found_hit(r, call, value->str, (size_t)value->len);
		else
			answer_off(r, call);
	} else if (reply->elements == 5) {
		answer.fence_primary = reply_number(reply->element[1]) != 0 || link_now_us() < r->doubt_until;
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
	if (reply->type == REDIS_REPLY_ERROR) {
		slot->owed++;
		if (item->call)
			item->call->owes = true;
		if (r->out_since == 0) /* the pulse finds out how long it goes on */
			beat_failed(r, link_now_us());
	}
	slot->unconfirmed -= item->late;
	if (link_take_off(item->call))
		redis_invalidated(r, item->call);
}

/* Errors after which this connection is of no use. */
static void look_at_error(struct redis *r, const struct item *item, const redisReply *reply)
{
	static const struct {
		const char *code, *why;
	} fatal[] = {{"NOSCRIPT", "its scripts were flushed"},   {"READONLY", "it became a replica"},
		     {"LOADING", "it is loading its data"},	 {"NOAUTH", "it wants a password"},
		     {"NOPERM", "the account lacks a permission"}, {"MASTERDOWN", "it became a replica"}};
	r->hooks.error(r->hooks.arg, STAT_ERR_STORE);
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		if (strncmp(reply->str, fatal[i].code, strlen(fatal[i].code)) == 0)
			r->doomed = fatal[i].why;
	if (!r->doomed && (item->kind == ITEM_OK || item->kind == ITEM_SCRIPT || item->kind == ITEM_INFO))
		r->doomed = "it refuses the handshake (user, password, database?)";
	log_debug("redis %s: %s", r->addr.text, reply->str);
}

void redis_reply(struct redis *r, const struct item *item, const redisReply *reply)
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
		link_ping_answered(r, item->late);
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
	case ITEM_BEAT:
		beat_answered(r, item, reply);
		break;
	case ITEM_SETTLE:
		settled(r, item, reply->type == REDIS_REPLY_INTEGER);
		break;
	}
}

/* --- The store's operations --------------------------------------------------------------------------------------- */

static bool may_ask(const struct redis *r, unsigned slot)
{
	return r->state == LINK_READY && !r->slow && r->steady && r->marked >> slot & 1 && slot_serves(&r->slots[slot]);
}

void redis_lookup(struct redis *r, struct cache_call *call)
{
	struct cache_slot *slot = &r->slots[call->slot];
	if (!may_ask(r, call->slot)) {
		settle(r, call->slot);
		answer_off(r, call);
		return;
	}
	if (link_now_us() - r->beaten > BEAT_US)
		redis_beat(r); /* this look-up's answer comes behind its */
	if (r->asked[call->slot] != r->batch) {
		r->asked[call->slot] = r->batch;
		resp_count(&r->out, '*', 2);
		resp_word(&r->out, "GET");
		put_table_key(&r->out, slot, 'e');
		link_expect(r, ITEM_EPOCH, call->slot, NULL);
	}
	uint8_t field[1 + CACHE_SHAPE] = {'d'};
	memcpy(field + 1, call->key.shape, CACHE_SHAPE);
	resp_count(&r->out, '*', 3);
	resp_word(&r->out, "HGET");
	put_row_key(&r->out, slot, call->key.row, call->key.len, "");
	resp_bulk(&r->out, field, sizeof field);
	link_expect(r, ITEM_GET, call->slot, call);
}

static void put_look(struct redis *r, unsigned index, const struct cache_key *key, uint64_t lease)
{
	struct cache_slot *slot = &r->slots[index];
	redis_put_script(r, LOOK, 4, 4 + OPEN_ARGS);
	put_row_key(&r->out, slot, key->row, key->len, "");
	put_row_key(&r->out, slot, key->row, key->len, "f");
	put_table_key(&r->out, slot, 'e');
	put_table_key(&r->out, slot, 'F');
	resp_bulk(&r->out, key->shape, CACHE_SHAPE);
	put_token(&r->out, lease);
	resp_number(&r->out, r->times.lease);
	resp_number(&r->out, CACHE_FORMS);
	put_open(r, index);
}

void redis_look_again(struct redis *r, struct cache_call *call)
{
	if (!may_ask(r, call->slot)) {
		answer_off(r, call);
		return;
	}
	call->answer.lease = redis_unique(r);
	put_look(r, call->slot, &call->key, call->answer.lease);
	link_expect(r, ITEM_LOOK, call->slot, call);
}

/* Looks a key up that no row has (it is empty), so that a table's epoch, and the wait after it was made, begin when its
 * mark is known, not with the first lookup. */
void redis_open(struct redis *r, unsigned slot)
{
	static const struct cache_key none;

	if (r->times.recovery == 0)
		return;
	put_look(r, slot, &none, redis_unique(r));
	link_expect(r, ITEM_LOOK, slot, NULL);
}

void redis_fill(struct redis *r, unsigned slot, const struct cache_key *key, uint64_t lease, const void *data,
		size_t len, uint64_t ttl_ms)
{
	if (r->state != LINK_READY || r->slow || !slot_serves(&r->slots[slot])) {
		r->hooks.filled(r->hooks.arg, slot, false);
		return;
	}
	char tag[TAG];
	redis_put_script(r, FILL, 2, 6);
	put_row_key(&r->out, &r->slots[slot], key->row, key->len, "");
	put_table_key(&r->out, &r->slots[slot], 'e');
	resp_bulk(&r->out, key->shape, CACHE_SHAPE);
	put_token(&r->out, lease);
	redis_tag(r, slot, tag);
	resp_bulk(&r->out, tag, TAG);
	resp_number(&r->out, ttl_ms);
	resp_bulk(&r->out, data, len);
	resp_number(&r->out, r->times.lease);
	link_expect(r, ITEM_FILL, slot, NULL);
}

void redis_abandon(struct redis *r, unsigned slot, const struct cache_key *key, uint64_t lease)
{
	if (r->state != LINK_READY || r->slow)
		return; /* the lease ends by itself */
	redis_put_script(r, ABANDON, 1, 2);
	put_row_key(&r->out, &r->slots[slot], key->row, key->len, "");
	resp_bulk(&r->out, key->shape, CACHE_SHAPE);
	put_token(&r->out, lease);
	link_expect(r, ITEM_ABANDON, slot, NULL);
}

static void put_write(struct redis *r, enum cache_phase phase, struct gtid gtid)
{
	char seq[24] = "";
	if (!gtid_none(gtid))
		snprintf(seq, sizeof seq, "%020llu", (unsigned long long)gtid.seq);
	resp_word(&r->out, phase == CACHE_BEFORE ? "B" : "A");
	resp_word(&r->out, r->writer);
	resp_number(&r->out, gtid.domain);
	resp_number(&r->out, gtid.server);
	resp_word(&r->out, seq);
	resp_number(&r->out, phase == CACHE_BEFORE ? r->times.pending : r->times.margin);
}

/* While Redis is slow an invalidation is still written, but no BEFORE waits for it; nor where an older reply is late.
 * An AFTER waits for as long as others may be served. */
static void expect_invalidation(struct redis *r, unsigned slot, struct cache_call *call)
{
	bool late = r->slow || link_overdue(r), waits = call->after ? !r->outage : !late;
	struct item *item = link_expect(r, ITEM_INVALIDATE, slot, NULL);
	item->late = late;
	if (late)
		r->slots[slot].unconfirmed++;
	if (waits) {
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
		call->owes = true;
		return;
	}
	for (unsigned k = 0; k < change->nkeys; k++) {
		const struct cache_row *row = &change->keys[k];
		redis_put_script(r, DROP, 2, 6);
		put_row_key(&r->out, slot, row->bytes, row->len, "");
		put_row_key(&r->out, slot, row->bytes, row->len, "f");
		put_write(r, phase, gtid);
		expect_invalidation(r, i, call);
	}
	if (!change->whole)
		return;
	redis_put_script(r, WHOLE, 2, 6 + OPEN_ARGS);
	put_table_key(&r->out, slot, 'e');
	put_table_key(&r->out, slot, 'F');
	put_write(r, phase, gtid);
	put_open(r, i);
	expect_invalidation(r, i, call);
}

/* As by a writer under way, until everybody has heard by a beat that the table has no mark any more. */
void redis_withdraw(struct redis *r, unsigned i)
{
	if (r->state != LINK_READY)
		return;
	redis_put_script(r, WHOLE, 2, 6 + OPEN_ARGS);
	put_table_key(&r->out, &r->slots[i], 'e');
	put_table_key(&r->out, &r->slots[i], 'F');
	resp_word(&r->out, "B");
	resp_word(&r->out, "w");
	for (unsigned arg = 0; arg < 3; arg++)
		resp_word(&r->out, "");
	resp_number(&r->out, WITHDRAW_MS);
	put_open(r, i);
	link_expect(r, ITEM_ABANDON, 0, NULL);
	redis_beat(r);
}

void redis_invalidate(struct redis *r, struct cache_call *call, const struct cache_change *changes, unsigned n,
		      const uint64_t *slots_of, enum cache_phase phase, struct gtid gtid)
{
	call->left = 1; /* until all are queued */
	call->after = phase == CACHE_AFTER;
	call->owes = false;
	for (unsigned i = 0; i < n; i++)
		for (uint64_t left = slots_of[changes[i].rule]; left; left &= left - 1)
			invalidate_slot(r, (unsigned)__builtin_ctzll(left), call, &changes[i], phase, gtid);
	if (link_take_off(call))
		redis_invalidated(r, call);
}
