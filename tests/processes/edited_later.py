"""Run as a script with a data directory, a folder with `helpers.py`, what to do, and whether nodes have processes of their own."""

import os
import sys
import threading

sys.path.insert(0, sys.argv[2])

import helpers  # type: ignore[import-not-found]
import msgspec

from raftoral_nb import Cluster
from raftoral_nb.core.events import CheckpointSet


class Quote(msgspec.Struct):
    item: str
    price: int = 0


def quote(item):  # type: ignore[no-untyped-def]
    return Quote(item, helpers.price(item))


async def order(ctx, item):  # type: ignore[no-untyped-def]
    first = await ctx.compute("first", quote, item)
    await ctx.receive("go")
    second = await ctx.compute("second", quote, item)
    return [isinstance(first, Quote), first.price, second.price, helpers.price(item), helpers.cached(item)]


if __name__ == "__main__":
    cluster = Cluster(nodes=3, data_dir=sys.argv[1], processes=sys.argv[4] == "processes")
    cluster.start()
    if sys.argv[3] == "begin":
        registration = cluster.register_workflow(order)
        print(registration.version, sorted((one.name, one.kind) for one in registration.captured), flush=True)
        recorded = threading.Event()
        cluster.subscribe(lambda event: recorded.set() if isinstance(event, CheckpointSet) else None)
        cluster.start_workflow("order", "abc", run_id="old")
        recorded.wait(30)
        os._exit(9)
    print(cluster.register_workflow(order).version, flush=True)
    cluster.start_workflow("order", "abc", run_id="new")
    for name in ("old", "new"):
        cluster.run(name).signal("go")
        print(cluster.run(name).wait_for_completion(timeout=30), flush=True)
    cluster.stop()
