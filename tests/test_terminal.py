"""What a long command reports where there is no terminal."""

import pytest

from sottovoce.terminal import ProgressLines, duration


def test_a_line_a_minute_with_the_time_left(capsys):
    now = 0.0
    show = ProgressLines(clock=lambda: now)
    for done in range(0, 1001):
        now = 0.5 * done
        show("training", done, 1000, f"{done} of 1000")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert lines[0] == "sottovoce: training 1% (10 of 1000), 8:15.0 left"
    assert lines[1] == "sottovoce: training 13% (130 of 1000), 7:15.0 left"
    assert lines[-1] == "sottovoce: training 97% (970 of 1000), 0:15.0 left"


def test_what_goes_on_after_a_break_is_not_counted_as_done_now(capsys):
    now = 0.0
    show = ProgressLines(clock=lambda: now)
    show("training", 900, 1000)
    now = 60.0
    show("training", 950, 1000, "")
    assert capsys.readouterr().err == "sottovoce: training 95% (950 of 1000), 1:00.0 left\n"


def test_short_tasks_tell_nothing(capsys):
    now = 0.0
    show = ProgressLines(clock=lambda: now)
    for done in range(0, 101):
        now = 0.05 * done
        show("mixing", done, 100, "")
    assert capsys.readouterr().err == ""


def test_a_task_that_begins_anew_counts_from_there(capsys):
    now = 0.0
    show = ProgressLines(clock=lambda: now)
    show("cutting", 90, 100, "")
    now = 61.0
    show("cutting", 0, 100, "")
    now = 121.0
    show("cutting", 50, 100, "")
    assert capsys.readouterr().err == "sottovoce: cutting 50% (50 of 100), 1:00.0 left\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00.0"),
        (59.94, "0:59.9"),
        (59.97, "1:00.0"),
        (119.97, "2:00.0"),
        (3599.96, "1:00:00.0"),
        (3723.4, "1:02:03.4"),
    ],
)
def test_seconds_never_reach_sixty(seconds, shown):
    assert duration(seconds) == shown
