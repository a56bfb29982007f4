"""How much memory an idle gateway takes."""
