/* SPDX-License-Identifier: Apache-2.0
 *
 * sidetrack: argv, configuration, services, workers, and the control loop that accepts clients and takes signals.
 */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/thread.h>
#include <getopt.h>
#include <mysql.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/config.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "service/admin.h"
#include "service/events.h"
#include "service/metrics.h"
#include "service/group.h"
#include "session/front.h"

enum { FIRST_LOOK_MS = 3000,  /* how long listening waits for the servers' first answers */
       FIRST_PROOF_MS = 1500, /* ... and for replicas to be proved fresh */
       LOOK_MS = 20,
       DRAIN_LOOK_MS = 50 };

enum { GROUPS = 1 + CONFIG_SERVICES };

struct daemon {
	struct config_options options;
	struct event_base *base;
	struct worker **workers;
	struct group *groups[GROUPS]; /* the default one, then one a service */
	struct proxy *proxies[GROUPS];
	unsigned nworkers, ngroups;
	struct front *front;
	struct admin *admin;
	struct metrics *metrics;
	struct event term, quit, hup, wake, drain, first_look;
	int wake_pipe[2];
	int64_t drain_until_us;
	int status;
	pthread_mutex_t reloading;
	pthread_mutex_t lock; /* guards config, for services that are not workers */
	struct config *config; /* the whole */
};

/* Something new is known of a group's servers. */
static void on_news(void *arg)
{
	struct daemon *d = arg;

	if (write(d->wake_pipe[1], "", 1) < 0)
		log_debug("control loop is awake already");
}

/* --- what the admin port and the web service ask ------------------------------------------------------------------ */

static struct topology *get_topology(void *arg, unsigned group)
{
	return group_topology(((struct daemon *)arg)->groups[group]);
}

static struct config *get_config(void *arg)
{
	struct daemon *d = arg;

	pthread_mutex_lock(&d->lock);
	struct config *c = config_ref(d->config);
	pthread_mutex_unlock(&d->lock);
	return c;
}

static struct config *get_group_config(void *arg, unsigned group)
{
	return group_config(((struct daemon *)arg)->groups[group]);
}

static void get_usage(void *arg, unsigned group, unsigned rule, uint64_t *entries, uint64_t *bytes, uint64_t *evictions)
{
	cache_usage(((struct daemon *)arg)->proxies[group]->cache, rule, entries, bytes, evictions);
}

static void get_status(void *arg, unsigned group, char *buf, size_t cap)
{
	cache_store_status(((struct daemon *)arg)->proxies[group]->cache, buf, cap);
}

static void explain(void *arg, unsigned group, struct slice sql, const char *schema,
		    void (*row)(void *, const char *, const char *), void *row_arg)
{
	group_explain(((struct daemon *)arg)->groups[group], sql, schema, row, row_arg);
}

static int drain_server(void *arg, const char *server, bool drained)
{
	struct daemon *d = arg;
	int rc = -1;

	for (unsigned i = 0; i < d->ngroups && rc != 0; i++)
		rc = group_drain(d->groups[i], server, drained);
	return rc;
}

static int flush(void *arg, const char *rule)
{
	struct daemon *d = arg;
	int rc = -1;

	for (unsigned i = 0; i < d->ngroups; i++)
		if (cache_flush(d->proxies[i]->cache, rule) == 0)
			rc = 0;
	return rc;
}

static int kill_session(void *arg, uint64_t id, bool query_only, char *err, size_t cap)
{
	struct daemon *d = arg;

	if (query_only) {
		snprintf(err, cap, "KILL QUERY is not supported yet: KILL <id> ends the connection");
		return -1;
	}
	for (unsigned i = 0; i < d->ngroups; i++)
		proxy_kill(d->proxies[i], (uint32_t)id);
	return 0;
}

/* --- configuration ------------------------------------------------------------------------------------------------ */

struct mistakes {
	char *first; /* where to keep it, or NULL */
	size_t cap;
	bool to_log;
};

static void on_mistake(void *arg, const char *line)
{
	struct mistakes *m = arg;

	if (m->to_log)
		log_error("%s", line);
	else
		fprintf(stderr, "%s\n", line);
	if (m->first != NULL && m->first[0] == '\0')
		snprintf(m->first, m->cap, "%s", line);
}

static void on_fixed(void *arg, const char *line)
{
	(void)arg;
	log_warn("reload: %s", line);
}

/* One at a time, so that all parts end with the same configuration; a bad file changes nothing. */
static int load_again(struct daemon *d, char *err, size_t cap)
{
	struct mistakes m = {err, cap, true};

	if (err != NULL)
		err[0] = '\0';
	struct config *config = config_load(&d->options, on_mistake, &m);
	if (config == NULL) {
		log_error("reload: the configuration has mistakes; the old one stays");
		return -1;
	}
	if (!config_same_services(d->config, config, on_mistake, &m)) {
		log_error("reload: services come and go with a restart; the old one stays");
		config_unref(config);
		return -1;
	}
	pthread_mutex_lock(&d->lock);
	struct config *old = d->config;
	config_report_fixed(old, config, on_fixed, NULL);
	config_keep_fixed(old, config);
	d->config = config;
	config_ref(config);
	pthread_mutex_unlock(&d->lock);
	log_set_level(config->log_level);
	for (unsigned i = 0; i < d->ngroups; i++)
		group_reload(d->groups[i], config);
	front_reload(d->front, config);
	config_unref(old);
	config_unref(config);
	log_info("configuration loaded again");
	events_add("reload", "", "configuration loaded again");
	return 0;
}

/* SIGHUP or RELOAD. Any thread. */
static int reload(void *arg, char *err, size_t cap)
{
	struct daemon *d = arg;

	pthread_mutex_lock(&d->reloading);
	int rc = load_again(d, err, cap);
	pthread_mutex_unlock(&d->reloading);
	return rc;
}

/* --- the control loop --------------------------------------------------------------------------------------------- */

static void on_hup(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	reload(arg, NULL, 0);
}

static int clients(const struct daemon *d)
{
	int n = 0;

	for (unsigned i = 0; i < d->ngroups; i++)
		n += proxy_clients(d->proxies[i]);
	return n;
}

static void on_drain(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	struct timeval tv = {.tv_usec = DRAIN_LOOK_MS * 1000};

	(void)fd;
	(void)what;
	int left = clients(d);
	if (left > 0 && topology_now_us() < d->drain_until_us) {
		event_add(&d->drain, &tv);
		return;
	}
	if (left > 0)
		log_warn("drain_timeout: %d sessions are cut off", left);
	event_base_loopbreak(d->base);
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	if (d->drain_until_us != 0) {
		log_warn("second signal: stopping at once");
		event_base_loopbreak(d->base);
		return;
	}
	log_info("stopping: %d sessions end when their statement or transaction has", clients(d));
	struct config *c = get_config(d);
	d->drain_until_us = topology_now_us() + (int64_t)c->drain_timeout_ms * 1000;
	config_unref(c);
	front_close(d->front);
	for (unsigned i = 0; i < d->ngroups; i++)
		proxy_drain(d->proxies[i]);
	on_drain(-1, 0, d);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	char bytes[64];

	(void)what;
	(void)arg;
	if (read(fd, bytes, sizeof bytes) < 0)
		log_debug("nothing to read from the wake pipe");
}

static void on_first_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd; /* it is only to wake the loop */
	(void)what;
	(void)arg;
}

static bool all_known(struct daemon *d, bool *fresh)
{
	bool known = true;

	*fresh = true;
	for (unsigned i = 0; i < d->ngroups; i++) {
		bool here;
		known &= group_known(d->groups[i], &here);
		*fresh &= here;
	}
	return known;
}

/* Roles, accounts and the dictionary are asked before the first client: a login that comes too early would be refused,
 * and a first read would go to the primary. */
static void wait_for_first_look(struct daemon *d)
{
	int64_t began = topology_now_us();
	bool known = false, fresh = false;

	while (d->drain_until_us == 0) {
		int64_t waited = topology_now_us() - began;
		if ((known && (fresh || waited > FIRST_PROOF_MS * 1000)) || waited > FIRST_LOOK_MS * 1000)
			break;
		struct timeval tv = {.tv_usec = LOOK_MS * 1000}; /* proofs of freshness come without a message */
		event_add(&d->first_look, &tv);
		event_base_loop(d->base, EVLOOP_ONCE);
		known = all_known(d, &fresh);
	}
	event_del(&d->first_look);
	if (!known)
		log_warn("no primary, or not all of what is asked of it, was found in %d ms: listening all the same",
			 FIRST_LOOK_MS);
}

static void add_signal(struct daemon *d, struct event *ev, int signo, event_callback_fn fn)
{
	evsignal_assign(ev, d->base, signo, fn, d);
	event_add(ev, NULL);
}

static void raise_descriptor_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* A dump would hold what statements say. The limit, not PR_SET_DUMPABLE, which also takes /proc/self and the debugger
 * away from who runs this. */
static void limit_core_dumps(const struct config *c)
{
	struct rlimit r;

	if (c->core_dumps || getrlimit(RLIMIT_CORE, &r) < 0 || r.rlim_max == 0)
		return;
	r.rlim_cur = r.rlim_max = 1; /* unlike 0, that also stops a dump which a program would be given (core(5)) */
	if (setrlimit(RLIMIT_CORE, &r) < 0)
		log_warn("core dumps cannot be turned off");
}

/* The workers, and the groups that live on them. */
static void set_up(struct daemon *d)
{
	d->nworkers = d->config->workers;
	d->workers = xcalloc(d->nworkers, sizeof *d->workers);
	for (unsigned i = 0; i < d->nworkers; i++)
		d->workers[i] = worker_new(i);
	d->ngroups = 1 + d->config->nservices;
	for (unsigned i = 0; i < d->ngroups; i++) {
		d->groups[i] = group_new(d->workers, d->nworkers, d->config, (int)i - 1, on_news, d);
		d->proxies[i] = group_proxy(d->groups[i]);
	}
	d->front = front_new(d->proxies, d->ngroups, d->config);
}

static void take_down(struct daemon *d)
{
	front_free(d->front);
	for (unsigned i = 0; i < d->ngroups; i++)
		group_unwatch(d->groups[i]);
	for (unsigned i = 0; i < d->ngroups; i++)
		proxy_end(d->proxies[i]);
	for (unsigned i = 0; i < d->nworkers; i++)
		worker_stop(d->workers[i]);
	for (unsigned i = 0; i < d->ngroups; i++)
		group_free(d->groups[i]);
	for (unsigned i = 0; i < d->nworkers; i++)
		worker_free(d->workers[i]);
	free(d->workers);
}

static int run(struct daemon *d)
{
	struct admin_ops ops = {d,          1 + d->config->nservices, get_topology, get_config, get_group_config,
				get_usage,  get_status,               explain,      drain_server,
				flush,      reload,                   kill_session};

	signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	limit_core_dumps(d->config);
	mysql_library_init(0, NULL, NULL);
	pthread_mutex_init(&d->reloading, NULL);
	pthread_mutex_init(&d->lock, NULL);
	if (pipe(d->wake_pipe) < 0)
		return 1;
	evutil_make_socket_nonblocking(d->wake_pipe[0]);
	evutil_make_socket_nonblocking(d->wake_pipe[1]);
	d->base = event_base_new();
	add_signal(d, &d->term, SIGTERM, on_term);
	add_signal(d, &d->quit, SIGINT, on_term);
	add_signal(d, &d->hup, SIGHUP, on_hup);
	event_assign(&d->wake, d->base, d->wake_pipe[0], EV_READ | EV_PERSIST, on_wake, d);
	event_add(&d->wake, NULL);
	evtimer_assign(&d->drain, d->base, on_drain, d);
	evtimer_assign(&d->first_look, d->base, on_first_look, d);

	set_up(d);
	d->status = front_listen(d->front) < 0 ? 1 : 0;
	for (unsigned i = 0; i < d->nworkers; i++)
		worker_start(d->workers[i]);
	for (unsigned i = 0; i < d->ngroups; i++)
		group_watch(d->groups[i]);
	if (d->status == 0) {
		d->admin = d->config->nadmin > 0 ? admin_start(&ops, d->config) : NULL;
		d->metrics = d->config->has_http ? metrics_start(&ops, d->config) : NULL;
		if ((d->config->nadmin > 0 && d->admin == NULL) || (d->config->has_http && d->metrics == NULL))
			d->status = 1;
	}
	if (d->status == 0) {
		wait_for_first_look(d);
		if (d->drain_until_us == 0) {
			front_accepting(d->front, d->base);
			log_info("ready: %u workers, mode %s", d->config->workers,
				 d->config->mode == MODE_CACHE   ? "cache"
				 : d->config->mode == MODE_SPLIT ? "split"
								 : "observe");
			event_base_dispatch(d->base);
		}
	}
	admin_stop(d->admin);
	metrics_stop(d->metrics);
	take_down(d);
	event_base_free(d->base);
	close(d->wake_pipe[0]);
	close(d->wake_pipe[1]);
	mysql_library_end();
	libevent_global_shutdown();
	log_info("stopped");
	return d->status;
}

/* --- argv --------------------------------------------------------------------------------------------------------- */

static void usage(FILE *out)
{
	fputs("Usage: sidetrack [OPTIONS]\n"
	      "A MySQL-protocol sidecar: reads to replicas, token lookups to a cache that is never stale, writes to "
	      "the primary.\n"
	      "\n"
	      "  -c FILE                 configuration file (ini); options below override it\n"
	      "      --check             say what is wrong with the configuration, with file:line, and exit (0: "
	      "nothing)\n"
	      "      --listen ADDR       what applications connect to (default 127.0.0.1:6033)\n"
	      "      --primary ADDR      the server that takes writes\n"
	      "      --replica ADDR      a server that takes reads; may be given several times\n"
	      "      --redis URL         keep the cache in Redis: redis://[user:password@]host:port/db\n"
	      "      --admin ADDR        the DBAs' port\n"
	      "      --http ADDR         web page, /metrics, /healthz, /readyz\n"
	      "      --workers N         event-loop threads (default: the machine's cores)\n"
	      "      --mode MODE         observe, split or cache (default)\n"
	      "      --log-level LEVEL   error, warn, info (default) or debug\n"
	      "      --version, --help\n"
	      "\n"
	      "ADDR is host:port, host, [v6]:port or /path/to.sock. Stops on SIGTERM after statements in flight, "
	      "reloads on SIGHUP.\n",
	      out);
}

enum {
	OPT_CHECK = 256,
	OPT_LISTEN,
	OPT_PRIMARY,
	OPT_REPLICA,
	OPT_REDIS,
	OPT_ADMIN,
	OPT_HTTP,
	OPT_WORKERS,
	OPT_MODE,
	OPT_LOG,
	OPT_VERSION,
	OPT_HELP
};

static const struct option options[] = {
	{"check", no_argument, NULL, OPT_CHECK},
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"primary", required_argument, NULL, OPT_PRIMARY},
	{"replica", required_argument, NULL, OPT_REPLICA},
	{"redis", required_argument, NULL, OPT_REDIS},
	{"admin", required_argument, NULL, OPT_ADMIN},
	{"http", required_argument, NULL, OPT_HTTP},
	{"workers", required_argument, NULL, OPT_WORKERS},
	{"mode", required_argument, NULL, OPT_MODE},
	{"log-level", required_argument, NULL, OPT_LOG},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static int parse_workers(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n < 1 || n > 256) {
		fprintf(stderr, "sidetrack: --workers: '%s' is not a number from 1 to 256\n", text);
		exit(1);
	}
	return (int)n;
}

/* Returns true when --check was asked for. */
static bool parse_argv(int argc, char **argv, struct config_options *o)
{
	bool check = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		switch (opt) {
		case 'c': o->file = optarg; break;
		case OPT_CHECK: check = true; break;
		case OPT_LISTEN: o->listen = optarg; break;
		case OPT_PRIMARY: o->primary = optarg; break;
		case OPT_REPLICA:
			if (o->nreplica == CONFIG_SERVERS) {
				fprintf(stderr, "sidetrack: at most %d replicas\n", CONFIG_SERVERS);
				exit(1);
			}
			o->replica[o->nreplica++] = optarg;
			break;
		case OPT_REDIS: o->redis = optarg; break;
		case OPT_ADMIN: o->admin = optarg; break;
		case OPT_HTTP: o->http = optarg; break;
		case OPT_WORKERS: o->workers = parse_workers(optarg); break;
		case OPT_MODE: o->mode = optarg; break;
		case OPT_LOG: o->log_level = optarg; break;
		case OPT_VERSION:
			puts("sidetrack " SIDETRACK_VERSION);
			exit(0);
		case 'h':
		case OPT_HELP:
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(1);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "sidetrack: '%s' is not an option\n", argv[optind]);
		exit(1);
	}
	return check;
}

int main(int argc, char **argv)
{
	static struct daemon d;
	struct mistakes m = {0};
	bool check = parse_argv(argc, argv, &d.options);

	d.config = config_load(&d.options, on_mistake, &m);
	if (d.config == NULL)
		return 1;
	if (check) {
		config_unref(d.config);
		return 0;
	}
	log_set_level(d.config->log_level);
	int status = run(&d);
	config_unref(d.config);
	return status;
}
