/* SPDX-License-Identifier: Apache-2.0 */
#include "service/metrics.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "service/listen.h"

enum { HTTP_SECONDS = 30, HTTP_HEADERS = 8192, HTTP_BODY = 1024 };

struct metrics {
	struct admin_ops ops;
	struct event_base *base;
	struct evhttp *http;
	struct event *wake; /* on an eventfd: the base is not shared between threads */
	struct addr addr;
	int stop_fd;
	bool running;
	pthread_t thread;
};

static void answer(struct evhttp_request *req, int code, const char *type, const void *body, size_t n)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	struct evbuffer *out = evbuffer_new();

	if (out == NULL) {
		evhttp_send_error(req, HTTP_INTERNAL, NULL);
		return;
	}
	evbuffer_add(out, body, n);
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_send_reply(req, code, NULL, out);
	evbuffer_free(out);
}

static void on_metrics(struct evhttp_request *req, void *arg)
{
	struct metrics *m = arg;
	struct buf out = {0};

	metrics_text(&m->ops, &out);
	answer(req, HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
	buf_fini(&out);
}

static void on_status(struct evhttp_request *req, void *arg)
{
	struct metrics *m = arg;
	struct buf out = {0};

	metrics_status(&m->ops, &out);
	answer(req, HTTP_OK, "application/json", out.data, out.len);
	buf_fini(&out);
}

static void on_health(struct evhttp_request *req, void *arg)
{
	(void)arg;
	answer(req, HTTP_OK, "text/plain", "ok\n", 3);
}

static void on_ready(struct evhttp_request *req, void *arg)
{
	struct metrics *m = arg;
	char why[4096];
	bool ready = metrics_ready(&m->ops, why, sizeof why);

	answer(req, ready ? HTTP_OK : HTTP_SERVUNAVAIL, "text/plain", why, strlen(why));
}

static void on_page(struct evhttp_request *req, void *arg)
{
	(void)arg;
	answer(req, HTTP_OK, "text/html; charset=utf-8", metrics_page, strlen(metrics_page));
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
	struct metrics *m = arg;

	(void)fd;
	(void)what;
	event_base_loopbreak(m->base);
}

static void *serve(void *arg)
{
	struct metrics *m = arg;

	event_base_dispatch(m->base);
	return NULL;
}

static int set_up(struct metrics *m)
{
	m->base = event_base_new();
	m->http = m->base != NULL ? evhttp_new(m->base) : NULL;
	m->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (m->http == NULL || m->stop_fd < 0)
		return -1;
	m->wake = event_new(m->base, m->stop_fd, EV_READ, on_stop, m);
	if (m->wake == NULL || event_add(m->wake, NULL) != 0)
		return -1;
	evhttp_set_timeout(m->http, HTTP_SECONDS);
	evhttp_set_max_headers_size(m->http, HTTP_HEADERS);
	evhttp_set_max_body_size(m->http, HTTP_BODY);
	evhttp_set_allowed_methods(m->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_cb(m->http, "/metrics", on_metrics, m);
	evhttp_set_cb(m->http, "/status.json", on_status, m);
	evhttp_set_cb(m->http, "/healthz", on_health, m);
	evhttp_set_cb(m->http, "/readyz", on_ready, m);
	evhttp_set_cb(m->http, "/", on_page, m);
	int fd = listen_on(&m->addr);
	if (fd < 0)
		return -1;
	evutil_make_socket_nonblocking(fd);
	if (evhttp_accept_socket(m->http, fd) == 0)
		return 0;
	close(fd);
	return -1;
}

struct metrics *metrics_start(const struct admin_ops *ops, const struct config *config)
{
	struct metrics *m = xcalloc(1, sizeof *m);

	m->ops = *ops;
	m->addr = config->http;
	m->stop_fd = -1;
	if (!config->has_http)
		return m;
	if (set_up(m) == 0 && pthread_create(&m->thread, NULL, serve, m) == 0) {
		m->running = true;
		return m;
	}
	metrics_stop(m);
	return NULL;
}

void metrics_stop(struct metrics *m)
{
	const uint64_t one = 1;

	if (m == NULL)
		return;
	if (m->running) {
		if (write(m->stop_fd, &one, sizeof one) != sizeof one)
			log_error("web service: cannot wake its thread");
		pthread_join(m->thread, NULL);
		if (m->addr.is_unix)
			unlink(m->addr.host);
	}
	if (m->wake != NULL)
		event_free(m->wake);
	if (m->http != NULL)
		evhttp_free(m->http);
	if (m->base != NULL)
		event_base_free(m->base);
	if (m->stop_fd >= 0)
		close(m->stop_fd);
	free(m);
}
