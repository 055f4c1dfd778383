/* UDP echo at the earliest place there is in Linux: before the packet has a socket buffer.
 *
 * Place on the packet path: in the NIC driver's receive loop. A floor: what a server in XDP
 * cannot go below.
 */
#include "packet.h"

SEC("xdp")
int ingress(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct headers *packet = (void *)(long)context->data;

	if ((void *)(packet + 1) > end || packet->ethernet.h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (packet->ip.version != 4 || packet->ip.ihl != 5 || packet->ip.protocol != IPPROTO_UDP ||
	    packet->ip.frag_off & bpf_htons(0x3fff))
		return XDP_PASS;
	if (packet->ip.daddr != own_address || packet->udp.dest != bpf_htons(PORT))
		return XDP_PASS;
	turn(packet);
	return XDP_TX;
}

char _license[] SEC("license") = "Dual MIT/GPL";
