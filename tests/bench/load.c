/* SPDX-License-Identifier: Apache-2.0
 *
 * The load generator: closed loop, one thread, any number of connections, one statement at a time on each, looking up
 * a random key of a set. Prints one line of name=value. See usage() and tests/bench/README.md.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "client.h"
#include "hist.h"
#include "hold.h"

enum { READ_SIZE = 64 * 1024, EVENTS = 512, STALL_MS = 10000 };

struct options {
	struct account to;
	uint16_t set_port;
	const char *sql, *set;
	unsigned conns, idle;
	double warm, seconds, pause, rate;
	bool prepared, check, fill, slow;
	int pid;
};

struct key {
	char *text;
	struct buf row; /* the row's bytes as the server sends them, in the protocol of this run */
};

struct conn {
	struct client client;
	uint32_t statement;
	bool types_sent, busy;
	unsigned key; /* that was asked for */
	uint64_t sent; /* ns */
};

struct load {
	const struct options *o;
	struct key *keys;
	unsigned nkeys, columns;
	struct conn *conns;
	int epoll;
	unsigned busy, alive;
	uint64_t random;
	uint8_t *scratch;
	struct buf out;

	enum { WARMING, MEASURING, ENDING } phase;
	uint64_t now, phase_end, began, ended, cpu_begin, cpu_end; /* ns */
	unsigned next_fill; /* with --fill the first statements visit every key once */
	uint64_t total, errors, wrong;
	char first_error[256];
	struct hist latency;
};

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "load: %s: %s\n", what, why);
	exit(1);
}

/* CPU time of all threads of a process, in ns: /proc/PID/stat has ticks of 10 ms only. */
static uint64_t process_cpu(int pid)
{
	char path[300], line[100];
	uint64_t sum = 0;
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *dir = opendir(path);
	if (dir == NULL)
		die(path, strerror(errno));
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, entry->d_name);
		FILE *f = fopen(path, "r");
		if (f != NULL && fgets(line, sizeof(line), f) != NULL)
			sum += strtoull(line, NULL, 10);
		if (f != NULL)
			fclose(f);
	}
	closedir(dir);
	return sum;
}

/* ---- the set of keys ---- */

static void on_set_row(void *arg, struct slice row)
{
	struct load *l = arg;
	struct key *k;

	l->keys = xrealloc(l->keys, (l->nkeys + 1) * sizeof(*l->keys));
	k = &l->keys[l->nkeys++];
	*k = (struct key){0};
	buf_put(&k->row, row.p, row.n);
	struct reader r = reader_of(row);
	if (l->o->prepared)
		rd_bytes(&r, 1 + (l->columns + 7 + 2) / 8); /* header and NULL bitmap */
	struct slice text = rd_lenenc_bytes(&r);
	if (r.bad || text.n == 0 || memchr(text.p, '\'', text.n) != NULL || memchr(text.p, '\\', text.n) != NULL)
		die("set", "the first column must be a string without quotes");
	k->text = xstrndup((const char *)text.p, text.n);
}

/* Reads the set from a server directly, in the protocol of the run, so that answers can be compared byte by byte. */
static void read_set(struct load *l)
{
	struct account from = l->o->to;
	struct client c;
	uint32_t id;
	bool done;

	from.port = l->o->set_port;
	done = client_open(&c, &from);
	if (done && l->o->prepared) {
		uint8_t body[9] = {0};
		done = client_prepare(&c, l->o->set, &id, &l->columns);
		put_u32(body, id);
		put_u32(body + 5, 1);
		done = done && client_send(&c, COM_STMT_EXECUTE, slice_of(body, sizeof(body)));
	} else if (done) {
		done = client_send(&c, COM_QUERY, slice_str(l->o->set));
	}
	if (!done || !client_rows(&c, on_set_row, l))
		die("set", c.error);
	if (l->nkeys == 0)
		die("set", "no rows");
	client_close(&c);
}

static unsigned pick_key(struct load *l)
{
	if (l->next_fill < l->nkeys)
		return l->next_fill++;
	l->random ^= l->random << 13; /* xorshift64 */
	l->random ^= l->random >> 7;
	l->random ^= l->random << 17;
	return (unsigned)(l->random % l->nkeys);
}

/* ---- statements ---- */

static void put_text(struct load *l, const char *key)
{
	const char *mark = strchr(l->o->sql, '?');

	buf_put_u8(&l->out, COM_QUERY);
	buf_put(&l->out, l->o->sql, (size_t)(mark - l->o->sql));
	buf_put_u8(&l->out, '\'');
	buf_put_str(&l->out, key);
	buf_put_u8(&l->out, '\'');
	buf_put_str(&l->out, mark + 1);
}

/* As libmariadb and mysqlnd do: parameter types go with the first execute only. */
static void put_execute(struct load *l, struct conn *c, const char *key)
{
	buf_put_u8(&l->out, COM_STMT_EXECUTE);
	buf_put_u32(&l->out, c->statement);
	buf_put_u8(&l->out, 0);
	buf_put_u32(&l->out, 1);
	buf_put_u8(&l->out, 0);
	buf_put_u8(&l->out, !c->types_sent);
	if (!c->types_sent)
		buf_put_u16(&l->out, 0xfd); /* VAR_STRING */
	c->types_sent = true;
	buf_put_lenenc_bytes(&l->out, slice_str(key));
}

static void send_statement(struct load *l, struct conn *c)
{
	c->key = pick_key(l);
	buf_clear(&l->out);
	buf_put_u32(&l->out, 0);
	if (l->o->prepared)
		put_execute(l, c, l->keys[c->key].text);
	else
		put_text(l, l->keys[c->key].text);
	put_u24(l->out.data, (uint32_t)(l->out.len - 4));
	c->sent = l->now;
	c->busy = true;
	l->busy++;
	/* A statement is far smaller than a socket's buffer, and the last one was answered: this does not block. */
	if (send(c->client.fd, l->out.data, l->out.len, MSG_NOSIGNAL) != (ssize_t)l->out.len)
		die("send", strerror(errno));
}

static void note_error(struct load *l, const char *text, size_t n)
{
	if (l->errors++ == 0)
		snprintf(l->first_error, sizeof(l->first_error), "%.*s", (int)n, text);
}

static void lose(struct load *l, struct conn *c, const char *why)
{
	note_error(l, why, strlen(why));
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, c->client.fd, NULL);
	close(c->client.fd);
	c->client.fd = -1;
	l->busy -= c->busy;
	c->busy = false;
	l->alive--;
}

static void check_row(struct load *l, const struct conn *c, const struct answer *a, struct slice row)
{
	if (a->rows != 1 || (l->o->check && !slice_eq(row, buf_slice(&l->keys[c->key].row))))
		l->wrong++;
}

/* Warm-up ends when its time is over and every key was asked for once; then the clock and the CPU counter start. */
static void advance(struct load *l)
{
	if (l->now < l->phase_end)
		return;
	if (l->phase == WARMING && l->next_fill == l->nkeys) {
		l->phase = MEASURING;
		l->cpu_begin = l->o->pid != 0 ? process_cpu(l->o->pid) : 0;
		l->began = l->now;
		l->phase_end = l->now + (uint64_t)(l->o->seconds * 1e9);
	} else if (l->phase == MEASURING) {
		l->phase = ENDING;
		l->cpu_end = l->o->pid != 0 ? process_cpu(l->o->pid) : 0;
		l->ended = l->now;
	}
}

static void on_answer(struct load *l, struct conn *c, const struct answer *a, struct slice row, struct slice error)
{
	l->now = clock_ns();
	l->total++;
	l->busy--;
	c->busy = false;
	if (a->expect == ANSWER_ERROR)
		note_error(l, (const char *)error.p + (error.n > 9 ? 9 : 0), error.n > 9 ? error.n - 9 : 0);
	else
		check_row(l, c, a, row);
	if (l->phase == MEASURING)
		hist_add(&l->latency, l->now - c->sent);
	advance(l);
	if (l->phase != ENDING)
		send_statement(l, c);
}

static void on_readable(struct load *l, struct conn *c)
{
	struct slice data, row, error;
	struct buf *in = &c->client.in;
	struct answer a;
	ssize_t n = recv(c->client.fd, l->scratch, READ_SIZE, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lose(l, c, n == 0 ? "connection closed by the other side" : strerror(errno));
		return;
	}
	data = slice_of(l->scratch, (size_t)n);
	if (in->len > 0) {
		buf_put(in, l->scratch, (size_t)n);
		data = buf_slice(in);
	}
	size_t used = c->busy ? answer_scan(data, c->client.deprecate_eof, &a, &row, &error) : data.n;
	if (used == 0) {
		if (in->len == 0)
			buf_put(in, data.p, data.n);
		return;
	}
	if (!c->busy || used < data.n || a.expect == ANSWER_MALFORMED) {
		lose(l, c, "malformed answer, or bytes that were not asked for");
		return;
	}
	on_answer(l, c, &a, row, error);
	buf_clear(in);
}

/* ---- a run ---- */

static void open_all(struct load *l)
{
	l->conns = xcalloc(l->o->conns, sizeof(*l->conns));
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < l->o->conns; i++) {
		struct conn *c = &l->conns[i];
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
		if (!client_open(&c->client, &l->o->to) ||
		    (l->o->prepared && !client_prepare(&c->client, l->o->sql, &c->statement, &l->columns)))
			die("connection", c->client.error);
		buf_clear(&c->client.in);
		if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->client.fd, &ev) != 0)
			die("epoll_ctl", strerror(errno));
		l->alive++;
	}
}

static void run(struct load *l)
{
	struct epoll_event events[EVENTS];

	l->now = clock_ns();
	l->phase_end = l->now + (uint64_t)(l->o->warm * 1e9);
	for (unsigned i = 0; i < l->o->conns; i++) {
		l->now = clock_ns();
		send_statement(l, &l->conns[i]);
	}
	while (l->busy > 0) {
		int n = epoll_wait(l->epoll, events, EVENTS, STALL_MS);
		if (n == 0)
			die("stall", "no answer to any statement for 10 s");
		for (int i = 0; i < n; i++)
			on_readable(l, events[i].data.ptr);
	}
	if (l->phase != ENDING)
		die("all connections were lost", l->first_error);
	for (unsigned i = 0; i < l->o->conns; i++)
		client_close(&l->conns[i].client);
}

static void print_result(const struct load *l)
{
	const struct hist *h = &l->latency;
	double seconds = (double)(l->ended - l->began) / 1e9, count = (double)(h->count > 0 ? h->count : 1);

	printf("statements=%llu seconds=%.3f rate=%.0f p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f",
	       (unsigned long long)h->count, seconds, (double)h->count / seconds, hist_quantile(h, 0.5) / 1e3,
	       hist_quantile(h, 0.99) / 1e3, hist_quantile(h, 0.999) / 1e3, (double)h->max / 1e3);
	printf(" cpu_us=%.2f total=%llu errors=%llu wrong=%llu lost=%u\n",
	       (double)(l->cpu_end - l->cpu_begin) / 1e3 / count, (unsigned long long)l->total,
	       (unsigned long long)l->errors, (unsigned long long)l->wrong, l->o->conns - l->alive);
	if (l->errors > 0)
		fprintf(stderr, "load: first error: %s\n", l->first_error);
}

static int measure(const struct options *o)
{
	static struct load l;

	l = (struct load){.o = o, .random = 0x9e3779b97f4a7c15u ^ (uint64_t)getpid(), .scratch = xmalloc(READ_SIZE)};
	read_set(&l);
	l.next_fill = o->fill ? 0 : l.nkeys;
	open_all(&l);
	run(&l);
	print_result(&l);
	return l.errors > 0 || l.wrong > 0;
}

static int usage(void)
{
	fputs("usage: load --port N [--host IPV4 or socket path] --user U --password P [--db D] [--deprecate-eof] ...\n"
	      "  --sql 'SELECT .. WHERE k = ?' --set 'SELECT k, ..' [--set-port N] [--conns N] [--warm S]\n"
	      "      [--seconds S] [--prepared] [--check] [--fill] [--pid N]\n"
	      "      looks up random keys of the set's first column. --set-port is where the set is read, --check\n"
	      "      compares each row with the set's, --fill warms up until each key was asked for once, --pid is\n"
	      "      whose CPU time is counted\n"
	      "  --idle N --sql S: N clients that run S once and stay until stdin ends\n"
	      "  --slow-result --sql S [--pause S] [--rate MB]: reads one large answer slowly\n",
	      stderr);
	return 2;
}

static const struct option long_options[] = {
	{"host", 1, NULL, 'h'},        {"port", 1, NULL, 'P'},     {"user", 1, NULL, 'u'},  {"password", 1, NULL, 'p'},
	{"db", 1, NULL, 'd'},          {"deprecate-eof", 0, NULL, 'e'}, {"sql", 1, NULL, 'q'}, {"set", 1, NULL, 's'},
	{"set-port", 1, NULL, 'S'},    {"conns", 1, NULL, 'c'},    {"warm", 1, NULL, 'w'},  {"seconds", 1, NULL, 't'},
	{"prepared", 0, NULL, 'x'},    {"check", 0, NULL, 'k'},    {"fill", 0, NULL, 'f'},  {"pid", 1, NULL, 'i'},
	{"idle", 1, NULL, 'n'},        {"slow-result", 0, NULL, 'l'}, {"pause", 1, NULL, 'a'}, {"rate", 1, NULL, 'r'},
	{NULL, 0, NULL, 0},
};

static bool parse_options(struct options *o, int argc, char **argv)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (opt) {
		case 'h': o->to.host = optarg; break;
		case 'P': o->to.port = (uint16_t)atoi(optarg); break;
		case 'u': o->to.user = optarg; break;
		case 'p': o->to.password = optarg; break;
		case 'd': o->to.db = optarg; break;
		case 'e': o->to.deprecate_eof = true; break;
		case 'q': o->sql = optarg; break;
		case 's': o->set = optarg; break;
		case 'S': o->set_port = (uint16_t)atoi(optarg); break;
		case 'c': o->conns = (unsigned)atoi(optarg); break;
		case 'w': o->warm = atof(optarg); break;
		case 't': o->seconds = atof(optarg); break;
		case 'x': o->prepared = true; break;
		case 'k': o->check = true; break;
		case 'f': o->fill = true; break;
		case 'i': o->pid = atoi(optarg); break;
		case 'n': o->idle = (unsigned)atoi(optarg); break;
		case 'l': o->slow = true; break;
		case 'a': o->pause = atof(optarg); break;
		case 'r': o->rate = atof(optarg); break;
		default: return false;
		}
	}
	if (o->set_port == 0)
		o->set_port = o->to.port;
	if (o->to.user == NULL || o->sql == NULL || optind < argc)
		return false;
	return o->idle > 0 || o->slow || (o->set != NULL && o->conns > 0 && strchr(o->sql, '?') != NULL);
}

int main(int argc, char **argv)
{
	struct options o = {.to.host = "127.0.0.1", .conns = 1, .warm = 0.5, .seconds = 3, .pause = 3, .rate = 100};

	if (!parse_options(&o, argc, argv))
		return usage();
	if (o.idle > 0)
		return hold_idle(&o.to, o.idle, o.sql);
	if (o.slow)
		return hold_slow_result(&o.to, o.sql, o.pause, o.rate);
	return measure(&o);
}
