"""Infernet nodes (Ritual)."""
