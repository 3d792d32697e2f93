/* SPDX-License-Identifier: Apache-2.0 */
#include "lag.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static struct lagging {
	pthread_t thread;
	const char *socket;
	unsigned seed;
} lagging[REPLICAS];
static unsigned nlagging;
static atomic_bool stopping;
static atomic_int now = LAG_RANDOM;

/* Until another kind of lag is wanted, or so long. */
static void nap(struct lagging *l, unsigned most_ms)
{
	unsigned ms = (unsigned)rand_r(&l->seed) % most_ms;
	int kind = atomic_load(&now);

	for (unsigned i = 0; i < ms && !atomic_load(&stopping) && kind == atomic_load(&now); i += 2)
		usleep(2000);
}

/* A global read lock holds up the applier's commits and nobody's reads. It may fail: a read that is under way has what
 * the applier waits for. */
static void *lag(void *arg)
{
	struct lagging *l = arg;
	struct wire_account root = {.host = l->socket, .user = "root", .password = "lab-root", .collation = 45};
	struct answer a = {0};
	struct wire w;

	if (wire_open(&w, &root, &a))
		wire_query(&w, "SET lock_wait_timeout = 1", &a);
	while (!atomic_load(&stopping) && w.fd >= 0) {
		int kind = atomic_load(&now);
		if (kind != LAG_NONE && wire_query(&w, "FLUSH TABLES WITH READ LOCK", &a))
			nap(l, kind == LAG_ALWAYS ? 1 << 20 : 500);
		wire_query(&w, "UNLOCK TABLES", &a);
		if (kind != LAG_ALWAYS)
			nap(l, kind == LAG_NONE ? 1 << 20 : 500);
	}
	wire_close(&w, true);
	answer_fini(&a);
	return NULL;
}

void lag_start(const struct place *place)
{
	for (nlagging = 0; nlagging < place->replicas; nlagging++) {
		lagging[nlagging] = (struct lagging){.socket = place->replica[nlagging], .seed = nlagging + 1};
		pthread_create(&lagging[nlagging].thread, NULL, lag, &lagging[nlagging]);
	}
}

void lag_set(enum lag lag)
{
	atomic_store(&now, lag);
}

void lag_stop(void)
{
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < nlagging; i++)
		pthread_join(lagging[i].thread, NULL);
	nlagging = 0;
}
