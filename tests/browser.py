"""Chromium without a window, over its DevTools protocol: what a page loads, says and measures, at a given width."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One tab. `events` are those of the domains Network, Runtime and Log since it was opened."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, suppress_origin=True, timeout=300)
        self.events: list[dict[str, Any]] = []
        self.number = 0
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address: str, width: int, height: int = 900) -> None:
        """Load an address in a window of that size (below 600: as a phone) and wait until it has."""
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1 + phone, mobile=phone
        )
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def ask(self, script: str) -> Any:
        """The value of an expression in JavaScript."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requested(self) -> list[str]:
        """The addresses that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[Any]:
        """What the console and the browser's log say."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in methods]

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def keep(self, name: str) -> None:
        """A picture into the folder that the variable OR1LAB_SCREENSHOTS names, if it is set."""
        if folder := os.environ.get("OR1LAB_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.picture(Path(folder) / f"{name}.png")

    def pdf(self, path: Path) -> None:
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(printed["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser of its own, with a tab; `profile` is a folder for it."""
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port, deadline = profile / "DevToolsActivePort", time.monotonic() + 60
        while not (port.exists() and len(port.read_text().split()) > 1):
            assert time.monotonic() < deadline and process.poll() is None, "Chromium did not start"
            time.sleep(0.2)
        listing = urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list", timeout=30)
        (tab,) = [one for one in json.load(listing) if one["type"] == "page"]
        yield Page(tab["webSocketDebuggerUrl"])
    finally:
        process.terminate()
        process.wait(30)
