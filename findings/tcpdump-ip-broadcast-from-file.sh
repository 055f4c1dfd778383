#!/bin/sh
# tcpdump 4.99.3 with libpcap 1.10.3 (Debian 12): `tcpdump -r FILE 'ip broadcast'` passes over a
# datagram to the broadcast address of its net (10.0.2.255 of 10.0.2.0/24), without a word.
#
# libpcap refuses `ip broadcast` when it is told that the netmask is unknown. tcpdump, which has
# no interface when it reads a file, tells it that the netmask is 0, so that only 0.0.0.0 and
# 255.255.255.255 count as broadcast. pcap-filter(7) speaks of interfaces without a netmask
# ("this check will not work correctly"), not of files.
#
# Needs apt and dpkg (amd64); installs nothing. Exits 0 if that is so, 1 if it has changed, 2 if
# it could not be tried.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
apt-get download -q tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 >log 2>&1 ||
    { cat log >&2; echo "cannot download the packages: not tried" >&2; exit 2; }
for package in *.deb; do dpkg -x "$package" root; done
libraries=$(dirname "$(find root -name 'libpcap.so.0.8' | head -n 1)")
tcpdump() { LD_LIBRARY_PATH=$libraries root/usr/bin/tcpdump "$@"; }
tcpdump --version 2>&1 | head -n 2

# A capture of Ethernet packets: 42 bytes each, from 10.0.2.1, UDP from port 8080 to 8080.
record() { # header checksum and destination, in octal
    printf '\0\0\0\0\0\0\0\0\052\0\0\0\052\0\0\0'
    printf '\377\377\377\377\377\377\002\0\0\0\0\001\010\0'
    printf '\105\0\0\034\0\0\0\0\100\021'"$1"'\012\0\002\001'"$2"
    printf '\037\220\037\220\0\010\0\0'
}
{
    printf '\324\303\262\241\002\0\004\0\0\0\0\0\0\0\0\0\377\377\0\0\001\0\0\0'
    record '\141\322' '\012\0\002\377'     # 10.0.2.255, the broadcast address of 10.0.2.0/24
    record '\156\321' '\377\377\377\377'   # 255.255.255.255
    record '\156\321' '\0\0\0\0'           # 0.0.0.0
    record '\142\302' '\012\0\002\017'     # 10.0.2.15, a host
} > packets.pcap

echo "all packets:"
tcpdump -ntr packets.pcap 2>log
echo "tcpdump -r packets.pcap 'ip broadcast':"
status=0
tcpdump -ntr packets.pcap 'ip broadcast' >taken 2>log || status=$?
cat taken log
taken=$(sed 's/.* > \([0-9.]*\)\.8080:.*/\1/' taken | tr '\n' ' ')
if [ "$status" = 0 ] && [ "$taken" = "255.255.255.255 0.0.0.0 " ]; then
    echo "as found: 10.0.2.255 is passed over, and nothing says so"
else
    echo "CHANGED: exit $status, taken: $taken" >&2
    exit 1
fi
