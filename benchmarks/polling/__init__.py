"""How late a result is seen, and after how many requests."""
