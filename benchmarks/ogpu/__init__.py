"""How fast, and with how many requests, are tasks published on OGPU, beside the official SDK?"""
