"""The promises of StoreConformance, by what they are about."""
