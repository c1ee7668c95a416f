"""The training folders share no speaker, kind of noise or room with what is tested on."""

import csv
import runpy
from pathlib import Path

import pytest

from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.signal.audio import find_audio

pytestmark = pytest.mark.data

ROOT = Path(__file__).parents[2]


def script(path):
    """What a script of the repository defines."""
    return runpy.run_path(str(ROOT / path))


@pytest.fixture
def recipe(monkeypatch):
    """The recipe in the folder of the corpora, whose recordings are listed and not read."""
    recipe = script("recipes/prepare_data.py")
    if not (recipe["DATA"] / "more.csv").exists():
        pytest.skip("found no corpora; SOTTOVOCE_DATA names their folder")
    monkeypatch.chdir(recipe["DATA"])

    def listed(folder, **_):
        return Manifest(tuple(Recording(path, path.parent.name, 16000, 1, 16000, -20.0) for path in find_audio(folder)))

    monkeypatch.setitem(recipe["shippable"].__globals__, "scan", listed)
    return recipe


def rows(table):
    with Path(table).open(newline="", encoding="utf-8") as file:
        return {Path(row["file"]): row for row in csv.DictReader(file)}


def test_nothing_is_on_two_sides(recipe):
    parts = recipe["split_corpora"](1)
    speech, noise = recipe["more_speech"](), recipe["more_noise"]()
    speakers = {name: {*part.speech.groups} for name, part in parts.items()}
    speakers["speech"] |= {*speech.groups}
    assert not speakers["speech"] & speakers["mixtures"]
    assert not (speakers["speech"] | speakers["mixtures"]) & speakers["development"]
    trained = {*parts["mixtures"].noise.groups, *noise.groups}
    assert not trained & {*parts["development"].noise.groups}
    assert not trained & {*recipe["UNUSED_KINDS"]}
    assert not {*parts["mixtures"].responses} & {*parts["development"].responses}
    # The same sound may lie in several places.
    more = rows("more.csv")
    origins = {(row["repo"], row["path"]) for row in (more[r.path] for r in noise.recordings)}
    kept_out = {
        (row["repo"], row["path"])
        for row in more.values()
        if row["role"] == "noise" and row["group"] in recipe["UNUSED_KINDS"]
    }
    assert kept_out
    assert not origins & kept_out
    assert len(noise.groups) > 150
    assert speech.recordings


def test_what_the_benchmarks_test_with_is_in_no_training(recipe, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    parts = recipe["split_corpora"](1)
    speakers = {*parts["speech"].speech.groups, *parts["mixtures"].speech.groups, *recipe["more_speech"]().groups}
    onsets, full_band = script("benchmarks/onsets.py"), script("benchmarks/full_band.py")
    for _, held_out in onsets["HELD_OUT"].values():
        assert not speakers & {*held_out}
    assert not speakers & {*full_band["SPEAKERS"]}
    new = recipe["more_noise"]()
    kinds = {Path(path).parent.name for path in full_band["NOISES"].values() if path is not None}
    assert kinds
    assert not kinds & {recording.path.parent.name for recording in new.recordings}
    # Pairs, real recordings and those of unclear licences are nobody's training material.
    used = [*new.recordings, *recipe["more_speech"]().recordings]
    used += [
        r for name in ("speech", "mixtures") for r in (*parts[name].speech.recordings, *parts[name].noise.recordings)
    ]
    assert {recording.path.parts[0] for recording in used} == {"clean", "noise"}
    tables = {**rows("clean.csv"), **rows("noise.csv"), **rows("more.csv")}
    assert all(tables[recording.path]["may_ship"] == "1" for recording in used)
    assert not any("unclear" in str(recording.path) or "dns_" in str(recording.path) for recording in used)
