"""Minutes of load, and what becomes of the server's memory."""
