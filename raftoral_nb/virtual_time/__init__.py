"""An asyncio loop on a virtual clock."""
