"""Pages of recordings: what is in them, and that they work from a file in Chromium, without any network."""

import base64
import json
import re
import sys

import numpy as np
import pytest
import soundfile as sf

from sottovoce import cli
from sottovoce.errors import DataError
from sottovoce.service import comparison
from sottovoce.service.comparison import labels_of, match, write_page

from ...signal.audio import files
from ...signal.audio.files import noise

RATE = 16_000


@pytest.fixture
def pair(tmp_path):
    """Two seconds of a recording, and a softer version of 24 bits."""
    before = save(tmp_path / "before.wav", noise(2 * RATE))
    after = save(tmp_path / "after.flac", 0.5 * noise(2 * RATE), subtype="PCM_24")
    return before, after


@pytest.fixture
def folders(tmp_path):
    """A recording in both of two folders, one in each alone, and one that has become shorter."""
    for name in ("monday/a.wav", "long.wav"):
        save(tmp_path / "before" / name, noise(RATE))
    save(tmp_path / "before" / "lost.wav", noise(RATE))
    save(tmp_path / "after" / "monday" / "a.flac", noise(RATE))
    save(tmp_path / "after" / "long.wav", noise(RATE - 1))
    save(tmp_path / "after" / "new.wav", noise(RATE))
    return tmp_path / "before", tmp_path / "after"


def save(path, waveform, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    return files.save(path, waveform, **options)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sottovoce", "compare", *map(str, arguments)])
    return cli.main()


def content(page):
    """What a page holds: its labels and names, and the files of its sounds."""
    text = page.read_text(encoding="utf-8")
    found = json.loads(re.search(r'id="recordings">(.*?)</script>', text, re.DOTALL)[1])
    sounds = dict(re.findall(r'<script type="text/plain" id="([\w-]+)">([\w+/=]+)</script>', text))
    return found, {name: base64.b64decode(sound) for name, sound in sounds.items()}


def test_the_samples_are_those_of_the_files(tmp_path, pair):
    written = write_page(tmp_path / "page.html", labels_of(pair), *match(pair)[:1])
    assert (written.recordings, written.problems) == (1, ())
    assert written.size == (tmp_path / "page.html").stat().st_size
    found, sounds = content(tmp_path / "page.html")
    assert found["labels"] == ["Before", "After"]
    ((name, ids),) = [(recording["name"], recording["sounds"]) for recording in found["recordings"]]
    assert name == "after.flac"
    for path, sound in zip(pair, ids, strict=True):
        (tmp_path / "sound.flac").write_bytes(sounds[sound])
        np.testing.assert_array_equal(sf.read(tmp_path / "sound.flac")[0], sf.read(path)[0])
        assert sf.info(tmp_path / "sound.flac").subtype == sf.info(path).subtype
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.flac", "before.wav", "page.html", "sound.flac"]


def test_folders_are_paired_by_name_and_what_does_not_fit_is_named(tmp_path, folders, monkeypatch, capsys):
    assert run(monkeypatch, *folders, "-o", tmp_path / "page.html") == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"Wrote {tmp_path / 'page.html'}: 1 recording, 0.")
    before, after = folders
    assert printed.err.splitlines() == [
        f"sottovoce: left out: lost: found no version in {after}",
        f"sottovoce: left out: new: found no version in {before}",
        f"sottovoce: left out: found 16000 samples in {before / 'long.wav'}, 15999 in {after / 'long.wav'}, expected "
        "as many in both: cut the longer one",
    ]
    found, sounds = content(tmp_path / "page.html")
    assert [recording["name"] for recording in found["recordings"]] == ["monday/a"]
    assert len(sounds) == 2


def test_more_than_two_versions_have_names_that_differ(tmp_path):
    paths = [save(tmp_path / name / "a.wav", noise(100)) for name in ("noisy", "one", "two")]
    assert labels_of(paths) == ["noisy/a.wav", "one/a.wav", "two/a.wav"]
    assert labels_of([path.parent for path in paths]) == ["noisy", "one", "two"]
    assert labels_of([paths[0]] * 3) == [f"{number}: {paths[0]}" for number in (1, 2, 3)]
    write_page(tmp_path / "page.html", labels_of(paths), match(paths)[0])
    assert len(content(tmp_path / "page.html")[1]) == 3


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            {"rate": 8000},
            r"found 16000 Hz and 1 channel in .*, 8000 Hz and 1 channel in .*, expected the same",
        ),
        ({"channels": 2}, r"found 16000 Hz and 1 channel in .*, 16000 Hz and 2 channels in "),
        ({"length": 99}, r"found 100 samples in .*, 99 in .*, expected as many in both: cut the longer one"),
    ],
)
def test_versions_that_do_not_fit(tmp_path, other, sentence):
    asked = {"rate": RATE, "channels": 1, "length": 100} | other
    one = save(tmp_path / "one.wav", noise(100))
    sound = np.repeat(np.atleast_2d(noise(asked["length"])), asked["channels"], axis=0)
    two = save(tmp_path / "two.wav", sound, rate=asked["rate"])
    with pytest.raises(DataError, match=sentence):
        write_page(tmp_path / "page.html", ["Before", "After"], match([one, two])[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.wav", "two.wav"]


def test_bad_input_is_one_sentence(tmp_path, pair, folders, monkeypatch, capsys):
    (tmp_path / "there.html").touch()
    (tmp_path / "text.wav").write_text("no sound")
    save(tmp_path / "other" / "else.wav", noise(100))
    for arguments, sentence in (
        ((pair[0], folders[0]), "expected files alone or folders alone"),
        ((folders[0], tmp_path / "other"), "expected recordings paired by their path below the folder"),
        ((pair[0], tmp_path / "none.wav"), "none.wav"),
        ((pair[0], tmp_path / "text.wav"), "text.wav"),
    ):
        assert run(monkeypatch, *arguments, "-o", tmp_path / "page.html") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert sentence in line
        assert not (tmp_path / "page.html").exists()
    assert run(monkeypatch, *pair, "-o", tmp_path / "there.html") == 1
    assert "which is kept" in capsys.readouterr().err
    assert (tmp_path / "there.html").read_text() == ""


def test_so_much_sound_and_no_more(tmp_path, pair, monkeypatch):
    monkeypatch.setattr(comparison, "MAX_BYTES", 10_000)
    with pytest.raises(DataError, match=r"found more than 0\.01 MB of sound, expected that at most in one page"):
        write_page(tmp_path / "page.html", labels_of(pair), match(pair)[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.flac", "before.wav"]


def test_names_are_text(tmp_path):
    """What a name holds is shown, and does nothing."""
    name = '</script><script>alert(1)</script><img src=x onerror="alert(1)">&'.replace("/", "\N{DIVISION SLASH}")
    for folder in ("before", "after", "third"):
        save(tmp_path / folder / f"{name}.wav", noise(100))
    folders = [tmp_path / folder for folder in ("before", "after", "third")]
    folders[2] = folders[2].rename(tmp_path / '<b>"third"&')
    write_page(tmp_path / "page.html", labels_of(folders), match(folders)[0])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "<img" not in text
    assert text.count("<script") == text.count("</script>") == 1 + 1 + 3 + 1
    (recording,) = content(tmp_path / "page.html")[0]["recordings"]
    assert recording["name"] == name


def test_all_that_a_module_imports_is_in_the_page(tmp_path, pair):
    write_page(tmp_path / "page.html", labels_of(pair), match(pair)[0])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    modules = json.loads(re.search(r'type="importmap">(.*?)</script>', text, re.DOTALL)[1])["imports"]
    for address in modules.values():
        source = base64.b64decode(address.removeprefix("data:text/javascript;base64,")).decode()
        imported = re.findall(r'^(?:import|export)\b[^;]*?"([^"]+)";', source, re.MULTILINE)
        assert set(imported) <= set(modules)
    assert "comparison.js" in modules
