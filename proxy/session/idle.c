/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients that say nothing. A server ends them after wait_timeout, whatever they have open; so does the proxy, since
 * its own connections to the server are busy with others. And a connection that a session keeps is not ended by the
 * server while the session is active elsewhere: a close of a prepared statement that does not exist, the one command
 * that has no answer and leaves no trace in ROW_COUNT(), warnings and kin, begins the server's wait anew.
 *
 * One timer a worker, at the time when the first of its sessions may be due, and a stamp in each session: clients that
 * are idle cost nothing.
 */
#include "session/session.h"

#include <stdlib.h>
#include <sys/socket.h>

enum { DEFAULT_SECONDS = 28800, /* a server's wait_timeout until one has told its own */
       STEP_US = 100000,        /* looks are no closer */
       FAR_US = 60000000,       /* ... and no further apart */
       NO_STATEMENT = 0xfffffff0 };

void idle_logged_in(struct session *s)
{
	const struct topology *t = s->pw->cluster.topology;
	unsigned seconds = 0;

	if (t != NULL)
		seconds = s->caps & CAP_INTERACTIVE ? t->interactive_timeout : t->wait_timeout;
	s->wait_timeout = seconds != 0 ? seconds : DEFAULT_SECONDS;
	s->patience_us = 0;
}

/* How long the server waits for the next command of a session in that state. */
static int64_t patience(const struct session *s, const struct state *state)
{
	const char *own = state_get(state, "wait_timeout");
	const char *set = own != NULL ? own : defaults_get(s->base, "wait_timeout");
	long long seconds = set != NULL ? strtoll(set, NULL, 10) : 0;

	return (seconds > 0 ? seconds : (long long)s->wait_timeout) * 1000000;
}

static bool may_be_idle(const struct session *s)
{
	return s->patience_us != 0 && s->discarded == NULL && (s->step == SESSION_IDLE || s->step == SESSION_SWITCH);
}

static int64_t due(const struct session *s)
{
	return may_be_idle(s) ? s->active_us + s->patience_us : INT64_MAX;
}

/* When the connection that it keeps is to be told that it is still there; INT64_MAX: the session has been idle for as
 * long itself. */
static int64_t home_due(const struct session *s)
{
	if (s->home == NULL || s->home == s->current || (s->step == SESSION_IDLE && s->active_us <= s->home_us))
		return INT64_MAX;
	return s->home_us + patience(s, &s->home->have) / 2;
}

void idle_look_at(struct proxy_worker *pw, int64_t at)
{
	int64_t in;

	if (at >= pw->idle_due)
		return;
	pw->idle_due = at;
	in = at - topology_now_us();
	if (in < 0)
		in = 0;
	struct timeval tv = {.tv_sec = (time_t)(in / 1000000), .tv_usec = (suseconds_t)(in % 1000000)};
	event_add(&pw->idle_tick, &tv);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

void idle_begins(struct session *s)
{
	s->active_us = topology_now_coarse_us();
	if (s->patience_us == 0 || s->patience_of != s->want.hash) {
		s->patience_us = patience(s, &s->want);
		s->patience_of = s->want.hash;
	}
	if (s->home != NULL && (s->home->thread_id != s->home_thread || s->home->uses != s->home_uses)) {
		s->home_thread = s->home->thread_id;
		s->home_uses = s->home->uses;
		s->home_us = s->active_us;
	}
	idle_look_at(s->pw, earlier(due(s), home_due(s)));
}

static void keep_home(struct session *s, int64_t now)
{
	static const uint8_t nothing[] = {5, 0, 0, 0, COM_STMT_CLOSE, NO_STATEMENT & 0xff, NO_STATEMENT >> 8 & 0xff,
					  NO_STATEMENT >> 16 & 0xff, NO_STATEMENT >> 24};

	conn_write(&s->home->conn, nothing, sizeof nothing); /* reading tells when it is gone */
	s->home_us = now;
}

/* Gone as from a server: with a reset, so that a client notices when it writes, and may connect anew. */
static void end(struct session *s)
{
	struct linger at_once = {.l_onoff = 1, .l_linger = 0};

	if (conn_queued(&s->conn) == 0)
		setsockopt(s->conn.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	session_close(s, "idle for wait_timeout");
}

bool idle_home_was_due(const struct session *s, const struct backend *b)
{
	int64_t limit = patience(s, &b->have);

	return topology_now_us() - s->home_us >= limit - limit / 8;
}

/* What is closed is freed at the end of the turn: its links may still be followed. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct proxy_worker *pw = arg;
	int64_t now = topology_now_us(), next = INT64_MAX;

	(void)fd;
	(void)what;
	pw->idle_due = INT64_MAX;
	input_look_for_memory(pw, now);
	for (struct session *s = LIST_FIRST(&pw->sessions), *after; s != NULL; s = after) {
		after = LIST_NEXT(s, link);
		if (s->step == SESSION_CLOSED)
			continue;
		if (input_dawdles(s, now)) {
			session_close(s, "others wait for the memory of a command that does not come");
			continue;
		}
		if (due(s) <= now) {
			end(s);
			continue;
		}
		if (home_due(s) <= now)
			keep_home(s, now);
		next = earlier(next, earlier(input_due(s, now), earlier(due(s), home_due(s))));
	}
	if (next == INT64_MAX)
		return;
	next = next < now + STEP_US ? now + STEP_US : next;
	idle_look_at(pw, earlier(next, now + FAR_US));
}

void idle_init(struct proxy_worker *pw)
{
	pw->idle_due = INT64_MAX;
	evtimer_assign(&pw->idle_tick, pw->worker->base, on_tick, pw);
}
