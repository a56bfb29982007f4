"""What a run costs in the library, beside the same work by hand and through other clients."""
