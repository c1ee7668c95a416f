"""Speech enhancement that learns from the recordings people have."""

__version__ = "0.1.0"
