"""What does one good result cost, and how long does it take, by how the backend is chosen?"""
