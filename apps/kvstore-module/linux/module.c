// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The store as a kernel module: parameters, loading, unloading.
 *
 *	insmod exo_kvstore.ko memory_mib=64 port=11211
 *
 * All memory of the store is taken once, when it is loaded.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/netfilter_ipv4.h>
#include <linux/random.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#include <net/net_namespace.h>

#include "store.h"

static ushort port = 11211;
module_param(port, ushort, 0444);
MODULE_PARM_DESC(port, "UDP port, 1 to 65535 (default 11211)");

static uint memory_mib = 64;
module_param(memory_mib, uint, 0444);
MODULE_PARM_DESC(memory_mib, "memory of the store in MiB, taken at once (default 64)");

static ulong seed;
module_param(seed, ulong, 0400);
MODULE_PARM_DESC(seed, "secret of the index, for runs that must repeat (default 0: random)");

static uint workers;
module_param(workers, uint, 0444);
MODULE_PARM_DESC(workers, "threads that answer, at most 64 (default 0: the hook answers)");

static char *distribution = "round-robin";
module_param(distribution, charp, 0444);
MODULE_PARM_DESC(distribution, "how workers share requests: round-robin (default) or key");

struct exo_store *kv_store;
DEFINE_SPINLOCK(kv_lock);
__be16 kv_port;
time64_t kv_started;

static void *memory;

static const struct nf_hook_ops hook = {
	.hook = kv_hook,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_PRE_ROUTING,
	.priority = NF_IP_PRI_FIRST,
};

/* The counts of all processors, as one line. */
static int counts_line(char *line, size_t size)
{
	struct kv_counts sum = {};
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct kv_counts *counts = &per_cpu(kv_counts, cpu);

		sum.answered += counts->answered;
		sum.silent += counts->silent;
		sum.malformed += counts->malformed;
		sum.too_long += counts->too_long;
		sum.no_memory += counts->no_memory;
		sum.queue_full += counts->queue_full;
		sum.unsent += counts->unsent;
	}
	return scnprintf(line, size,
			 "answered %llu silent %llu malformed %llu too-long %llu "
			 "no-memory %llu queue-full %llu unsent %llu\n",
			 sum.answered, sum.silent, sum.malformed, sum.too_long,
			 sum.no_memory, sum.queue_full, sum.unsent);
}

static int show_counts(char *page, const struct kernel_param *param)
{
	return counts_line(page, PAGE_SIZE);
}

static const struct kernel_param_ops counts_ops = { .get = show_counts };
module_param_cb(counts, &counts_ops, NULL, 0444);
MODULE_PARM_DESC(counts, "what became of the packets of the port (to be read)");

/* Stops the machine: the store holds its lock, and its memory cannot be trusted. */
void __noreturn exo_store_panic(const u8 *file, size_t len, u32 line)
{
	panic("exo_kvstore: the store panicked at %.*s:%u", (int)len, file, line);
}

static int check_parameters(void)
{
	/* Taking nearly all there is would have other programs killed for it. */
	ulong most = si_mem_available() / 2 >> (20 - PAGE_SHIFT);

	if (!port) {
		pr_err("port=0: give a UDP port from 1 to 65535\n");
		return -EINVAL;
	}
	if (!memory_mib || memory_mib > most) {
		pr_err("memory_mib=%u: give 1 to %lu, half of what is free now\n", memory_mib,
		       most);
		return -EINVAL;
	}
	if (workers > 64) {
		pr_err("workers=%u: give 0 to 64\n", workers);
		return -EINVAL;
	}
	if (strcmp(distribution, "key") && strcmp(distribution, "round-robin")) {
		pr_err("distribution=%s: give round-robin or key\n", distribution);
		return -EINVAL;
	}
	return 0;
}

static int __init kv_init(void)
{
	size_t bytes = (size_t)memory_mib << 20;
	u64 words[2] = { seed, 0 };
	int error = check_parameters();

	if (error)
		return error;
	memory = __vmalloc(bytes, GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
	if (!memory) {
		pr_err("memory_mib=%u: there is not that much memory; give less\n", memory_mib);
		return -ENOMEM;
	}
	if (!seed)
		get_random_bytes(words, sizeof(words));
	kv_started = ktime_get_seconds();
	kv_port = htons(port);
	error = -EINVAL;
	kv_store = exo_store_new(memory, bytes, words, 0);
	memzero_explicit(words, sizeof(words));
	if (!kv_store) {
		pr_err("memory_mib=%u: give 1 to 32767\n", memory_mib);
		goto free;
	}
	error = kv_workers_start(workers, !strcmp(distribution, "key"));
	if (error)
		goto free;
	error = nf_register_net_hook(&init_net, &hook);
	if (error)
		goto stop;
	pr_info("serving UDP port %u, %u MiB, %u workers\n", port, memory_mib, workers);
	return 0;
stop:
	kv_workers_stop();
free:
	vfree(memory);
	return error;
}

static void __exit kv_exit(void)
{
	char counts[256];

	/* After this no packet is in the hook and none will be; then the threads end. */
	nf_unregister_net_hook(&init_net, &hook);
	synchronize_net();
	kv_workers_stop();
	vfree(memory);
	counts_line(counts, sizeof(counts));
	pr_info("unloaded: %s", counts);
}

module_init(kv_init);
module_exit(kv_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Exo's memcached-compatible store, answering UDP from a netfilter hook");
