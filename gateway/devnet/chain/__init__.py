"""A local EVM chain with the contracts that Infernet's followers and nodes speak to."""
