// SPDX-License-Identifier: Apache-2.0
/*
 * Is any read older than a write that was acknowledged before the read began? Many clients read and write two tables
 * through several proxies; of every row all states are known, with the moments when each was sent and acknowledged.
 *
 *	coherence [--reads N] [--turn N] [--seed N] [--may-lose MASK] [--server PORT]... [--redis PORT] PORT...
 *
 * PORT: proxies. --server: the servers themselves, primary first: the first one gets load that makes replicas lag, all
 * are asked what they hold when a read was wrong, and so is Redis. Runs until so many reads were checked and stdin has
 * ended; a line from there says what is being done to the lab, and is told with a wrong read.
 * --may-lose: bits of proxies that may be killed: lost connections are no error there, and a lost write may or may not
 * have happened.
 *
 * What is checked. Rows are written in groups (one member's tokens), one writer at a time a group. A read by key must
 * give a state that was current at some moment between its begin and its end, through whichever proxy it goes. A read
 * by another column is checked through the proxy that its group is written through: others learn of such writes only
 * from replication.
 */
#include <hiredis/hiredis.h>
#include <poll.h>

#include "coherence_rows.h"

enum { SERVERS = 4, READERS = 24, WRITERS = 6, READS_A_WRITE = 30, TOLD = 5, OWN = 15, SHAPES = 16,
       FAULTS = 6 };

static unsigned server_port[SERVERS], nservers, redis_port;
static struct {
	double at;
	char what[60];
} faults[FAULTS];
static unsigned nfaults;
static uint64_t want_reads = 20000;
static atomic_uint_fast64_t reads, writes, rollbacks, stale, unjudged, by_shape[SHAPES];
static atomic_bool quiet;
static atomic_int only = -1; /* the proxy that all writes go through now: others know nothing of them; -1: any */
static pthread_mutex_t telling = PTHREAD_MUTEX_INITIALIZER;

/* --- reading ------------------------------------------------------------------------------------------------------ */

enum shape {
	ALL_COLUMNS, VERSION, COUNT, UNEXPIRED, COUNT_UNEXPIRED, REVERSED, SLOW,
	BY_KEY, /* those before are */
	BY_MEMBER = BY_KEY, BY_SEVERAL, READ_ONLY
};
static const char *const shape_names[SHAPES] = {
	"select *", "version", "count(*)", "unexpired", "count unexpired", "reversed", "slow", "by member",
	"several keys", "read only transaction", [OWN] = "own transaction"
};

struct question {
	struct group *g;
	enum shape shape;
	unsigned key, since[KEYS];
	unsigned proxy;
	time_t begin, end;
	double began, ended;
	struct answer a;
	char text[TEXT];
};

static bool is_timed(enum shape shape)
{
	return shape == UNEXPIRED || shape == COUNT_UNEXPIRED;
}

static void say_question(struct client *c, const struct question *q, struct statement *s)
{
	static const char *const what[] = {"*", "version", "COUNT(*)", "version, member_id", "COUNT(*)", "version",
					  "version, LENGTH(SHA2(REPEAT(member_id, 1000000), 512))"};
	const char *table = tables[q->g->table].name, *key = tables[q->g->table].key;

	if (q->shape >= BY_KEY) {
		say(s, "SELECT %s, version FROM %s WHERE ", key, table);
		if (q->shape == BY_SEVERAL) {
			say(s, "%s IN (?, ?, ?, ?)", key);
			for (unsigned k = 0; k < KEYS; k++)
				give_key(c, s, q->g, &q->g->keys[k]);
		} else {
			say(s, "member_id = ?");
			give_number(s, q->g->member);
		}
		return;
	}
	say(s, "SELECT %s FROM %s WHERE ", what[q->shape], table);
	say(s, q->shape == REVERSED ? "? = %s LIMIT 1" : "%s = ?", key);
	give_key(c, s, q->g, &q->g->keys[q->key]);
	if (is_timed(q->shape))
		say(s, " AND expires_at > NOW()");
}

/* Could the row have been (un)seen in this state at some moment of the read? */
static bool may_see(const struct question *q, const struct state *s)
{
	return s->exists && (!is_timed(q->shape) || s->expires > q->begin);
}

static bool may_miss(const struct question *q, const struct state *s)
{
	return !s->exists || (is_timed(q->shape) && s->expires <= q->end);
}

/* The version that the answer gives for a key; "" for no row, NULL where it says only that there is one. */
static const char *told(const struct question *q, unsigned k)
{
	const struct answer *a = &q->a;

	if (q->shape == COUNT || q->shape == COUNT_UNEXPIRED)
		return a->rows == 1 && strcmp(a->cell[0][0], "1") == 0 ? NULL : "";
	for (unsigned i = 0; i < a->rows; i++)
		if (q->shape < BY_KEY)
			return a->cell[i][q->shape == ALL_COLUMNS ? 2 : 0];
		else if (strcmp(a->cell[i][0], q->g->keys[k].name) == 0)
			return a->cell[i][1];
	return "";
}

/* With the group's lock. 1: right, 0: wrong, -1: too much has happened since. */
static int judge_key(const struct question *q, unsigned k)
{
	struct key *key = &q->g->keys[k];
	const char *version = told(q, k);

	if (key->n - q->since[k] >= HISTORY)
		return -1;
	for (unsigned i = q->since[k]; i < key->n; i++) {
		const struct state *s = &key->past[i % HISTORY];
		if (version != NULL && version[0] == '\0' ? may_miss(q, s) :
		    may_see(q, s) && (version == NULL || strtoull(version, NULL, 10) == s->version))
			return 1;
	}
	return 0;
}

static void tell_server(const struct question *q, unsigned i)
{
	MYSQL *my = open_port(server_port[i]);
	char sql[TEXT];
	MYSQL_RES *res;
	MYSQL_ROW row;

	if (my == NULL)
		return;
	snprintf(sql, sizeof sql,
		 "SELECT CONCAT(IFNULL(GROUP_CONCAT(%s, '=', version), 'no rows'), ' at ', @@gtid_slave_pos, ' ',"
		 " @@gtid_binlog_pos) FROM %s WHERE member_id = %u",
		 tables[q->g->table].key, tables[q->g->table].name, q->g->member);
	if (mysql_query(my, sql) == 0 && (res = mysql_store_result(my)) != NULL) {
		if ((row = mysql_fetch_row(res)) != NULL)
			printf("#   server %u at %.4f: %s\n", i, now(), row[0]);
		mysql_free_result(res);
	}
	mysql_close(my);
}

/* Bytes that are no text as dots. */
static void tell_reply(const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_INTEGER)
		printf(" %lld", reply->integer);
	for (size_t i = 0; reply->type == REDIS_REPLY_STRING && i < reply->len && i < 120; i++)
		printf("%s%c", i == 0 ? " " : "", reply->str[i] > ' ' && reply->str[i] < 127 ? reply->str[i] : '.');
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
		tell_reply(reply->element[i]);
}

/* The entries, leases and fences of the rows in question, and what proxies share: redis_scripts.h. */
static void tell_redis(const struct question *q)
{
	redisContext *redis = redis_port != 0 ? redisConnect("127.0.0.1", (int)redis_port) : NULL;
	const char *table = tables[q->g->table].name;
	char asks[4 + 2 * KEYS][120];
	unsigned n = 0;

	snprintf(asks[n++], sizeof *asks, "TIME");
	snprintf(asks[n++], sizeof *asks, "GET st:{app.%s}e", table);
	snprintf(asks[n++], sizeof *asks, "HGETALL st:{app.%s}F", table);
	snprintf(asks[n++], sizeof *asks, "HGETALL st:{}b");
	for (unsigned k = 0; k < KEYS; k++) {
		if (q->shape < BY_KEY && k != q->key)
			continue;
		snprintf(asks[n++], sizeof *asks, "HGETALL st:{app.%s:%s}", table, q->g->keys[k].name);
		snprintf(asks[n++], sizeof *asks, "HGETALL st:{app.%s:%s}f", table, q->g->keys[k].name);
	}
	for (unsigned i = 0; i < n && redis != NULL && redis->err == 0; i++) {
		redisReply *reply = redisCommand(redis, asks[i]);
		printf("#   %s:", asks[i]);
		if (reply != NULL)
			tell_reply(reply);
		printf("\n");
		freeReplyObject(reply);
	}
	if (redis != NULL)
		redisFree(redis);
}

static void tell_faults(void)
{
	for (unsigned i = nfaults > FAULTS ? nfaults - FAULTS : 0; i < nfaults; i++)
		printf("#   from %.4f on: %s\n", faults[i % FAULTS].at, faults[i % FAULTS].what);
}

static void tell(struct client *c, struct question *q, const char *sql)
{
	struct statement s = {0};
	struct answer a = {0};

	pthread_mutex_lock(&telling);
	printf("# STALE %s, proxy %u, from %.4f to %.4f (%ld to %ld): %s\n", shape_names[q->shape], q->proxy,
	       q->began, q->ended, (long)q->begin, (long)q->end, sql);
	tell_redis(q); /* at once: it goes on */
	tell_faults();
	for (unsigned i = 0; i < q->a.rows; i++)
		printf("#   answer: %s | %s | %s | %s | %s\n", q->a.cell[i][0], q->a.cell[i][1], q->a.cell[i][2],
		       q->a.cell[i][3], q->a.cell[i][4]);
	say(&s, "%s", sql);
	for (unsigned i = 0; i < 3 && c->links[q->proxy].my != NULL && run_text(&c->links[q->proxy], &s, &a) == 0; i++)
		printf("#   again at %.4f: %u rows, %s | %s | %s\n", now(), a.rows, a.cell[0][0], a.cell[0][1],
		       a.cell[0][2]);
	for (unsigned i = 0; i < nservers; i++)
		tell_server(q, i);
	tell_group(q->g);
	fflush(stdout);
	pthread_mutex_unlock(&telling);
}

static void begin_question(struct question *q)
{
	pthread_mutex_lock(&q->g->lock);
	for (unsigned k = 0; k < KEYS; k++)
		q->since[k] = q->g->keys[k].acked;
	pthread_mutex_unlock(&q->g->lock);
	q->begin = wall();
	q->began = now();
}

static void judge(struct client *c, struct question *q, const struct statement *s)
{
	int verdict = 1;

	q->ended = now();
	q->end = wall();
	pthread_mutex_lock(&q->g->lock);
	for (unsigned k = 0; k < KEYS && verdict == 1; k++)
		if (q->shape >= BY_KEY || k == q->key)
			verdict = judge_key(q, k);
	if (q->g->unchecked)
		verdict = -1;
	pthread_mutex_unlock(&q->g->lock);
	if (verdict < 0) {
		atomic_fetch_add(&unjudged, 1);
		return;
	}
	atomic_fetch_add(&reads, 1);
	atomic_fetch_add(&by_shape[q->shape], 1);
	if (verdict == 1 || atomic_fetch_add(&stale, 1) >= TOLD)
		return;
	as_text(s, q->text, sizeof q->text);
	tell(c, q, q->text);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static int64_t some_expiry(struct client *c)
{
	int64_t t = (int64_t)wall();
	unsigned n = draw(c, 10);

	return n == 0 ? t - 100 : n == 1 ? t + 1 + (int64_t)draw(c, 3) : t + 86400;
}

static void say_values(struct client *c, struct statement *s, const struct group *g, const struct key *k,
		       uint64_t version, int64_t expires)
{
	say(s, "(?, ?, ?, FROM_UNIXTIME(?))");
	give_key(c, s, g, k);
	give_number(s, g->member);
	give_number(s, (long long)version);
	give_number(s, (long long)expires);
}

static void write_insert(struct client *c, struct group *g, struct plan *p, struct statement *s, uint64_t version)
{
	unsigned k = draw(c, KEYS), n = draw(c, 3) == 0 ? 2 : 1;
	bool any = current(p, g, k)->exists || (n == 2 && current(p, g, (k + 1) % KEYS)->exists);
	bool replace = draw(c, 2) == 0;
	int64_t expires = some_expiry(c);

	say(s, "%s INTO %s (%s, member_id, version, expires_at) VALUES ", any && replace ? "REPLACE" : "INSERT",
	    tables[g->table].name, tables[g->table].key);
	for (unsigned i = 0; i < n; i++) {
		say(s, i > 0 ? ", " : "");
		say_values(c, s, g, &g->keys[(k + i) % KEYS], version, expires);
		plan_state(p, (k + i) % KEYS, true, version, expires);
	}
	if (any && !replace)
		say(s, " ON DUPLICATE KEY UPDATE version = VALUES(version), expires_at = VALUES(expires_at)");
}

/* WHERE for one key, several, or the whole group; returns how many keys from *k on it names. */
static unsigned say_where(struct client *c, const struct group *g, struct statement *s, unsigned *k)
{
	unsigned form = draw(c, 60), n = 1;

	*k = draw(c, KEYS);
	if (form == 0) {
		*k = 0;
		say(s, " WHERE member_id = ?");
		give_number(s, g->member);
		return KEYS;
	}
	say(s, " WHERE %s %s ?", tables[g->table].key, form < 15 ? "IN (" : "=");
	give_key(c, s, g, &g->keys[*k]);
	if (form < 15) {
		for (; n < 3; n++) {
			say(s, ", ?");
			give_key(c, s, g, &g->keys[(*k + n) % KEYS]);
		}
		say(s, ")");
	} else if (form < 20) {
		say(s, " AND member_id = ?");
		give_number(s, g->member);
	}
	return n;
}

static void write_update(struct client *c, struct group *g, struct plan *p, struct statement *s, uint64_t version)
{
	int64_t expires = some_expiry(c);
	unsigned k, n;

	say(s, "UPDATE %s SET version = ?, expires_at = FROM_UNIXTIME(?)", tables[g->table].name);
	give_number(s, (long long)version);
	give_number(s, (long long)expires);
	n = say_where(c, g, s, &k);
	for (unsigned i = 0; i < n; i++)
		if (current(p, g, (k + i) % KEYS)->exists)
			plan_state(p, (k + i) % KEYS, true, version, expires);
}

static void write_delete(struct client *c, struct group *g, struct plan *p, struct statement *s, uint64_t version)
{
	unsigned k, n;

	say(s, "DELETE FROM %s", tables[g->table].name);
	n = say_where(c, g, s, &k);
	for (unsigned i = 0; i < n; i++)
		if (current(p, g, (k + i) % KEYS)->exists)
			plan_state(p, (k + i) % KEYS, false, version, 0);
}

/* A row gets another key: one entry becomes old, and another one's absence too. */
static void write_rename(struct client *c, struct group *g, struct plan *p, struct statement *s, uint64_t version)
{
	unsigned from = draw(c, KEYS), to = (from + 1 + draw(c, KEYS - 1)) % KEYS;
	const struct state old = *current(p, g, from);

	if (!old.exists || current(p, g, to)->exists) {
		write_update(c, g, p, s, version);
		return;
	}
	say(s, "UPDATE %s SET %s = ?, version = ? WHERE %s = ?", tables[g->table].name, tables[g->table].key,
	    tables[g->table].key);
	give_key(c, s, g, &g->keys[to]);
	give_number(s, (long long)version);
	give_key(c, s, g, &g->keys[from]);
	plan_state(p, from, false, version, 0);
	plan_state(p, to, true, version, old.expires);
}

static void some_write(struct client *c, struct group *g, struct plan *p, struct statement *s)
{
	uint64_t version = ++g->version;
	unsigned n = draw(c, 60);

	*s = (struct statement){0};
	if (n < 21)
		write_insert(c, g, p, s, version);
	else if (n < 47)
		write_update(c, g, p, s, version);
	else if (n < 59)
		write_delete(c, g, p, s, version);
	else
		write_rename(c, g, p, s, version);
	as_text(s, p->what, sizeof p->what);
}

static void write_once(struct client *c, struct link *l, struct group *g)
{
	struct plan p = {0};
	struct statement s;
	struct answer a;

	some_write(c, g, &p, &s);
	plan_begins(&p, g, l->proxy);
	plan_ends(&p, g, outcome_of(run(c, l, &s, &a)));
	atomic_fetch_add(&writes, 1);
}

/* A slow read that began before the write must not leave its answer in the cache after it. */
static void write_racing(struct client *c, struct link *l, struct group *g)
{
	struct question q = {.g = g, .shape = SLOW, .key = draw(c, KEYS), .proxy = draw(c, nproxies)};
	struct link *other = link_to(c, &c->spare, q.proxy);
	struct statement s = {0};
	char sql[2 * TEXT];

	if (other == NULL)
		return;
	say_question(c, &q, &s);
	as_text(&s, sql, sizeof sql);
	begin_question(&q);
	bool sent = mysql_send_query(other->my, sql, strlen(sql)) == 0;
	write_once(c, l, g);
	if (!sent || mysql_read_query_result(other->my) != 0)
		failed(other, &s, mysql_errno(other->my), mysql_error(other->my));
	else if (take_result(other, &s, &q.a) == 0)
		judge(c, &q, &s);
	for (q.proxy = 0; q.proxy < nproxies; q.proxy++) {
		if ((other = link_of(c, q.proxy)) == NULL)
			return;
		begin_question(&q);
		if (run_text(other, &s, &q.a) == 0)
			judge(c, &q, &s);
	}
}

/* Inside a transaction its own writes are seen, and nobody else writes this group. */
static void read_own(struct client *c, struct link *l, struct group *g, const struct plan *p)
{
	unsigned k = draw(c, KEYS);
	const struct state *want = current(p, g, k);
	struct statement s = {0};
	struct answer a;

	say(&s, "SELECT version FROM %s WHERE %s = ?", tables[g->table].name, tables[g->table].key);
	give_key(c, &s, g, &g->keys[k]);
	if (run(c, l, &s, &a) != 0)
		return;
	atomic_fetch_add(&reads, 1);
	atomic_fetch_add(&by_shape[OWN], 1);
	if (a.rows == want->exists && (a.rows == 0 || strtoull(a.cell[0][0], NULL, 10) == want->version))
		return;
	if (atomic_fetch_add(&stale, 1) >= TOLD)
		return;
	pthread_mutex_lock(&telling);
	printf("# STALE in its own transaction, proxy %u, key %s: %s, not %" PRIu64 "\n", l->proxy, g->keys[k].name,
	       a.rows > 0 ? a.cell[0][0] : "no row", want->exists ? want->version : 0);
	tell_group(g);
	pthread_mutex_unlock(&telling);
}

/* Returns false when the transaction is over by itself. */
static bool write_part(struct client *c, struct link *l, struct group *g, struct plan *p)
{
	struct plan before = *p;
	struct statement s;
	struct answer a;
	bool savepoint = draw(c, 6) == 0;

	if (savepoint && run_plain(l, "SAVEPOINT here") != 0)
		return false;
	some_write(c, g, p, &s);
	if (run(c, l, &s, &a) != 0)
		return false;
	if (savepoint) {
		if (run_plain(l, "ROLLBACK TO SAVEPOINT here") != 0)
			return false;
		*p = before;
	}
	if (draw(c, 2) == 0)
		read_own(c, l, g, p);
	return l->my != NULL;
}

static void write_transaction(struct client *c, struct link *l, struct group *g)
{
	bool by_mode = draw(c, 4) == 0, good;
	struct plan p = {0};

	if (run_plain(l, by_mode ? "SET autocommit = 0" : draw(c, 2) ? "BEGIN" : "START TRANSACTION") != 0)
		return;
	good = write_part(c, l, g, &p);
	for (unsigned i = draw(c, 3); good && i > 0; i--)
		good = write_part(c, l, g, &p);
	if (l->my == NULL)
		return; /* gone, and the transaction with it */
	if (!good || draw(c, 4) == 0) {
		run_plain(l, "ROLLBACK");
		atomic_fetch_add(&rollbacks, 1);
	} else {
		memmove(p.what + 8, p.what, sizeof p.what - 9);
		memcpy(p.what, "COMMIT: ", 8);
		plan_begins(&p, g, l->proxy);
		plan_ends(&p, g, outcome_of(run_plain(l, "COMMIT")));
		atomic_fetch_add(&writes, 1);
	}
	if (by_mode && l->my != NULL)
		run_plain(l, "SET autocommit = 1");
}

static struct group *lock_some_group(struct client *c)
{
	struct group *g = &groups[draw(c, draw(c, 4) > 0 ? GROUPS : HOT)];

	if (pthread_mutex_trylock(&g->writing) != 0)
		return NULL;
	if (!g->retired && (g->owner < 0 || atomic_load(&only) < 0 || g->owner == atomic_load(&only)))
		return g;
	pthread_mutex_unlock(&g->writing);
	return NULL;
}

/* All rows of a table go at once. */
static void truncate_sessions(struct client *c, struct link *l)
{
	struct plan all = {0};

	for (unsigned k = 0; k < KEYS; k++)
		plan_state(&all, k, false, 0, 0);
	snprintf(all.what, sizeof all.what, "TRUNCATE");
	for (unsigned i = SESSIONS; i < GROUPS; i += TABLES) {
		pthread_mutex_lock(&groups[i].writing);
		plan_begins(&all, &groups[i], l->proxy);
		groups[i].unchecked |= groups[i].retired; /* what is not known yet may come before or after */
	}
	const char *text = draw(c, 2) ? "TRUNCATE TABLE coherence_session" : "TRUNCATE coherence_session";
	enum outcome outcome = outcome_of(run_plain(l, text));
	for (unsigned i = SESSIONS; i < GROUPS; i += TABLES) {
		plan_ends(&all, &groups[i], outcome);
		pthread_mutex_unlock(&groups[i].writing);
	}
	atomic_fetch_add(&writes, 1);
}

static void write_definition(struct client *c, struct link *l)
{
	struct statement s = {0};
	struct answer a;

	say(&s, "ALTER TABLE coherence_token COMMENT = 'turn %u'", draw(c, 1000));
	run_text(l, &s, &a);
}

static void *writer(void *arg)
{
	struct client *c = arg;

	mysql_thread_init();
	while (!atomic_load(&stop)) {
		if (atomic_load(&quiet) || atomic_load(&reads) < READS_A_WRITE * atomic_load(&writes)) {
			nap(1);
			continue;
		}
		unsigned rare = draw(c, 2000);
		struct group *g = rare < 4 ? NULL : lock_some_group(c);
		if (g == NULL && rare >= 4)
			continue;
		int by = g != NULL && g->owner >= 0 ? g->owner : atomic_load(&only);
		struct link *l = link_of(c, by >= 0 ? (unsigned)by : draw(c, nproxies));
		if (l != NULL && rare < 3)
			truncate_sessions(c, l);
		else if (l != NULL && rare == 3)
			write_definition(c, l);
		else if (l != NULL && draw(c, 4) == 0)
			write_transaction(c, l, g);
		else if (l != NULL && draw(c, 20) == 0)
			write_racing(c, l, g);
		else if (l != NULL)
			write_once(c, l, g);
		if (g != NULL)
			pthread_mutex_unlock(&g->writing);
	}
	client_close(c);
	mysql_thread_end();
	return NULL;
}

static void read_once(struct client *c)
{
	struct question q = {.g = &groups[draw(c, draw(c, 3) == 0 ? GROUPS : HOT)], .key = draw(c, KEYS)};
	struct statement s = {0};
	struct link *l;

	q.shape = draw(c, 50) == 0 ? BY_MEMBER + draw(c, 3) : draw(c, SLOW);
	/* Forms that are not cached are not known to be exact through another proxy than the one written through. */
	if (q.g->owner < 0 && (q.shape >= BY_KEY || (q.g->table == SESSIONS && is_timed(q.shape))))
		q.shape = VERSION;
	q.proxy = q.shape >= BY_KEY ? (unsigned)q.g->owner : draw(c, nproxies);
	if ((l = link_of(c, q.proxy)) == NULL)
		return;
	say_question(c, &q, &s);
	begin_question(&q);
	l->read_only = q.shape == READ_ONLY;
	bool good = (!l->read_only || run_plain(l, "START TRANSACTION READ ONLY") == 0) && run(c, l, &s, &q.a) == 0;
	if (l->read_only && l->my != NULL)
		good = run_plain(l, "COMMIT") == 0 && good;
	l->read_only = false;
	if (good)
		judge(c, &q, &s);
}

static void *reader(void *arg)
{
	struct client *c = arg;

	mysql_thread_init();
	while (!atomic_load(&stop))
		read_once(c);
	client_close(c);
	mysql_thread_end();
	return NULL;
}

/* --- load that makes replicas lag, pauses in which they catch up -------------------------------------------------- */

static void *weather(void *arg)
{
	struct client *c = arg;
	MYSQL *my = NULL;

	mysql_thread_init();
	while (!atomic_load(&stop)) {
		if (nservers > 0 && my == NULL)
			my = open_port(server_port[0]);
		if (my != NULL && mysql_query(my, "UPDATE articles SET views = views + 1") != 0) {
			mysql_close(my);
			my = NULL;
		}
		nap(500 + draw(c, 1500));
		atomic_store(&quiet, draw(c, 3) == 0);
		atomic_store(&only, draw(c, 2) == 0 ? -1 : (int)draw(c, nproxies));
	}
	if (my != NULL)
		mysql_close(my);
	mysql_thread_end();
	return NULL;
}

static unsigned long number(const char *text)
{
	char *end = NULL;
	unsigned long n = text != NULL ? strtoul(text, &end, 10) : 0;

	if (text == NULL || *text == '\0' || *end != '\0')
		die("a number was expected");
	return n;
}

static void take_options(int argc, char **argv, unsigned *seed)
{
	for (int i = 1; i < argc; i++) {
				if (strncmp(argv[i], "--", 2) != 0 && nproxies < PROXIES)
			proxy_port[nproxies++] = (unsigned)number(argv[i]);
		else if (strcmp(argv[i], "--reads") == 0)
			want_reads = number(argv[++i]);
		else if (strcmp(argv[i], "--turn") == 0)
			turn = number(argv[++i]);
		else if (strcmp(argv[i], "--seed") == 0)
			*seed = (unsigned)number(argv[++i]);
		else if (strcmp(argv[i], "--may-lose") == 0)
			may_lose = (unsigned)number(argv[++i]);
		else if (strcmp(argv[i], "--server") == 0 && nservers < SERVERS)
			server_port[nservers++] = (unsigned)number(argv[++i]);
		else if (strcmp(argv[i], "--redis") == 0)
			redis_port = (unsigned)number(argv[++i]);
		else
			die("unknown option");
	}
	if (nproxies == 0)
		die("which proxies?");
}

static void note_fault(const char *what, size_t n)
{
	pthread_mutex_lock(&telling);
	snprintf(faults[nfaults % FAULTS].what, sizeof faults->what, "%.*s", (int)n, what);
	faults[nfaults++ % FAULTS].at = now();
	pthread_mutex_unlock(&telling);
}

/* A line comes in one piece: it is short. */
static bool stdin_ended(void)
{
	struct pollfd p = {.fd = 0, .events = POLLIN};
	char line[sizeof faults->what];

	if (poll(&p, 1, 0) <= 0)
		return false;
	ssize_t n = read(0, line, sizeof line);
	if (n > 1)
		note_fault(line, (size_t)n - 1);
	return n <= 0;
}

static void report(void)
{
	unsigned retired = 0;

	for (unsigned i = 0; i < GROUPS; i++)
		retired += groups[i].retired;
	for (unsigned i = 0; i < SHAPES; i++)
		if (shape_names[i] != NULL)
			printf("# %s: %" PRIu64 "\n", shape_names[i], (uint64_t)by_shape[i]);
	printf("reads=%" PRIu64 " stale=%" PRIu64 " errors=%" PRIu64 " writes=%" PRIu64 " rollbacks=%" PRIu64,
	       (uint64_t)reads, (uint64_t)stale, (uint64_t)errors, (uint64_t)writes, (uint64_t)rollbacks);
	printf(" lost=%" PRIu64 " unjudged=%" PRIu64 " retired=%u seconds=%.1f\n", (uint64_t)lost, (uint64_t)unjudged,
	       retired, now());
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct client clients[READERS + WRITERS + 1];
	unsigned seed = (unsigned)time(NULL);

	take_options(argc, argv, &seed);
	start = now();
	mysql_library_init(0, NULL, NULL);
	make_groups();
	for (unsigned i = 0; i < READERS + WRITERS + 1; i++) {
		clients[i].seed = seed * 1000 + i;
		void *(*part)(void *) = i < READERS ? reader : i < READERS + WRITERS ? writer : weather;
		pthread_create(&clients[i].thread, NULL, part, &clients[i]);
	}
	printf("# seed %u\n", seed);
	fflush(stdout);
	for (bool ended = false; !ended || atomic_load(&reads) < want_reads;) {
		nap(20);
		ended = ended || stdin_ended();
		if (atomic_load(&stale) > 1000 || atomic_load(&errors) > 1000)
			break;
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < READERS + WRITERS + 1; i++)
		pthread_join(clients[i].thread, NULL);
	report();
	return stale == 0 && errors == 0 ? 0 : 1;
}
