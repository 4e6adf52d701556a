"""Hostile index files by kind of damage, and the proof of what the engine accepts. See hostile.py."""
