"""Streamed answers through the server beside proxies that store nothing."""
