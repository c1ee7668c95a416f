"""Signal processing in numpy: audio files, levels, spectra, segments."""
