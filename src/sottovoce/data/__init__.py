"""Training and test data: manifests, unpaired draws, harvested noise, rooms, mixtures."""
