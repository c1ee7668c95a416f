"""Amplitude and phase: how much each of them, estimated or known, does for the score of an enhanced mixture."""
