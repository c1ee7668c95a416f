"""Training and test data: recordings (corpora), mixtures made of them (simulation), and what a training step draws."""
