"""Stands in front of the package of that name while `make test` runs: importing that one takes several seconds of processor time.

jsonschema, which is in every process that reads notebooks or serves them, imports it if it is there, for a check of international
addresses that no notebook asks for; without it that check is left out.
"""

raise ImportError("left out, to save time: see tests/without/rfc3987_syntax.py")
