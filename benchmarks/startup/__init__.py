"""How long it takes to be there."""
