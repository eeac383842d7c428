"""The engine on a virtual clock, under faults and clients that a seed decides, checked at every step for what it promises.

Everything runs in one thread and takes no real time: the nodes are the engine's own (`Incarnation` with its member, guard,
state and executor); only clocks, threads, networks, disks and the time that steps take are simulated. The same seed gives
the same history on every Python and under every PYTHONHASHSEED.

* `run` runs one seed, on a `setting`, with its `simulated_nodes` and their `witness`; `many` runs many of them, `report` tells what came of it, `shrink` makes a failing schedule small, `command` is the command line;
* `faults` makes the schedules, `faulty` brings them about; `workload` is what clients and workflows do meanwhile, and `effects` what their steps do;
* `invariants` is checked at every step, `final_checks` when all is healed, with the models in `linearizability`;
* `node`, `network`, `disk`, `clock`, `clock_view` and `dice` are the simulated world;
* `transcript` plays scenarios that are written as text, on a `stage` where only what the text says goes wrong;
* `mutants` takes one safeguard at a time out of the engine, to show that its absence would be noticed.

Not simulated: the way in which TCP breaks and dials again.
"""
