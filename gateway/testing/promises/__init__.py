"""The promises of the seam, one test each."""
