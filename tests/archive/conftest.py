"""Recordings, and calls that need no process of their own."""

import numpy as np
import pytest
import soundfile as sf

from sottovoce.archive import listing, run


class Here:
    """Calls functions in this process, where a crash is of no interest: starting another one takes its time."""

    def __init__(self, engine):
        self._engine = engine

    def call(self, function, *arguments, advance):
        return function(self._engine, *arguments, advance=advance)

    def stop(self):
        pass


@pytest.fixture
def here(monkeypatch):
    """Look at recordings, and enhance them, in this process."""
    monkeypatch.setattr(listing, "Workers", Here)
    monkeypatch.setattr(run, "Workers", Here)


@pytest.fixture
def save():
    def save(path, seconds=0.1, peak=0.1, rate=16000, subtype="FLOAT"):
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = peak * np.sin(2 * np.pi * 440 / rate * np.arange(round(rate * seconds)))
        sf.write(path, tone, rate, subtype=subtype if path.suffix == ".wav" else None)
        return path

    return save


@pytest.fixture
def recordings(tmp_path, save):
    """Four recordings in three folders, and a note."""
    for name in ["b.wav", "a/c.flac", "a.wav", "a/b/d.wav"]:
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    return tmp_path / "in"
