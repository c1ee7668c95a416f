"""Stages of training with Lightning."""
