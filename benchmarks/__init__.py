"""Measurements that anyone can repeat: each is a package that `python -m` runs. Not installed."""
