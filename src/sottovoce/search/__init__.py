"""A search over settings: trainings whose scores on development mixtures say which to try next."""
