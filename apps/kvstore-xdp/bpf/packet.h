/* The packet, as far as these programs read it: Ethernet, IPv4 without options, UDP, and
 * memcached's header of a datagram (its protocol.txt, "UDP protocol").
 *
 * Verified before anything else: the kernel's verifier accepts an access only after a
 * comparison with the packet's end.
 */
#pragma once

#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PORT 11211

/* Of a datagram: its request, its place among several, how many there are. */
struct datagram {
	__be16 id;
	__be16 number;
	__be16 count;
	__be16 reserved;
} __attribute__((packed));

struct headers {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

/* Where the text of a request or reply begins. */
#define TEXT (sizeof(struct headers) + sizeof(struct datagram))

/* The guest's own IPv4 address; the loader sets it. */
const volatile __be32 own_address = 0;

/* Whether a text begins with a word, which is known when this is compiled: there is no memcmp
 * to call. */
static __always_inline int begins(const char *text, const char *word, int length)
{
#pragma unroll
	for (int at = 0; at < length; at++)
		if (text[at] != word[at])
			return 0;
	return 1;
}

/* Sends a packet back: swaps what names the two ends. The Internet checksum does not depend
 * on the order of its words (RFC 1071), so none changes. */
static __always_inline void turn(struct headers *packet)
{
	unsigned char mac[ETH_ALEN];
	__be32 address = packet->ip.saddr;
	__be16 port = packet->udp.source;

	__builtin_memcpy(mac, packet->ethernet.h_source, ETH_ALEN);
	__builtin_memcpy(packet->ethernet.h_source, packet->ethernet.h_dest, ETH_ALEN);
	__builtin_memcpy(packet->ethernet.h_dest, mac, ETH_ALEN);
	packet->ip.saddr = packet->ip.daddr;
	packet->ip.daddr = address;
	packet->udp.source = packet->udp.dest;
	packet->udp.dest = port;
}
