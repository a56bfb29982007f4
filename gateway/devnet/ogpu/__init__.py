"""Stand-in for OGPU: its contracts on a local chain, its pin service, its providers."""
