"""Run by peers in environments of their own."""
