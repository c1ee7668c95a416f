"""Objective measures of speech quality and their reports."""
