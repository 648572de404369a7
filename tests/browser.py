"""A real headless Chromium for tests, over the WebDriver protocol that `chromedriver` speaks; no Python package needed.

Knows nothing of what a page should hold. What a page logs and asks of the network is kept, and handed out by `problems`
and `requests`.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import httpx

FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
)
SECONDS = 60.0


def chromium() -> tuple[str, str] | None:
    """Paths of the driver and the browser; None where either is missing."""
    driver = shutil.which("chromedriver")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return None if driver is None or browser is None else (driver, browser)


class Browser:
    """One session. Every method raises httpx.HTTPError or AssertionError where the driver refuses."""

    def __init__(self, client: httpx.Client, *, session: str) -> None:
        """Use `open_browser`."""
        self._client = client
        self._session = session

    @classmethod
    def start(cls, client: httpx.Client, *, browser: str, profile: Path) -> Self:
        options = {"binary": browser, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        always = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        answer = client.post("/session", json={"capabilities": {"alwaysMatch": always}})
        assert answer.status_code == 200, answer.text
        session = cls(client, session=answer.json()["value"]["sessionId"])
        session.command("Performance.enable", timeDomain="threadTicks")
        session._ask("url", url="about:blank")  # the browser's own first page asks for a lot
        session.requests()
        return session

    def open(self, page: Path, *, fragment: str = "") -> None:
        """Returns when the page has loaded. It is left first, because the driver does not wait for one that is open."""
        address = f"{page.as_uri()}{fragment}"
        for one in ("about:blank", address):
            self._ask("url", url=one)
        deadline = time.monotonic() + SECONDS
        while self.run("return [location.href, document.readyState]") != [address, "complete"]:
            assert time.monotonic() < deadline, f"{address} does not load"
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """What a JavaScript function body returns."""
        return self._ask("execute/sync", script=script, args=[])

    def resize(self, width: int, height: int) -> None:
        """The page's own size in CSS pixels, as on a phone below 500."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str) -> None:
        """`dark` or `light`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str) -> None:
        """One key, down and up, to whatever has the focus."""
        codes = {"Tab": ("Tab", 9, None), "Enter": ("Enter", 13, "\r")}
        code, number, text = codes[key]
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.command("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        answer = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def command(self, name: str, /, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        answer: dict[str, Any] = self._ask("goog/cdp/execute", cmd=name, params=parameters)
        return answer

    def main_thread_seconds(self) -> float:
        """Processor time of the page's main thread since it was opened, of which a busy machine takes nothing away."""
        metrics = self.command("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    def problems(self) -> list[str]:
        """What was logged as a warning or an error since the last call, refusals of the security policy among it."""
        return [entry["message"] for entry in self._ask("se/log", type="browser") if entry["level"] != "INFO"]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._ask("se/log", type="performance")]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def _ask(self, what: str, **body: Any) -> Any:
        answer = self._client.post(f"/session/{self._session}/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A fresh browser with its own profile folder, closed with everything it started."""
    found = chromium()
    assert found is not None, "no chromium here: skip the test instead"
    import httpx  # not above: a machine that only skips these tests may have none

    driver, browser = found
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        started = next(line for line in process.stdout if "started successfully on port" in line)
        address = f"http://127.0.0.1:{started.rstrip().rstrip('.').rsplit(' ', 1)[1]}"
        with httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client:
            session = Browser.start(client, browser=browser, profile=profile)
            try:
                yield session
            finally:
                client.delete(f"/session/{session._session}")
    finally:
        process.terminate()
        process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()
