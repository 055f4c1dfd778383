"""The meta commands."""
import sys
from meta_memcache import CacheClient, Key
from meta_memcache.configuration import LeasePolicy, ServerAddress, connection_pool_factory_builder

build = connection_pool_factory_builder()
address = ServerAddress(sys.argv[1], int(sys.argv[2]))
c = CacheClient.cache_client_from_servers(servers=[address], connection_pool_factory_fn=build)
assert c.set(Key("mm:k"), "value", ttl=1000) and c.get(Key("mm:k")) == "value"
value, cas = c.get_cas(Key("mm:k"))
assert value == "value" and c.set(Key("mm:k"), "swapped", ttl=1000, cas_token=cas)
assert not c.set(Key("mm:k"), "late", ttl=1000, cas_token=cas)
for n in range(100):
    assert c.set(Key(f"mm:{n}"), n, ttl=1000)
assert c.multi_get([Key(f"mm:{n}") for n in range(100)]) == {Key(f"mm:{n}"): n for n in range(100)}
assert c.delta_initialize_and_get(Key("mm:d"), delta=1, initial_value=41, initial_ttl=1000) == 41
assert c.delta_and_get(Key("mm:d"), delta=1) == 42
assert c.get_or_lease(Key("mm:lease"), lease_policy=LeasePolicy()) is None
assert c.set(Key("mm:lease"), "leased", ttl=1000) and c.get(Key("mm:lease")) == "leased"
assert c.invalidate(Key("mm:k")) and c.delete(Key("mm:lease")) and c.get(Key("mm:lease")) is None
print("meta, leases, invalidation")
