"""The engine on a virtual clock, with a network of its own: everything happens in one thread and takes no time."""
