"""Pictures that follow a cluster or a run: the live view, buttons and bars of the page, and the view of a terminal."""
