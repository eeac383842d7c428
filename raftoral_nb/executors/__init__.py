"""Executors of steps' functions (`on=`): workers of the node's own, any `concurrent.futures.Executor`, and Dask."""
