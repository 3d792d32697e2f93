/* SPDX-License-Identifier: Apache-2.0
 *
 * Workers: closures from several threads, in order, none lost; and what is buried lives to the end of its turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/worker.h"

enum { SENDERS = 4, LETTERS = 20000 };

static struct worker *worker;
static struct {
	unsigned next[SENDERS]; /* the worker's */
	unsigned ran, out_of_order, elsewhere;
	pthread_t thread;
	bool thread_known;
	pthread_mutex_t lock; /* of what a test waits for */
	pthread_cond_t done;
} seen;

static int up(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof seen);
	pthread_mutex_init(&seen.lock, NULL);
	pthread_cond_init(&seen.done, NULL);
	worker = worker_new(3);
	return 0;
}

static int down(void **state)
{
	(void)state;
	worker_stop(worker);
	worker_free(worker);
	return 0;
}

static void take(struct worker *w, void *arg)
{
	unsigned sender = (unsigned)(uintptr_t)arg / LETTERS, number = (unsigned)(uintptr_t)arg % LETTERS;

	if (!seen.thread_known)
		seen.thread = pthread_self();
	seen.thread_known = true;
	seen.elsewhere += w != worker || !pthread_equal(seen.thread, pthread_self());
	seen.out_of_order += seen.next[sender]++ != number;
	seen.ran++;
}

static void *send_all(void *arg)
{
	for (unsigned i = 0; i < LETTERS; i++)
		worker_post(worker, take, (void *)((uintptr_t)arg * LETTERS + i));
	return NULL;
}

static void senders(pthread_t threads[SENDERS])
{
	for (uintptr_t i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, send_all, (void *)i), 0);
}

static void assert_all_ran(void)
{
	assert_int_equal(seen.ran, SENDERS * LETTERS);
	assert_int_equal(seen.out_of_order, 0);
	assert_int_equal(seen.elsewhere, 0);
	assert_false(pthread_equal(seen.thread, pthread_self()));
}

static void letters_from_many_threads(void **state)
{
	pthread_t threads[SENDERS];

	(void)state;
	worker_start(worker);
	senders(threads);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	worker_stop(worker); /* what was posted before it has run */
	assert_all_ran();
}

static void letters_from_before_the_start(void **state)
{
	pthread_t threads[SENDERS];

	(void)state;
	senders(threads);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(seen.ran, 0);
	worker_start(worker);
	worker_stop(worker);
	assert_all_ran();
}

static void count_down(struct worker *w, void *arg)
{
	unsigned *left = arg;

	pthread_mutex_lock(&seen.lock);
	if (--*left > 0)
		worker_post(w, count_down, left);
	else
		pthread_cond_signal(&seen.done);
	pthread_mutex_unlock(&seen.lock);
}

/* Each is of a later turn; none waits for another bell. */
static void letters_that_write_letters(void **state)
{
	unsigned left = 1000;

	(void)state;
	worker_start(worker);
	worker_post(worker, count_down, &left);
	pthread_mutex_lock(&seen.lock);
	while (left > 0)
		pthread_cond_wait(&seen.done, &seen.lock);
	pthread_mutex_unlock(&seen.lock);
}

static struct {
	unsigned destroyed, turns, destroyed_at_turn_end;
	bool early;
	int *body;
} grave;

static void destroy_second(void *p)
{
	grave.destroyed++;
	free(p);
}

static void destroy_first(void *p)
{
	grave.destroyed++;
	worker_bury(worker, xmalloc(8), destroy_second); /* what is freed may bury in its turn */
	free(p);
}

static void bury(struct worker *w, void *arg)
{
	(void)arg;
	grave.body = xmalloc(sizeof *grave.body);
	*grave.body = 42;
	worker_bury(w, grave.body, destroy_first);
}

static void visit(struct worker *w, void *arg)
{
	(void)w;
	(void)arg;
	grave.early = grave.destroyed > 0 || *grave.body != 42;
}

static void on_turn_end(struct worker *w, void *arg)
{
	(void)w;
	assert_ptr_equal(arg, &grave);
	if (grave.turns++ == 0)
		grave.destroyed_at_turn_end = grave.destroyed;
}

/* Both letters are of one turn: they were there when the loop began. */
static void the_buried_live_to_the_turns_end(void **state)
{
	(void)state;
	memset(&grave, 0, sizeof grave);
	struct worker_hook hook = {.fn = on_turn_end, .arg = &grave};
	worker_at_turn_end(worker, &hook);
	worker_post(worker, bury, NULL);
	worker_post(worker, visit, NULL);
	worker_start(worker);
	worker_stop(worker);
	assert_false(grave.early);
	assert_int_equal(grave.destroyed, 2);
	assert_int_equal(grave.destroyed_at_turn_end, 0);
	assert_true(grave.turns > 0);
}

/* A worker that never ran: nothing leaks, and letters are not opened. */
static void a_worker_that_never_ran(void **state)
{
	(void)state;
	memset(&grave, 0, sizeof grave);
	worker_post(worker, take, NULL);
	worker_bury(worker, xmalloc(8), destroy_second);
	worker_free(worker);
	assert_int_equal(grave.destroyed, 1);
	assert_int_equal(seen.ran, 0);
	worker = worker_new(0);
}

static void stopping_twice(void **state)
{
	(void)state;
	worker_stop(worker);
	worker_start(worker);
	worker_stop(worker);
	worker_stop(worker);
	assert_int_equal(worker->index, 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(letters_from_many_threads),  TEST(letters_from_before_the_start),
		TEST(letters_that_write_letters), TEST(the_buried_live_to_the_turns_end),
		TEST(a_worker_that_never_ran),    TEST(stopping_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
