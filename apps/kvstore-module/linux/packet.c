// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Which packets are requests, and replies without a socket.
 *
 * The hook sees IPv4 packets before they are routed and before a socket is looked up
 * (NF_INET_PRE_ROUTING, first of all hooks: neither connection tracking nor a packet filter
 * of the host sees what it takes). It takes UDP over Ethernet to the port and to an address
 * of the interface. Left to the host's stack, which has no socket for them: fragments,
 * packets with IP options, VLANs, broadcast and multicast, loopback.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/if_vlan.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/netdevice.h>
#include <linux/netfilter_ipv4.h>
#include <linux/timekeeping.h>
#include <linux/udp.h>
#include <net/checksum.h>
#include <net/ip.h>

#include "store.h"

DEFINE_PER_CPU(struct kv_counts, kv_counts);

/* Whether the interface has this address. Caller is in an RCU read section. */
static bool has_address(const struct net_device *dev, __be32 address)
{
	const struct in_device *in_dev = __in_dev_get_rcu(dev);
	const struct in_ifaddr *ifa;

	if (!in_dev)
		return false;
	in_dev_for_each_ifa_rcu(ifa, in_dev)
		if (ifa->ifa_local == address)
			return true;
	return false;
}

/* Whether it came as an ordinary frame to this station, whole, and for this address. */
static bool is_ours(const struct sk_buff *skb, const struct net_device *dev)
{
	const struct iphdr *ip = ip_hdr(skb);

	return skb->pkt_type == PACKET_HOST && dev->type == ARPHRD_ETHER &&
	       !is_vlan_dev(dev) && !skb_vlan_tag_present(skb) && !skb_is_gso(skb) &&
	       has_address(dev, ip->daddr);
}

/* Whether a reply to this source could be delivered, and only to one station. */
static bool is_answerable(const struct sk_buff *skb, const struct udphdr *udp)
{
	__be32 from = ip_hdr(skb)->saddr;

	return udp->source && from != ip_hdr(skb)->daddr && !ipv4_is_multicast(from) &&
	       !ipv4_is_lbcast(from) && !ipv4_is_zeronet(from) && !ipv4_is_loopback(from) &&
	       is_valid_ether_addr(eth_hdr(skb)->h_source);
}

/* Cuts what stands behind the datagram; checks its length and checksum (RFC 768). */
static bool is_intact(struct sk_buff *skb, const struct udphdr *udp)
{
	unsigned int len = ntohs(udp->len);
	bool checked = udp->check != 0;

	if (len < sizeof(*udp) || len > skb->len - sizeof(struct iphdr))
		return false;
	if (pskb_trim_rcsum(skb, sizeof(struct iphdr) + len))
		return false;
	return !checked ||
	       !nf_ip_checksum(skb, NF_INET_PRE_ROUTING, sizeof(struct iphdr), IPPROTO_UDP);
}

unsigned int kv_hook(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	const struct iphdr *ip = ip_hdr(skb);
	const struct udphdr *udp;
	struct udphdr copy;

	if (ip->protocol != IPPROTO_UDP || ip->ihl != 5 || ip_is_fragment(ip))
		return NF_ACCEPT;
	udp = skb_header_pointer(skb, sizeof(*ip), sizeof(copy), &copy);
	if (!udp || udp->dest != kv_port || !is_ours(skb, state->in))
		return NF_ACCEPT;

	if (!is_answerable(skb, udp) || !is_intact(skb, udp)) {
		kv_count(malformed);
		return NF_DROP;
	}
	if (skb->len > KV_HEADERS + KV_MAX_DATAGRAM) {
		kv_count(too_long);
		return NF_DROP;
	}
	/* The store reads one piece of memory. */
	if (skb_linearize(skb)) {
		kv_count(no_memory);
		return NF_DROP;
	}
	if (kv_have_workers())
		kv_workers_give(skb);
	else
		kv_answer(skb);
	return NF_STOLEN;
}

/*
 * Writes the headers of a reply before its payload: those of the request, turned round. The
 * checksum of the payload is left to the device, or to the stack if the device makes none.
 */
static bool put_headers(struct sk_buff *reply, const struct sk_buff *request)
{
	const struct iphdr *to = ip_hdr(request);
	const struct udphdr *asked = (const struct udphdr *)(to + 1);
	struct net_device *dev = request->dev;
	struct udphdr *udp = skb_push(reply, sizeof(*udp));
	unsigned int len = reply->len;
	struct iphdr *ip;

	skb_reset_transport_header(reply);
	udp->source = asked->dest;
	udp->dest = asked->source;
	udp->len = htons(len);
	udp->check = ~csum_tcpudp_magic(to->daddr, to->saddr, len, IPPROTO_UDP, 0);
	reply->ip_summed = CHECKSUM_PARTIAL;
	reply->csum_start = skb_transport_header(reply) - reply->head;
	reply->csum_offset = offsetof(struct udphdr, check);

	ip = skb_push(reply, sizeof(*ip));
	skb_reset_network_header(reply);
	*ip = (struct iphdr) {
		.version = 4,
		.ihl = 5,
		.tot_len = htons(reply->len),
		/* An identification of 0 is allowed where fragments are not (RFC 6864). */
		.frag_off = htons(IP_DF),
		.ttl = READ_ONCE(dev_net(dev)->ipv4.sysctl_ip_default_ttl),
		.protocol = IPPROTO_UDP,
		.saddr = to->daddr,
		.daddr = to->saddr,
	};
	ip->check = ip_fast_csum(ip, ip->ihl);

	reply->dev = dev;
	reply->protocol = htons(ETH_P_IP);
	return dev_hard_header(reply, dev, ETH_P_IP, eth_hdr(request)->h_source, NULL,
			       reply->len) >= 0;
}

/* Sends a payload as the reply to a request. Whether the device's queue took it. */
static bool send(struct sk_buff *reply, const struct sk_buff *request)
{
	int taken;

	if (!put_headers(reply, request)) {
		kfree_skb(reply);
		return false;
	}
	taken = dev_queue_xmit(reply);
	return taken == NET_XMIT_SUCCESS || taken == NET_XMIT_CN;
}

/*
 * Answers a request and releases it. The reply is written where it is sent from. Called by
 * the hook, in a soft interrupt, and by workers, in threads.
 */
void kv_answer(struct sk_buff *request)
{
	size_t len = request->len - KV_HEADERS;
	struct net_device *dev = request->dev;
	unsigned int mtu = READ_ONCE(dev->mtu);
	size_t room = min_t(size_t, KV_MAX_DATAGRAM, mtu > KV_HEADERS ? mtu - KV_HEADERS : 0);
	unsigned int before = LL_RESERVED_SPACE(dev) + KV_HEADERS;
	struct sk_buff *reply = netdev_alloc_skb(dev, before + room + dev->needed_tailroom);

	/* First the room for a reply: what gets none for want of memory has no effect. */
	if (!reply) {
		kv_count(no_memory);
		kfree_skb(request);
		return;
	}
	skb_reserve(reply, before);

	/* Both soft interrupts and threads come here: the lock keeps the former out. */
	spin_lock_bh(&kv_lock);
	len = exo_store_answer(kv_store, kv_payload(request), len, skb_tail_pointer(reply), room,
			       ktime_get_real_seconds(), ktime_get_seconds() - kv_started);
	spin_unlock_bh(&kv_lock);

	skb_put(reply, len);
	if (!len) {
		kv_count(silent);
		kfree_skb(reply);
	} else if (send(reply, request)) {
		kv_count(answered);
	} else {
		kv_count(unsent);
	}
	consume_skb(request);
}
