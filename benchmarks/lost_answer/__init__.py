"""How many jobs does one user call start when the server takes each, and loses the answer to each?"""
