"""inference.sh and APIs that speak like it."""
