"""Mixtures that are made: clean speech, its delivery, rooms and noise."""
