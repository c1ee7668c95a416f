"""Recordings: read, listed, checked, searched for noise, and cut into clips."""
