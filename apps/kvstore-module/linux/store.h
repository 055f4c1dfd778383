/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The store, as ../src/boundary.rs exports it, and what the files here share.
 *
 * A packet's way: packet.c recognises a request (kv_hook), workers.c hands it to a thread if
 * there are threads, packet.c answers it (kv_answer). module.c owns store, lock and
 * parameters.
 */
#ifndef EXO_KVSTORE_STORE_H
#define EXO_KVSTORE_STORE_H

#include <linux/ip.h>
#include <linux/netfilter.h>
#include <linux/percpu.h>
#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/udp.h>

struct exo_store;

/* Contracts: ../src/boundary.rs. */
struct exo_store *exo_store_new(u8 *memory, size_t len, const u64 seed[2], u32 pid);
size_t exo_store_answer(struct exo_store *store, const u8 *request, size_t len,
			u8 *reply, size_t room, u64 unix_seconds, u32 uptime);
const u8 *exo_store_first_key(const u8 *request, size_t len, size_t *key_len);

/* Called by the store if it panics: ../src/panic.rs. */
void __noreturn exo_store_panic(const u8 *file, size_t len, u32 line);

/* The longest request and reply, as for every placement: kvstore::MAX_DATAGRAM. */
#define KV_MAX_DATAGRAM 1472

/* Bytes before the payload: requests with IP options are not taken. */
#define KV_HEADERS (sizeof(struct iphdr) + sizeof(struct udphdr))

/* The payload of a request, of request->len - KV_HEADERS bytes, all in one piece. */
static inline const u8 *kv_payload(const struct sk_buff *request)
{
	return skb_network_header(request) + KV_HEADERS;
}

/* What became of the packets of the port. Each is in exactly one of the counts. */
struct kv_counts {
	u64 answered;	/* a reply was handed to the device's queue */
	u64 silent;	/* carried out or refused, as the protocol wants it, without a reply */
	u64 malformed;	/* UDP length, checksum, or a source that cannot be answered */
	u64 too_long;	/* longer than KV_MAX_DATAGRAM */
	u64 no_memory;	/* no memory for a reply: not carried out */
	u64 queue_full;	/* the worker is behind: not carried out */
	u64 unsent;	/* carried out, but the device's queue took no reply */
};
DECLARE_PER_CPU(struct kv_counts, kv_counts);
#define kv_count(what) this_cpu_inc(kv_counts.what)

/* module.c: the one store, and the lock that is held while it answers. */
extern struct exo_store *kv_store;
extern spinlock_t kv_lock;
extern __be16 kv_port;
extern time64_t kv_started;

/* packet.c */
unsigned int kv_hook(void *priv, struct sk_buff *skb, const struct nf_hook_state *state);
void kv_answer(struct sk_buff *request);

/* workers.c: none if the number is 0. */
int kv_workers_start(unsigned int count, bool by_key);
void kv_workers_stop(void);
bool kv_have_workers(void);
/* Takes the packet over. */
void kv_workers_give(struct sk_buff *request);

#endif
