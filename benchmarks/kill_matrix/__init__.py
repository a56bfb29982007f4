"""`kill -9` at every step of a run, for each adapter and store, counted at the backend."""
