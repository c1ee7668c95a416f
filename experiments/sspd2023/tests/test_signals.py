import numpy as np
import pytest
from tests.data.synthetic import RATE, write

from sottovoce.data.corpora.folders import read_table
from sottovoce.data.corpora.manifest import scan
from sottovoce.errors import DataError
from sottovoce.signal.audio import find_audio, read
from sottovoce.signal.levels import active_speech_db, rms_db
from sspd2023.signals import TABLE, Signal, make_signals

from .corpora import UTTERANCE_SECONDS, babble, make_speech

SPEAKERS, UTTERANCES = 4, 3


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return make_speech(tmp_path_factory.mktemp("corpora"), SPEAKERS, utterances=UTTERANCES)


def make(speech, folder, *, count=28, seconds=2.0, seed=1, again=False, progress=None):
    return make_signals(speech, folder, count=count, seconds=seconds, seed=seed, again=again, progress=progress)


def test_signals_repeat_nothing_and_become_fewer(tmp_path, speech):
    seen = []
    rows = make(speech, tmp_path / "out", progress=lambda *done: seen.append(done))
    used = [path for row in rows for path in row.speech.split("|")]
    assert len(used) == len(set(used)) == UTTERANCES * SPEAKERS
    # Three utterances of 1.2 s give one signal of 2 s and what is left.
    assert sorted(row.file for row in rows) == sorted(f"{name}/0{n}.flac" for name in speech.groups for n in (0, 1))
    assert seen == [(number, 28) for number in range(1, len(rows) + 1)]
    for row in rows:
        signal = read(tmp_path / "out" / row.file)[0][0]
        assert active_speech_db(signal, RATE) == pytest.approx(-26, abs=1)
        assert UTTERANCE_SECONDS <= signal.size / RATE <= 2
        assert signal.size / RATE == row.seconds
        assert all(f"/{row.speaker}/" in path for path in row.speech.split("|"))


def test_speakers_take_turns(tmp_path, speech):
    speakers = [row.speaker for row in make(speech, tmp_path / "out", count=6)]
    assert sorted(speakers[:SPEAKERS]) == sorted(speech.groups)
    assert speakers[SPEAKERS:] == speakers[:2]


def test_all_speech_is_used_before_any_comes_again(tmp_path, speech):
    rows = make(speech, tmp_path / "out", count=20, seconds=UTTERANCE_SECONDS, again=True)
    used = [path for row in rows for path in row.speech.split("|")]
    assert len(set(used)) == UTTERANCES * SPEAKERS
    assert max(map(used.count, used)) - min(map(used.count, used)) <= 1
    assert len(find_audio(tmp_path / "out")) == len(rows) == 20


def test_the_seed_gives_every_draw(tmp_path, speech):
    one, same, other = (make(speech, tmp_path / str(n), seed=seed) for n, seed in enumerate((1, 1, 2)))
    assert one == same
    assert not {row.sha256 for row in one} & {row.sha256 for row in other}


def test_what_is_made_is_found(tmp_path, speech):
    rows = make(speech, tmp_path / "out")
    assert read_table(tmp_path / "out" / TABLE, Signal) == rows

    def fail(*_):
        raise AssertionError

    assert make(speech, tmp_path / "out", progress=fail) == rows
    find_audio(tmp_path / "out")[0].unlink()
    assert make(speech, tmp_path / "out") == rows


def test_long_recordings_give_several_stretches_that_begin_with_speech(tmp_path):
    rng = np.random.default_rng(4)
    silence = np.zeros(RATE, np.float32)
    spoken = [babble(3.0, rng), silence, babble(5.0, rng), 0.1 * babble(1.5, rng)]
    write(tmp_path / "speech" / "speaker" / "0.wav", np.concatenate([silence, *spoken]))
    rows = make(scan(tmp_path / "speech"), tmp_path / "out")
    signals = [read(tmp_path / "out" / row.file)[0][0] for row in rows]
    assert len(signals) > 2
    for signal in signals:
        assert rms_db(signal[: RATE // 10]) > rms_db(signal) - 12
    beginnings = [signal[: RATE // 2] / np.linalg.norm(signal[: RATE // 2]) for signal in signals]
    similarity = np.abs(np.array(beginnings) @ np.array(beginnings).T)
    assert np.max(similarity - np.eye(len(signals))) < 0.2


def test_utterances_that_are_too_short_are_reported(tmp_path):
    write(tmp_path / "speech" / "speaker" / "0.wav", babble(0.3, np.random.default_rng(5)))
    with pytest.raises(DataError, match=r"found no utterance of 0\.5 s or more of speaker"):
        make(scan(tmp_path / "speech", min_seconds=0.1), tmp_path / "out")
    assert not (tmp_path / "out").exists()
