/* A cache of memcached's answers in XDP, in the manner of BMC (Ghigoff et al., "BMC:
 * Accelerating Memcached using Safe In-kernel Caching and Pre-stack Processing", NSDI 2021).
 *
 * Place on the packet path: `ingress` is in the NIC driver's receive loop and answers a `get`
 * of one key by sending its packet back; `egress` is where the guest's packets leave, and
 * keeps what memcached answers. All else is memcached's.
 *
 * **Never an old value.** memcached must have one thread, one UDP socket and no other
 * transport. It then takes its requests in the order in which `ingress` has seen them.
 *
 * 1. A write that comes in is counted in its key's set, and the set's entry of the key is
 *    removed, before memcached can have seen the write.
 * 2. A `get` that is passed on notes that count. Its reply is kept only if the count is still
 *    the same when the reply leaves: no write of the set came in between. Those that had come
 *    before the `get` were carried out before it. So what is kept is what all writes that have
 *    come in so far have left.
 * 3. Which `get` a reply is for cannot be left to the id that the client has chosen: one that
 *    repeats a request with the same id would have the reply to the first, from before a
 *    write, kept for that to the second, from after it. So each request that is passed on gets
 *    an id of the cache's own, a ticket, and its reply the client's again. There are 65,536,
 *    and a socket's queue holds some hundreds.
 * 4. Time changes values too. Where a write may have given an item a time to expire, nothing
 *    of its set is kept any more. Where it is not known what a datagram changes (request.h),
 *    nothing is kept or answered until the program is loaded again.
 *
 * Counting and removing, keeping, and answering are each done under the set's lock.
 *
 * Not checked here: the checksums of a request that is answered. Packets are refused that
 * cannot be given a ticket: UDP in fragments, or behind IP options.
 */
#include "request.h"

/* Moves a key or text between packet and scratch; not 0 if it cannot be. The verifier wants to
 * see that there is at least a byte, which it infers from an addition and not from a comparison
 * with 0; the empty assembler text keeps the compiler from joining the two. */
#define MOVE(helper, context, offset, place, length, most)                                     \
	({                                                                                     \
		__u32 less_ = (length)-1;                                                      \
		asm volatile("" : "+r"(less_));                                                \
		less_ >= (most) || helper(context, offset, place, less_ + 1);                  \
	})

/* The same for a key of a packet, padded with zeros to whole words. */
#define TAKE_KEY(helper, context, offset, scratch, length)                                     \
	({                                                                                     \
		__u32 less_ = (length)-1;                                                      \
		asm volatile("" : "+r"(less_));                                                \
		less_ >= MAX_KEY || ((scratch)->key[less_ / 8] = 0,                            \
				     helper(context, offset, (scratch)->key, less_ + 1));      \
	})

static __always_inline __u16 folded(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Copies the answer to the key in the scratch to the scratch; its length, or 0. */
static __always_inline __u32 find(struct scratch *scratch, __u32 key_length, __u64 hash,
				  __u32 epoch, __u32 *sum)
{
	struct set *set = set_of(hash);
	__u32 tag = tag_of(hash, epoch);
	struct entry *entry;
	__u32 way, length = 0, differ = 0;

	if (!set || !tag)
		return 0;
	way = way_of(set, tag);
	if (way >= WAYS)
		return 0;
	entry = entry_of(hash, way);
	if (!entry)
		return 0;
	bpf_spin_lock(&set->lock);
	if (set->tags[way & (WAYS - 1)] == tag && entry->key_length == key_length) {
		for (int word = 0; word < KEY_WORDS; word++) {
			if (word * 8 >= key_length)
				break;
			if (entry->key[word] != scratch->key[word]) {
				differ = 1;
				break;
			}
		}
		if (!differ) {
			length = entry->length;
			*sum = entry->sum;
			for (int word = 0; word < TEXT_WORDS; word++) {
				if (word * 8 >= length)
					break;
				scratch->text[word] = entry->text[word];
			}
		}
	}
	bpf_spin_unlock(&set->lock);
	return length;
}

/* Turns the packet of a request into the reply with the text in the scratch. */
static __always_inline int reply(struct xdp_md *context, struct scratch *scratch, __u32 length,
				 __u32 sum, __u32 before)
{
	struct headers *packet;
	struct datagram *datagram;
	__u16 *words;
	void *end;
	__u16 udp_length = sizeof(struct udphdr) + sizeof(struct datagram) + length;
	__u64 total = 0;

	if (bpf_xdp_adjust_tail(context, (int)length - (int)before))
		return XDP_DROP;
	if (MOVE(bpf_xdp_store_bytes, context, TEXT, scratch->text, length, MAX_TEXT))
		return XDP_DROP;
	packet = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	datagram = (void *)(packet + 1);
	words = (void *)packet + offsetof(struct headers, ip);
	if ((void *)(datagram + 1) > end)
		return XDP_DROP;
	turn(packet);
	packet->ip.tot_len = bpf_htons(sizeof(struct iphdr) + udp_length);
	packet->ip.ttl = 64;
	packet->ip.check = 0;
	for (int word = 0; word < sizeof(struct iphdr) / 2; word++)
		total += words[word];
	packet->ip.check = ~folded(total);
	datagram->number = 0;
	datagram->count = bpf_htons(1);
	datagram->reserved = 0;
	packet->udp.len = bpf_htons(udp_length);
	/* RFC 768: the pseudo header, this header and the data. */
	total = (__u64)packet->ip.saddr + packet->ip.daddr + bpf_htons(IPPROTO_UDP);
	total += packet->udp.len + packet->udp.source + packet->udp.dest + packet->udp.len;
	total += (__u64)datagram->id + datagram->count + sum;
	packet->udp.check = ~folded(total);
	if (!packet->udp.check)
		packet->udp.check = 0xffff;
	return XDP_TX;
}

/* Gives a request that memcached will see a ticket, and notes what it changes. */
static __always_inline int pass(struct xdp_md *context, struct state *state,
				struct scratch *scratch, __u32 length, int answerable)
{
	struct ticket *ticket;
	struct headers *packet;
	struct datagram *datagram;
	struct set *set;
	__u32 key_length = 0, number, at;
	__u32 sum;
	__be16 old;
	enum kind kind;

	if (MOVE(bpf_xdp_load_bytes, context, TEXT, scratch->text, length, MAX_TEXT))
		return XDP_DROP;
	number = __sync_fetch_and_add(&state->tickets, 1) & 0xffff;
	ticket = bpf_map_lookup_elem(&tickets, &number);
	packet = (void *)(long)context->data;
	datagram = (void *)(packet + 1);
	if (!ticket || (void *)(datagram + 1) > (void *)(long)context->data_end)
		return XDP_DROP;
	old = datagram->id;
	ticket->id = old;
	ticket->issued = 1;
	ticket->key_length = 0;
	datagram->id = bpf_htons(number);
	if (packet->udp.check) {
		/* RFC 1624, equation 3. */
		sum = (__u16)~packet->udp.check;
		sum += (__u16)~old + (__u32)datagram->id;
		packet->udp.check = ~folded(sum);
		if (!packet->udp.check)
			packet->udp.check = 0xffff;
	}
	if (state->closed || datagram->count != bpf_htons(1))
		/* memcached refuses a request in several datagrams. */
		return XDP_PASS;

	kind = classify(scratch, length, &key_length);
	switch (kind) {
	case HARMLESS:
		return XDP_PASS;
	case FLUSH:
		__sync_fetch_and_add(&state->epoch, 1);
		count(state, FLUSHES);
		return XDP_PASS;
	case UNKNOWN:
		state->closed = 1;
		return XDP_PASS;
	default:
		break;
	}
	if (key_length == 0 || key_length > MAX_KEY)
		return XDP_PASS;
	/* The key follows the first word and a blank. */
	at = scratch->line.first_length + 1;
	if (at > 16)
		return XDP_PASS;
	if (TAKE_KEY(bpf_xdp_load_bytes, context, TEXT + at, scratch, key_length))
		return XDP_PASS;
	ticket->hash = hash_of(scratch, key_length);
	ticket->epoch = state->epoch;
	set = set_of(ticket->hash);
	if (!set)
		return XDP_PASS;
	if (kind == READ) {
		count(state, MISSES);
		ticket->writes = set->writes;
		if (answerable)
			ticket->key_length = key_length;
		return XDP_PASS;
	}
	count(state, WRITES);
	number = tag_of(ticket->hash, ticket->epoch);
	bpf_spin_lock(&set->lock);
	set->writes++;
	if (kind == WRITE_EXPIRING)
		set->expires = 1;
	for (int way = 0; way < WAYS; way++)
		if (set->tags[way] == number)
			set->tags[way] = 0;
	bpf_spin_unlock(&set->lock);
	return XDP_PASS;
}

SEC("xdp")
int ingress(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct headers *packet = (void *)(long)context->data;
	struct datagram *datagram = (void *)(packet + 1);
	struct state *state = state_of();
	struct scratch *scratch = scratch_of();
	__u32 length, key_length, found, sum = 0, whole;
	char *text;
	int answerable;

	if (!state || !scratch)
		return XDP_ABORTED;
	if ((void *)(packet + 1) > end || packet->ethernet.h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (packet->ip.protocol != IPPROTO_UDP)
		return XDP_PASS;
	if (packet->ip.ihl != 5 || packet->ip.frag_off & bpf_htons(0x3fff))
		goto refuse;
	if (packet->udp.dest != bpf_htons(PORT))
		return XDP_PASS;
	length = bpf_ntohs(packet->udp.len);
	whole = end - (void *)packet;
	if (length + sizeof(struct iphdr) != bpf_ntohs(packet->ip.tot_len) ||
	    length + sizeof(struct iphdr) + sizeof(struct ethhdr) > whole)
		goto refuse;
	/* memcached ignores what has no text. */
	if (length <= sizeof(struct udphdr) + sizeof(struct datagram))
		return XDP_PASS;
	length -= sizeof(struct udphdr) + sizeof(struct datagram);
	if (length > MAX_TEXT || (void *)(datagram + 1) > end)
		goto refuse;
	/* To this station, and to this address alone. */
	answerable = packet->ip.daddr == own_address && !(packet->ethernet.h_dest[0] & 1);

	text = (char *)(datagram + 1);
	if (!state->closed && answerable && datagram->count == bpf_htons(1) &&
	    (void *)(text + 4) <= end && begins(text, "get ", 4) && length > 6) {
		__u16 last = 0;

		key_length = length - 6;
		if (TAKE_KEY(bpf_xdp_load_bytes, context, TEXT + 4, scratch, key_length))
			goto miss;
		if (bpf_xdp_load_bytes(context, TEXT + 4 + key_length, &last, sizeof(last)) ||
		    last != bpf_htons('\r' << 8 | '\n'))
			goto miss;
		found = find(scratch, key_length, hash_of(scratch, key_length), state->epoch, &sum);
		if (found) {
			count(state, HITS);
			/* What lies behind the datagram, to fill a short frame, goes. */
			return reply(context, scratch, found, sum, whole - TEXT);
		}
	}
miss:
	return pass(context, state, scratch, length, answerable);
refuse:
	count(state, REFUSED);
	return XDP_DROP;
}

/* Sums up the text in the scratch, which is padded with zeros; its words. */
static __always_inline __u32 sum_of(struct scratch *scratch, __u32 length)
{
	__s64 sum = 0;

	for (int block = 0; block < 3; block++) {
		if (block * SUM_BLOCK >= length)
			break;
		sum = bpf_csum_diff(0, 0, (__be32 *)((char *)scratch->text + block * SUM_BLOCK),
				    SUM_BLOCK, sum);
		if (sum < 0)
			return 0;
	}
	return folded(sum);
}

/* Keeps the reply to the `get` of a ticket. */
static __always_inline void keep(struct __sk_buff *packet, struct state *state,
				 struct scratch *scratch, const struct ticket *ticket,
				 __u32 length)
{
	__u32 key_length = ticket->key_length;
	__u64 hash = ticket->hash;
	__u32 tag = tag_of(hash, ticket->epoch);
	struct set *set = set_of(hash);
	struct entry *entry;
	__u32 way, kept = 0, sum;

	if (key_length == 0 || key_length > MAX_KEY || !set || !tag)
		return;
	if (length < 6 || length > MAX_TEXT)
		return;
	/* Zeros behind it, as far as words and blocks of words are looked at. */
	for (int word = 0; word < SUM_BLOCK / 8 * 3; word++)
		scratch->text[word] = 0;
	if (MOVE(bpf_skb_load_bytes, packet, TEXT, scratch->text, length, MAX_TEXT))
		return;
	if (!begins((const char *)scratch->text, "VALUE ", 6))
		return;
	if (TAKE_KEY(bpf_skb_load_bytes, packet, TEXT + 6, scratch, key_length))
		return;
	if (hash_of(scratch, key_length) != hash)
		return;
	sum = sum_of(scratch, length);
	way = way_of(set, tag);
	if (way >= WAYS)
		way = __sync_fetch_and_add(&set->next, 1) & (WAYS - 1);
	entry = entry_of(hash, way);
	if (!entry)
		return;
	bpf_spin_lock(&set->lock);
	if (set->writes == ticket->writes && !set->expires) {
		kept = 1;
		set->tags[way & (WAYS - 1)] = tag;
		entry->key_length = key_length;
		entry->length = length;
		entry->sum = sum;
		for (int word = 0; word < KEY_WORDS; word++) {
			if (word * 8 >= key_length)
				break;
			entry->key[word] = scratch->key[word];
		}
		for (int word = 0; word < TEXT_WORDS; word++) {
			if (word * 8 >= length)
				break;
			entry->text[word] = scratch->text[word];
		}
	}
	bpf_spin_unlock(&set->lock);
	count(state, kept ? FILLS : LATE);
}

SEC("classifier")
int egress(struct __sk_buff *packet)
{
	struct {
		struct headers headers;
		struct datagram datagram;
	} __attribute__((packed)) start;
	struct state *state = state_of();
	struct scratch *scratch = scratch_of();
	struct ticket *ticket;
	__u32 number, length;

	if (!state || !scratch || bpf_skb_load_bytes(packet, 0, &start, sizeof(start)))
		return 0;
	if (start.headers.ethernet.h_proto != bpf_htons(ETH_P_IP) || start.headers.ip.ihl != 5 ||
	    start.headers.ip.protocol != IPPROTO_UDP ||
	    start.headers.ip.frag_off & bpf_htons(0x1fff) ||
	    start.headers.udp.source != bpf_htons(PORT))
		return 0;
	number = bpf_ntohs(start.datagram.id);
	ticket = bpf_map_lookup_elem(&tickets, &number);
	if (!ticket || !ticket->issued)
		return 0;
	bpf_l4_csum_replace(packet, offsetof(typeof(start), headers.udp.check), start.datagram.id,
			    ticket->id, sizeof(ticket->id) | BPF_F_MARK_MANGLED_0);
	bpf_skb_store_bytes(packet, offsetof(typeof(start), datagram.id), &ticket->id,
			    sizeof(ticket->id), 0);
	length = bpf_ntohs(start.headers.udp.len);
	if (state->closed || start.datagram.number || start.datagram.count != bpf_htons(1) ||
	    length <= sizeof(struct udphdr) + sizeof(struct datagram))
		return 0;
	length -= sizeof(struct udphdr) + sizeof(struct datagram);
	keep(packet, state, scratch, ticket, length);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
