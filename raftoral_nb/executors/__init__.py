"""Executors of steps' functions (`on=`): worker processes of the node, any `concurrent.futures.Executor`, and Dask."""
