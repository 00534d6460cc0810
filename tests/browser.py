"""Drives a headless Chromium by its own DevTools protocol: open a page, wait for it, click, take its picture."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

_TIMEOUT_S = 300.0  # at most: a busy machine takes minutes to draw a page


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._last_id = socket, 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer. Raises ``RuntimeError`` where Chromium refuses."""
        self._last_id += 1
        await self._socket.send_json({"id": self._last_id, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=_TIMEOUT_S)
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    async def open(self, url: str) -> None:
        """Goes to an address."""
        await self.call("Page.navigate", url=url)

    async def value(self, script: str) -> Any:
        """What a JavaScript expression gives. Raises ``RuntimeError`` if it throws."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def until(self, script: str) -> Any:
        """Waits until the expression is true, and returns it. Raises ``AssertionError`` with the page's text if not."""
        end = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < end:
            with suppress(RuntimeError):  # what the expression walks through may not be there yet
                if found := await self.value(script):
                    return found
            await asyncio.sleep(0.2)
        text = await self.value("document.body.innerText")
        raise AssertionError(f"never true: {script}; the page says: {text[:3000]}")

    async def click(self, element: str) -> None:
        """Waits for what a JavaScript expression finds, and clicks in its middle with the mouse."""
        await self.until(f"!!({element})")
        await self.value(f"({element}).scrollIntoView({{block: 'center'}})")
        script = f"(box => [box.x + box.width / 2, box.y + box.height / 2])(({element}).getBoundingClientRect())"
        x, y = await self.until(script)  # a page that draws itself anew may have taken it away meanwhile
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def picture(self, path: Path) -> None:
        """Saves what the window shows as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def chromium(width: int, height: int) -> AsyncIterator[Page]:
    """A browser of its own, with one empty page. Raises ``RuntimeError`` where Chromium is not installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise RuntimeError("chromium is missing (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        process = subprocess.Popen([*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    pages = [target for target in json.loads(await answer.text()) if target["type"] == "page"]
                async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                    await page.call("Emulation.setDeviceMetricsOverride", **size)
                    yield page
        finally:
            process.terminate()
            process.wait(30)


async def _port(file: Path) -> str:
    end = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end:
        if file.exists() and (text := file.read_text()):
            return text.splitlines()[0]
        await asyncio.sleep(0.1)
    raise RuntimeError("chromium does not start")
