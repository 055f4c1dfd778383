"""Text commands, asynchronously."""
import asyncio
import sys
import aiomcache


async def main():
    c = aiomcache.Client(sys.argv[1], int(sys.argv[2]), pool_size=4)
    assert await c.set(b"ai:k", b"value") and await c.get(b"ai:k") == b"value"
    await asyncio.gather(*(c.set(b"ai:%d" % n, b"%d" % n) for n in range(100)))
    values = await c.multi_get(*(b"ai:%d" % n for n in range(100)))
    assert list(values) == [b"%d" % n for n in range(100)]
    await c.set(b"ai:n", b"41")
    assert await c.incr(b"ai:n") == 42
    value, cas = await c.gets(b"ai:k")
    assert await c.cas(b"ai:k", b"new", cas) and await c.touch(b"ai:k", 100)
    assert await c.delete(b"ai:k") and await c.get(b"ai:k") is None
    assert b"pid" in await c.stats()
    await c.close()


asyncio.run(main())
print("text, 4 connections")
