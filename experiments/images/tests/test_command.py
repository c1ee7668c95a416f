import sys

import numpy as np
import pytest

from images import command, packages


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["images", *map(str, arguments)])
    return command.main()


def test_missing_packages_are_named_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(packages, "is_installed", lambda module: module != "pywt")
    assert call(monkeypatch, "-o", tmp_path / "new") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sottovoce: This experiment needs PyWavelets, not installed here: run `pip install")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        (np.zeros((90, 64, 64)), "found the value 0 everywhere"),
        (np.full((90, 64, 64), np.nan), "that are not finite"),
        (np.ones((90, 64, 20)), "found slices of 64 x 20 pixels"),
        (np.tile(np.arange(64.0), (30, 64, 1)), "found 30 slices that are not all air, expected at least 76"),
    ],
)
def test_a_volume_that_cannot_be_used_is_one_sentence(monkeypatch, tmp_path, capsys, volume, sentence):
    monkeypatch.setattr(packages, "is_installed", lambda module: True)
    np.save(tmp_path / "own.npy", volume)
    assert call(monkeypatch, "-o", tmp_path / "new", "--volume", tmp_path / "own.npy") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not list((tmp_path / "new").glob("**/*.csv"))
