"""The terminal face: it parses, calls the library and renders. Without it the library still works."""
