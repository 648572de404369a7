"""An experiment's page in a real Chromium: quiet, fit for a phone, readable in both schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.compare_pages import write_pages
from tests.agent.experiment_lab import new_lab, passing
from tests.agent.test_html_in_browser import CAPTIONS, CONTRAST, LEAST_CONTRAST, open_everything
from tests.browser import Browser, open_browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = new_lab(tmp_path_factory.mktemp("lab"))
    passing(lab)
    lab.run()
    experiment = lab.experiment(published=True)
    folder = lab.folder(experiment)
    write_pages(lab.results(experiment), folder=folder)
    return folder.html_page


def test_the_page_asks_for_nothing_and_logs_nothing(browser: Browser, page: Path) -> None:
    browser.problems(), browser.requests()
    browser.open(page)
    open_everything(browser)
    assert browser.requests() == [page.as_uri()]
    assert browser.problems() == []


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_never_scrolls_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.resize(width, 740)
    browser.open(page)
    open_everything(browser)
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_a_caption_is_read_whole_on_a_phone_however_wide_its_table(browser: Browser, page: Path) -> None:
    browser.resize(360, 740)
    browser.open(page)
    open_everything(browser)
    wide, cut = browser.run(CAPTIONS)
    assert wide
    assert cut == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser: Browser, page: Path, scheme: str) -> None:
    browser.prefer(scheme)
    browser.open(page)
    open_everything(browser)
    ratios: dict[str, float] = browser.run(CONTRAST)
    assert {name: ratio for name, ratio in ratios.items() if ratio < LEAST_CONTRAST} == {}
    assert len(ratios) > 5
