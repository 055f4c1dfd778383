"""Text commands, and a pool of stores chosen by the hash of the key."""
import sys
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

host, port = sys.argv[1], int(sys.argv[2])
c = Client((host, port), timeout=20, no_delay=True)
assert c.set("pm:k", b"value", noreply=False) and c.get("pm:k") == b"value"
assert c.add("pm:k", b"other", noreply=False) is False
assert c.replace("pm:k", b"new", noreply=False) and c.append("pm:k", b"er", noreply=False)
assert c.prepend("pm:k", b"a ", noreply=False) and c.get("pm:k") == b"a newer"
value, cas = c.gets("pm:k")
assert c.cas("pm:k", b"swapped", cas, noreply=False) is True
assert c.cas("pm:k", b"late", cas, noreply=False) is False
assert c.set_many({f"pm:{n}": str(n) for n in range(300)}, noreply=False) == []
assert c.get_many([f"pm:{n}" for n in range(300)]) == {f"pm:{n}": str(n).encode() for n in range(300)}
c.set("pm:n", b"41", noreply=False)
assert c.incr("pm:n", 1) == 42 and c.decr("pm:n", 50) == 0
big = bytes(range(256)) * 3900
assert c.set("pm:big", big, noreply=False) and c.get("pm:big") == big
assert c.touch("pm:k", 100, noreply=False) and c.get("pm:k") == b"swapped"
assert c.delete("pm:k", noreply=False) and c.get("pm:k") is None
assert b"curr_items" in c.stats() and c.version()
c.delete_many([f"pm:{n}" for n in range(300)])
assert c.get("pm:7") is None
h = HashClient([(host, port)])
assert h.set("pm:h", b"1", noreply=False) and h.get("pm:h") == b"1"
print("text, 300 keys at once, values of 1 MB, HashClient")
