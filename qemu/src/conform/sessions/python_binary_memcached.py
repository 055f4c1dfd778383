"""The binary protocol."""
import sys
import bmemcached

c = bmemcached.Client((f"{sys.argv[1]}:{sys.argv[2]}",), socket_timeout=20)
assert c.set("bm:k", "value") and c.get("bm:k") == "value"
assert not c.add("bm:k", "other") and c.replace("bm:k", "new")
value, cas = c.gets("bm:k")
assert c.cas("bm:k", "swapped", cas) and not c.cas("bm:k", "late", cas)
assert not c.set_multi({f"bm:{n}": str(n) for n in range(200)})
assert c.get_multi([f"bm:{n}" for n in range(200)]) == {f"bm:{n}": str(n) for n in range(200)}
assert c.incr("bm:n", 1, default=41) == 41 and c.incr("bm:n", 1) == 42 and c.decr("bm:n", 2) == 40
big = "x" * 900_000
assert c.set("bm:big", big, compress_level=0) and c.get("bm:big") == big
assert c.delete("bm:k") and c.get("bm:k") is None
assert any(b"pid" in key or key == "pid" for key in [str(k).encode() for k in list(c.stats().values())[0]])
c.disconnect_all()
print("binary, quiet commands, values of 900 kB")
