"""What lies between microphone and headphones: nothing jumps, nothing is lost, and the delay has a bound."""

import itertools
import json

import pytest

# Of a signal that rises by a thousandth with each sample, every sample says where it is from. What is enhanced is the
# same with the opposite sign; it comes in blocks, `late` samples after it was sent. What was played is a text on its
# way here: Playwright takes 40 µs for each number of an array.
PLAY = """async ({ quanta, late, strength, options }) => {
  const { LiveBuffer } = await import("/page/live-buffer.js");
  const buffer = new LiveBuffer(options);
  const place = (n) => (n + 1) / 2 ** 20;
  const played = [];
  let received = 0;
  for (let q = 0; q < quanta; q++) {
    buffer.write(Float32Array.from({ length: 128 }, (_, n) => place(128 * q + n)));
    const there = 128 * (q + 1) - late(q);
    while (received + 480 <= there) {
      buffer.receive(Float32Array.from({ length: 480 }, (_, n) => -place(received + n)));
      received += 480;
    }
    const output = new Float32Array(128);
    buffer.play(output, strength(q));
    played.push(...output);
  }
  const { delay, gaps, isBehind } = buffer;
  const places = played.map((sample) => Math.round(sample * 2 ** 20));
  return JSON.stringify({ places, delay, gaps, isBehind });
}"""
OPTIONS = {"margin": 960, "most": 24_000}


@pytest.fixture
def play(open_page):
    page = open_page("/page/live-buffer.js")

    def play_(*, quanta, late="() => 1000", strength="() => 1", options=OPTIONS):
        text = PLAY.replace("{ quanta, late, strength, options }", "{ quanta, options }")
        played = page.evaluate(
            text.replace("=> {", f"=> {{ const late = {late}; const strength = {strength};", 1),
            {"quanta": quanta, "options": options},
        )
        return json.loads(played)

    return play_


def steps(places):
    """How far it goes from each sample to the next, where anything is played."""
    heard = [abs(place) for place in places if place]
    return {second - first for first, second in itertools.pairwise(heard)}


def test_sound_is_played_without_a_gap_when_some_of_it_waits(play):
    played = play(quanta=400)
    first = next(number for number, place in enumerate(played["places"]) if place)
    # It fades in over the first samples, and then every sample follows the one before.
    assert steps(played["places"][first + 128 :]) == {1}
    assert all(place <= 0 for place in played["places"])
    assert played["gaps"] == 0
    # The latest of what was received waits: two blocks at least, and less than three.
    assert 1000 + 960 - 128 <= played["delay"] <= 1000 + 3 * 480 + 128


def test_the_microphone_as_it_is_comes_at_the_same_place(play):
    """A switch goes through zero within 128 samples, and no place is played twice or left out."""
    places = play(quanta=400, strength="(q) => q < 200 ? 1 : 0")["places"]
    enhanced, original = places[128 * 100 : 128 * 200], places[128 * 201 :]
    assert steps(enhanced) == steps(original) == {1}
    assert original[0] + enhanced[-1] == 129
    assert all(place > 0 for place in original)
    between = places[128 * 200 : 128 * 201]
    assert between == sorted(between)


def test_a_part_of_it_is_the_mixture(play):
    places = play(quanta=200, strength="() => 0.25")["places"]
    first = 128 * 100
    whole = play(quanta=200)["places"]
    assert places[first] == pytest.approx(0.75 * -whole[first] + 0.25 * whole[first], abs=1)


def test_a_late_network_makes_a_gap_and_more_waits_from_then_on(play):
    """Sound is 80 ms later for some time."""
    played = play(quanta=1000, late="(q) => q < 300 || q > 330 ? 1000 : 5000")
    assert played["gaps"] == 1
    assert steps(played["places"][128 * 400 : 128 * 700]) == {1}


def test_a_delay_that_is_not_needed_is_taken_back(play):
    """After a burst of latecomers the delay is longer; some seconds later it is as before."""
    bounds = "(q) => q < 300 || q > 330 ? 1000 : 9000"
    soon, later = (play(quanta=quanta, late=bounds)["delay"] for quanta in (500, 3000))
    assert later < soon
    assert later <= 1000 + 2 * 960 + 960 + 3 * 480


def test_the_delay_has_a_bound(play):
    """The service stops for long, and everything comes at once."""
    played = play(quanta=1500, late="(q) => q < 300 || q > 900 ? 1000 : 128 * (q - 300) + 1000")
    assert played["delay"] <= 1000 + OPTIONS["most"] + 480
    heard = [-place for place in played["places"] if place]
    assert heard[-1] > 128 * 1400 - OPTIONS["most"]
    assert not played["isBehind"]
    assert play(quanta=2100, late="() => 1e9")["isBehind"]
