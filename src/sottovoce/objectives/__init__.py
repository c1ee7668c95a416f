"""Losses as named terms times weights."""
