"""Consensus: the only place that knows PySyncObj.

Read `guard` first (what is mended, and why), then `replica` (how one node's Raft is driven by events), `proposer` (how a
command gets an outcome) and `member` (the three together with the replicated state).
"""
