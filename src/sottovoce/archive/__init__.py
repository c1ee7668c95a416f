"""Archives: so many recordings that no list of them fits in memory, and no run is expected to end undisturbed.

A manifest lists the recordings in parts (`manifest`), `listing` makes one, and `run` enhances them: each part has a
table of results (`results`), which is written last, so that what has no table is what is left to do.
"""
