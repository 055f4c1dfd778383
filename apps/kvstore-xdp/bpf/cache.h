/* The cache's memory: a hash table of sets of entries, and what is known of requests that
 * memcached has not yet answered.
 *
 * A *set* holds the entries of all keys with the same lower bits of their hash: eight, the
 * next one replaces the oldest. Its lock also guards its entries. An entry is a key and the
 * text that answers a `get` of it, as memcached wrote it.
 */
#pragma once

#include "packet.h"

#define SETS 1024
#define WAYS 8
#define MAX_KEY 250
#define KEY_WORDS 32
/* One Ethernet frame. */
#define MAX_TEXT (1514 - (int)TEXT)
#define TEXT_WORDS ((MAX_TEXT + 7) / 8)
/* Bytes that one call can sum up. */
#define SUM_BLOCK 512

struct set {
	struct bpf_spin_lock lock;
	/* How many writes to a key of the set have come in. */
	__u32 writes;
	/* Whether one of them may have given an item a time at which it expires. */
	__u32 expires;
	/* The entry to replace next. */
	__u32 next;
	/* Of each entry the upper half of its key's hash, plus the epoch; 0: none. */
	__u32 tags[WAYS];
};

struct entry {
	__u32 key_length;
	__u32 length;
	/* Internet checksum of the text, not folded. */
	__u32 sum;
	__u32 unused;
	/* Padded with zeros. */
	__u64 key[KEY_WORDS];
	__u64 text[TEXT_WORDS];
};

/* What a request was that memcached has been given. */
struct ticket {
	__u64 hash;
	/* Of its set and of the cache when the request came in. */
	__u32 writes;
	__u32 epoch;
	/* Of the key, if the reply may be kept. */
	__u32 key_length;
	/* The client's id of the request. */
	__be16 id;
	__u16 issued;
};

enum count { HITS, MISSES, FILLS, LATE, WRITES, FLUSHES, REFUSED, COUNTS };

/* All that is not per set. */
struct state {
	__u64 counts[COUNTS];
	/* How often everything was forgotten. */
	__u32 epoch;
	/* Whether something came in of which the cache does not know what it changes. */
	__u32 closed;
	/* Requests given to memcached. */
	__u32 tickets;
	__u32 unused;
};

#define MAX_FIELDS 8

/* The first line of a request: words with one blank between any two. */
struct line {
	/* Bytes of the datagram's text. */
	__u32 total;
	/* Bytes of the line, its end included; 0 while that has not been seen. */
	__u32 length;
	__u32 fields;
	/* Bytes of the field that is being read. */
	__u32 field_length;
	/* Whether there is a character in it that no request has. */
	__u32 bad;
	/* Whether two blanks come together, or one at an end. */
	__u32 empty;
	/* Whether it ends with a carriage return and a line feed. */
	__u32 returned;
	__u32 first_length;
	__u32 key_length;
	/* Whether the field is a number so far, and which. */
	__u32 digits;
	__u64 number;
	/* Which fields are numbers, a bit for each. */
	__u64 numeric;
	__u64 flags, expiry, bytes;
};

/* Where a processor puts a key and a text together: too large for its stack. */
struct scratch {
	__u64 key[KEY_WORDS];
	__u64 text[SUM_BLOCK / 8 * 3];
	struct line line;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SETS);
	__type(key, __u32);
	__type(value, struct set);
} sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SETS * WAYS);
	__type(key, __u32);
	__type(value, struct entry);
} entries SEC(".maps");

/* By the id that memcached sees; far more than a socket's queue holds. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, struct ticket);
} tickets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct state *state_of(void)
{
	__u32 only = 0;
	return bpf_map_lookup_elem(&states, &only);
}

static __always_inline struct scratch *scratch_of(void)
{
	__u32 only = 0;
	return bpf_map_lookup_elem(&scratches, &only);
}

static __always_inline void count(struct state *state, enum count what)
{
	__sync_fetch_and_add(&state->counts[what], 1);
}

/* Hash of the key in the scratch, which is padded with zeros to whole words. */
static __always_inline __u64 hash_of(const struct scratch *scratch, __u32 length)
{
	__u64 hash = length;

	for (int word = 0; word < KEY_WORDS; word++) {
		if (word * 8 >= length)
			break;
		hash = (hash ^ scratch->key[word]) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 32;
	}
	/* A product's lower bits know nothing of a word's last characters; the set is chosen by
	 * them. So mixed once more, as SplitMix64 does. */
	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9ull;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111ebull;
	return hash ^ hash >> 31;
}

static __always_inline struct set *set_of(__u64 hash)
{
	__u32 index = hash & (SETS - 1);
	return bpf_map_lookup_elem(&sets, &index);
}

static __always_inline struct entry *entry_of(__u64 hash, __u32 way)
{
	__u32 index = (hash & (SETS - 1)) * WAYS + (way & (WAYS - 1));
	return bpf_map_lookup_elem(&entries, &index);
}

static __always_inline __u32 tag_of(__u64 hash, __u32 epoch)
{
	return (__u32)(hash >> 32) + epoch;
}

/* The entry of a set with that tag; WAYS if there is none. */
static __always_inline __u32 way_of(const struct set *set, __u32 tag)
{
	for (__u32 way = 0; way < WAYS; way++)
		if (set->tags[way] == tag)
			return way;
	return WAYS;
}
