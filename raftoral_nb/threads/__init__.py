"""Threads of our own: daemons that end in time, and waits that can be interrupted."""
