"""The page as a whole: how it is served, and that everybody can use it."""

import re

import pytest

from sottovoce.service.page import read_assets

from ..calls import call

PHONE_WIDTH = 360
# Its label without the options of a choice, or its text.
NAME_OF_FOCUSED = """() => {
  const focused = document.activeElement;
  const [label] = focused.labels?.length ? focused.labels : [focused];
  return [...label.childNodes].filter((node) => node.nodeName !== "SELECT" && node.nodeName !== "OUTPUT")
    .map((node) => node.textContent).join("").trim();
}"""


def test_files_are_served_with_their_kind_and_nothing_else_may_run(page_service):
    assert {"/", "/page/main.js", "/page/page.css"} <= set(read_assets())
    for path, asset in read_assets().items():
        answer = call(page_service.address, "GET", path)
        assert (answer.status, answer.body) == (200, asset.content)
        assert answer.headers["content-type"] == asset.media_type
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        same = call(page_service.address, "GET", path, headers={"If-None-Match": answer.headers["etag"]})
        assert (same.status, same.body) == (304, b"")
        other = call(page_service.address, "GET", path, headers={"If-None-Match": '"0"'})
        assert other.status == 200


@pytest.mark.parametrize(
    "path", ["/page/__init__.py", "/page/", "/page/..%2fapp.py", "/page/index.html", "/index.html"]
)
def test_nothing_else_is_served(page_service, path):
    assert call(page_service.address, "GET", path).status == 404


def test_no_file_names_another_place():
    for path, asset in read_assets().items():
        found = re.findall(r"https?://[^\s\"'<>]+", asset.content.decode())
        assert [address for address in found if address != "http://www.w3.org/2000/svg"] == [], path


def test_sections_are_chosen_by_keyboard_and_address(open_page):
    page = open_page("/#live")
    assert page.locator("main > section:visible").get_attribute("id") == "live"
    page.get_by_role("tab", name="Live").press("ArrowRight")
    assert page.locator("main > section:visible").get_attribute("id") == "adapt"
    assert page.url.endswith("#adapt")
    assert page.get_by_role("tab", name="Adapt").evaluate("tab => tab === document.activeElement")


def test_the_tab_key_goes_through_the_live_section_in_order(open_page):
    page = open_page("/#live")
    page.get_by_role("tab", name="Live").focus()
    found = []
    for _ in range(8):
        page.keyboard.press("Tab")
        found.append(page.evaluate(NAME_OF_FOCUSED))
    assert found == [
        *("Microphone", "Output", "Model", "Noise reduction", "Room sound"),
        *("I wear headphones: play the sound", "Start", "Strength"),
    ]


def test_a_file_that_is_dropped_beside_the_section_leaves_the_page_as_it_is(open_page):
    page = open_page("/#live")
    assert (
        page.evaluate(
            """() => {
          const event = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: new DataTransfer() });
          return document.querySelector("h1").dispatchEvent(event);
        }"""
        )
        is False
    )  # the browser does not open it


def test_nobody_is_kept_out(open_page):
    page = open_page()
    for section in ("enhance", "live", "adapt"):
        page.locator(f"#tab-{section}").click()
        check_accessibility(page)


def check_accessibility(page):
    """axe finds nothing, in light and dark, and nothing stands out of a page as narrow as a phone."""
    from axe_playwright_python.sync_playwright import Axe

    for scheme, width in (("light", 1280), ("dark", PHONE_WIDTH)):
        # Colours that are still on their way to the other scheme have no contrast that counts.
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 800})
        found = Axe().run(page).response["violations"]
        assert [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in found] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
