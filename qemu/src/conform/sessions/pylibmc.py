"""libmemcached, text and binary, ketama."""
import sys
import pylibmc

server = f"{sys.argv[1]}:{sys.argv[2]}"
for binary in (False, True):
    c = pylibmc.Client([server], binary=binary, behaviors={"ketama": True, "cas": True, "tcp_nodelay": True})
    assert c.set("pl:k", "value") and c.get("pl:k") == "value"
    value, cas = c.gets("pl:k")
    assert c.cas("pl:k", "swapped", cas)
    assert not c.set_multi({f"pl:{n}": n for n in range(200)})
    assert c.get_multi([f"pl:{n}" for n in range(200)]) == {f"pl:{n}": n for n in range(200)}
    c.set("pl:n", 41)
    assert c.incr("pl:n") == 42 and c.decr("pl:n", 2) == 40
    big = "x" * 900_000
    assert c.set("pl:big", big) and c.get("pl:big") == big
    assert c.delete("pl:k") and c.get("pl:k") is None
print("text and binary, ketama, values of 900 kB")
