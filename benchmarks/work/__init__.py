"""One module for each kind of work: WORK names it, ``measure`` measures it."""
