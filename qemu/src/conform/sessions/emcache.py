"""Text commands, asynchronously, with a pool that measures its connections."""
import asyncio
import sys
import emcache


async def main():
    c = await emcache.create_client([emcache.MemcachedHostAddress(sys.argv[1], int(sys.argv[2]))], timeout=20.0)
    await c.set(b"em:k", b"value", flags=7)
    item = await c.get(b"em:k", return_flags=True)
    assert item.value == b"value" and item.flags == 7
    item = await c.gets(b"em:k")
    await c.cas(b"em:k", b"swapped", item.cas)
    await asyncio.gather(*(c.set(b"em:%d" % n, b"%d" % n) for n in range(100)))
    items = await c.get_many([b"em:%d" % n for n in range(100)])
    assert {key: item.value for key, item in items.items()} == {b"em:%d" % n: b"%d" % n for n in range(100)}
    await c.set(b"em:n", b"41")
    assert await c.increment(b"em:n", 1) == 42
    await c.delete(b"em:k")
    assert await c.get(b"em:k") is None
    await c.close()


asyncio.run(main())
print("text, a pool of connections")
