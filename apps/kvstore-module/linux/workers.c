// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Threads that answer, and how requests are shared out among them.
 *
 * Matthew Huxtable's dissertation on Unbuckle, section 3.4: the hook is the request router,
 * each worker is a thread bound to a processor with a queue of its own, and any worker gives
 * the right answer, because all share one store under one lock. Its two ways to share out
 * (3.4.3) are both here:
 *
 * - by key: the same key always goes to the same worker, whose processor's cache has it;
 *   popular keys load their worker more than the others;
 * - round robin: every worker gets the same number of requests, whatever they are about.
 *
 * Not as there: a worker without work sleeps instead of turning, and sends its replies
 * itself; readers exclude each other, because a read of this engine also moves its marks of
 * use.
 */
#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/jhash.h>
#include <linux/kthread.h>
#include <linux/netdevice.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "store.h"

/* Requests a worker may be behind. What comes above that is dropped and counted. */
#define QUEUE 1024

struct worker {
	struct sk_buff_head queue;
	struct task_struct *thread;
} ____cacheline_aligned_in_smp;

static struct worker *workers;
static unsigned int count;
static bool by_key;
static u32 secret;
static atomic_t turn;

bool kv_have_workers(void)
{
	return count != 0;
}

/* The worker for a request. */
static struct worker *choose(const struct sk_buff *request)
{
	const u8 *key;
	size_t len;
	u32 number;

	if (!by_key)
		return &workers[(u32)atomic_inc_return(&turn) % count];
	key = exo_store_first_key(kv_payload(request), request->len - KV_HEADERS, &len);
	number = key ? jhash(key, len, secret) : 0;
	return &workers[number % count];
}

void kv_workers_give(struct sk_buff *request)
{
	struct worker *worker = choose(request);

	if (skb_queue_len_lockless(&worker->queue) >= QUEUE) {
		kv_count(queue_full);
		kfree_skb(request);
		return;
	}
	/* The device must not go while the reply's way leads through it. */
	dev_hold(request->dev);
	skb_queue_tail(&worker->queue, request);
	wake_up_process(worker->thread);
}

/* Answers until it is stopped. Whatever is in the queue then is released unanswered. */
static int work(void *data)
{
	struct worker *worker = data;

	while (!kthread_should_stop()) {
		struct sk_buff *request;

		set_current_state(TASK_INTERRUPTIBLE);
		if (skb_queue_empty_lockless(&worker->queue) && !kthread_should_stop())
			schedule();
		__set_current_state(TASK_RUNNING);
		while (!kthread_should_stop() && (request = skb_dequeue(&worker->queue))) {
			struct net_device *dev = request->dev;

			kv_answer(request);
			dev_put(dev);
			cond_resched();
		}
	}
	return 0;
}

static void release(struct worker *worker)
{
	struct sk_buff *request;

	kthread_stop(worker->thread);
	while ((request = skb_dequeue(&worker->queue))) {
		struct net_device *dev = request->dev;

		kv_count(queue_full);
		kfree_skb(request);
		dev_put(dev);
	}
}

int kv_workers_start(unsigned int wanted, bool keyed)
{
	unsigned int cpu = cpumask_first(cpu_online_mask);

	if (!wanted)
		return 0;
	workers = kcalloc(wanted, sizeof(*workers), GFP_KERNEL);
	if (!workers)
		return -ENOMEM;
	by_key = keyed;
	secret = get_random_u32();
	for (count = 0; count < wanted; count++) {
		struct worker *worker = &workers[count];
		struct task_struct *thread;

		skb_queue_head_init(&worker->queue);
		thread = kthread_create(work, worker, "exo_kvstore/%u", count);
		if (IS_ERR(thread)) {
			kv_workers_stop();
			return PTR_ERR(thread);
		}
		worker->thread = thread;
		kthread_bind(thread, cpu);
		wake_up_process(thread);
		cpu = cpumask_next(cpu, cpu_online_mask);
		if (cpu >= nr_cpu_ids)
			cpu = cpumask_first(cpu_online_mask);
	}
	return 0;
}

/* The hook must be gone: nothing may be given any more. */
void kv_workers_stop(void)
{
	while (count)
		release(&workers[--count]);
	kfree(workers);
	workers = NULL;
}
