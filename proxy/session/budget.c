/* SPDX-License-Identifier: Apache-2.0 */
#include "session/budget.h"

#include <stdatomic.h>

static _Atomic uint64_t used;
static atomic_int waiting;

bool budget_take(size_t *held, size_t want, uint64_t limit)
{
	if (want <= *held)
		return true;
	size_t more = want - *held;
	if (atomic_fetch_add_explicit(&used, more, memory_order_relaxed) + more > limit) {
		atomic_fetch_sub_explicit(&used, more, memory_order_relaxed);
		return false;
	}
	*held = want;
	return true;
}

void budget_note(size_t *held, size_t want)
{
	budget_take(held, want, UINT64_MAX);
}

void budget_give(size_t *held, size_t keep)
{
	if (*held <= keep)
		return;
	atomic_fetch_sub_explicit(&used, *held - keep, memory_order_relaxed);
	*held = keep;
}

bool budget_is_used_up(uint64_t limit)
{
	return budget_used() >= limit;
}

uint64_t budget_used(void)
{
	return atomic_load_explicit(&used, memory_order_relaxed);
}

void budget_waits(int change)
{
	atomic_fetch_add_explicit(&waiting, change, memory_order_relaxed);
}

bool budget_somebody_waits(void)
{
	return atomic_load_explicit(&waiting, memory_order_relaxed) > 0;
}
