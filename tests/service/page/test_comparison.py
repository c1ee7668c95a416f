"""A page of `sottovoce compare` in Chromium, opened from a file."""

import pytest

from sottovoce.service.comparison import labels_of, match, write_page

from ...signal.audio.files import noise, save
from .conftest import TIMEOUT_MS
from .test_page import check_accessibility

NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture
def pages(tmp_path):
    """Two recordings, in two and in three versions."""
    folders = [tmp_path / name for name in ("noisy", "one", "two")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        for name in ("a", NAME):
            save(folder / f"{name}.wav", noise(16_000, seed=number), 44_100)
    made = [tmp_path / "two.html", tmp_path / "three.html"]
    for page, inputs in zip(made, (folders[:2], folders), strict=True):
        write_page(page, labels_of(inputs), match(inputs)[0])
    return made


@pytest.mark.slow
def test_it_works_from_a_file_without_a_network(browser, pages):
    two, three = pages
    context = browser.new_context(offline=True, viewport={"width": 360, "height": 800})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: complaints.append(request.url) if is_foreign(request.url) else None)

    def is_foreign(url):
        return not url.startswith(("file:", "data:"))

    page.goto(two.as_uri())
    page.get_by_role("button", name="Play", exact=True).wait_for()
    assert page.get_by_role("combobox", name="Recording").locator("option").all_text_contents() == [NAME, "a"]
    assert page.get_by_text("44.1 kHz · mono").is_visible()
    heard = page.locator(".lane.heard .lane-label")
    for label in ("After", "Difference", "Before"):
        page.get_by_role("button", name=label, exact=True).click()
        assert heard.text_content() == label
    page.get_by_label("Repeat").check()  # it would be over before a slow machine looks
    page.get_by_role("button", name="Play", exact=True).click()
    page.get_by_role("button", name="Pause", exact=True).wait_for()
    page.get_by_role("button", name="Blind test").click()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("heading", name="a", exact=True).wait_for()
    page.get_by_role("button", name="Play", exact=True).wait_for()
    check_accessibility(page)

    page.goto(three.as_uri())
    page.get_by_role("button", name="two", exact=True).click()
    assert heard.text_content() == "two"
    assert page.get_by_role("button", name="Difference").count() == 0
    context.close()
    assert complaints == []
