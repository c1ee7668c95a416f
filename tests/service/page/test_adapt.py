"""The page's section that adapts a model; what trains is replaced, since tests of the service train."""

import pytest

from sottovoce.engine.model import Model
from sottovoce.service import app
from sottovoce.weights import MODELS

from ...signal.audio.files import noise, save
from ..calls import serving
from ..test_adaptation import FUNCTIONS  # noqa: F401 (of the fixture `functions`)
from .test_page import check_accessibility

IS_FOCUSED = "element => element === document.activeElement"


@pytest.fixture(scope="module")
def adapting(tmp_path_factory, functions):
    """A service whose training is none, but takes seconds; its result is the model for live sound."""
    folder = tmp_path_factory.mktemp("adapting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "adapt_to_place", functions.copy)
        patch.setenv("IDENTITY_MODEL", str(MODELS["live"]))
        with serving(folder=folder / "state", workers=1, max_minutes=0.5) as service:
            yield service


@pytest.fixture
def recordings(tmp_path):
    return [save(tmp_path / f"{name}.wav", noise(16_000)) for name in ("monday", "<b>tuesday")]


def choose(page, recordings):
    page.locator("#adapt").get_by_label("Recordings of your room").set_input_files(recordings)


@pytest.mark.slow
def test_a_room_is_learned_compared_and_downloaded(adapting, open_page, recordings, tmp_path):
    page = open_page("/#adapt", address=adapting.address)
    start = page.get_by_role("button", name="Adapt", exact=True)
    assert start.is_disabled()
    choose(page, recordings)
    assert page.get_by_label("Chosen recordings").get_by_role("listitem").count() == 2
    page.get_by_role("button", name="Remove <b>tuesday.wav").click()
    choose(page, recordings[1:])
    page.get_by_label("Name of the room").fill("My room")
    start.click()

    page.get_by_text("Learning: step").first.wait_for()
    curve = page.locator(".curve svg")
    curve.wait_for()
    assert curve.get_attribute("aria-label").startswith("Loss of the training: 1.00 at step 1, ")
    check_accessibility(page)
    page.reload()  # the tab knows its job
    page.get_by_role("heading", name="The model of your room is ready").wait_for()
    assert page.get_by_text("monday.wav").is_visible()
    page.get_by_text("Loss in numbers").click()
    assert page.locator(".curve tbody tr").count() == 150
    check_accessibility(page)

    with page.expect_download() as saved:
        page.get_by_role("button", name="Download the model").click()
    assert saved.value.suggested_filename == "room.onnx"
    saved.value.save_as(tmp_path / "room.onnx")
    assert (tmp_path / "room.onnx").read_bytes() == MODELS["live"].read_bytes()
    assert Model.load(tmp_path / "room.onnx").metadata.name

    page.get_by_label("Recording to compare with").set_input_files(recordings[0])
    page.get_by_role("button", name="Your room").wait_for()
    for label in ("Before", "Model default", "Your room"):
        page.get_by_role("button", name=label, exact=True).click()
        assert page.locator(".lane.heard .lane-label").text_content() == label
    check_accessibility(page)

    page.get_by_role("button", name="Delete the model and start again").press("Enter")
    page.get_by_role("button", name="Choose recordings").wait_for()
    assert page.get_by_role("button", name="Choose recordings").evaluate(IS_FOCUSED)
    page.reload()
    page.get_by_role("button", name="Choose recordings").wait_for()


@pytest.mark.slow
def test_who_cancels_leaves_nothing(adapting, open_page, recordings):
    """By keyboard: the focus is never lost with a button that goes away."""
    page = open_page("/#adapt", address=adapting.address)
    choose(page, recordings)
    page.get_by_role("button", name="Adapt", exact=True).press("Enter")
    page.locator(".curve svg").wait_for()
    page.keyboard.press("Tab")
    assert page.locator("#adapt").get_by_role("button", name="Cancel").evaluate(IS_FOCUSED)
    with page.expect_request(lambda request: request.method == "DELETE"):
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Choose recordings").wait_for()
    page.locator("#adapt .work:focus").wait_for(state="attached")
    assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.slow
def test_an_old_model_that_stays_is_neither_heard_nor_downloaded(open_page):
    curve = [{"step": step, "loss": 1 / step} for step in (1, 2)]
    job = {"id": "x", "state": "done", "notes": ["Kept the old model: not better."], "error": None}
    job["adaptation"] = {"task": "done", "step": 2, "steps": 2, "seconds_left": None, "adopted": False, "curve": curve}
    page = open_page("/#enhance")
    page.route("**/v1/jobs/x", lambda route: route.fulfill(json=job))
    page.evaluate("sessionStorage.setItem('sottovoce.adaptation', 'x')")
    page.get_by_role("tab", name="Adapt").click()
    page.get_by_role("heading", name="The old model stays: the new one is not better").wait_for()
    assert page.get_by_text("Kept the old model: not better.").is_visible()
    buttons = page.locator("#adapt .result").get_by_role("button")
    assert buttons.all_text_contents() == ["Start again"]
    check_accessibility(page)
    buttons.press("Enter")
    page.get_by_role("button", name="Choose recordings").wait_for()


@pytest.mark.slow
def test_where_nothing_is_adapted_the_page_says_so(open_page, tmp_path):
    with serving(folder=tmp_path / "state", workers=1, adaptations=0) as service:
        page = open_page("/#adapt", address=service.address)
        page.get_by_text("This service adapts no models.").wait_for()
        assert page.get_by_role("button", name="Adapt", exact=True).count() == 0
