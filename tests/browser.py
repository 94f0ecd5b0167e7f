"""Headless Chromium for tests, driven over its debugging pipe.

Real mouse, keys, media and screenshots, without another package.
"""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


class Browser:
    """One browser with one page.

    What the page complains about is in `problems`, what it asks for in `requests`.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        (read, self.writes), (self.reads, write) = os.pipe(), os.pipe()
        switches = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-extensions",
            "--remote-debugging-pipe",
        ]
        command = [
            "bash",
            "-c",
            f'exec "$@" 3<&{read} 4>&{write}',
            "bash",
            CHROMIUM,
            *switches,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(
            command, pass_fds=(read, write), env=os.environ | {"HOME": str(profile)}, **quiet
        )
        os.close(read)
        os.close(write)
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.buffer, self.number, self.session, self.loaded = b"", 0, "", False
        page = next(
            target
            for target in self("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        )
        self.session = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.writes)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reads)

    def __call__(self, method: str, **parameters: Any) -> Any:
        """One command of the Chrome DevTools Protocol, and its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | (
            {"sessionId": self.session} if self.session else {}
        )
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path) -> None:
        """Loads a file and waits until it is there."""
        self.loaded = False
        self("Page.navigate", url=path.as_uri())
        while not self.loaded:
            self._note(self._next())
        self._settle()

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        result = self(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Sets the window's size in CSS pixels."""
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self("Emulation.setTouchEmulationEnabled", enabled=phone)
        self._settle()

    def hover(self, selector: str) -> None:
        """Moves the mouse to the middle of the first element that a selector finds."""
        x, y = self._middle(selector)
        self("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def tap(self, selector: str) -> None:
        """Touches the middle of the first element that a selector finds."""
        x, y = self._middle(selector)
        self("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str) -> None:
        """Presses a key, by its name in KeyboardEvent.key."""
        codes = {
            "Tab": 9,
            "ArrowRight": 39,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowDown": 40,
            "Home": 36,
            "End": 35,
            "Escape": 27,
            "Enter": 13,
        }
        for kind in ("rawKeyDown", "keyUp"):
            self(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
            )

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """What is in sight, or the whole page, as PNG."""
        path.write_bytes(
            base64.b64decode(
                self("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
            )
        )

    def _settle(self) -> None:
        """Lets two frames pass, after which observers have run."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def _middle(self, selector: str) -> tuple[float, float]:
        place = (
            "(e => (e.scrollIntoView({block: 'center'}),"
            f" e.getBoundingClientRect()))(document.querySelector({json.dumps(selector)}))"
        )
        x, y = self.value(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({place})")
        return x, y

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            part = os.read(self.reads, 1 << 20)
            assert part, "the browser has gone"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Runtime.exceptionThrown":
                self.problems.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning"):
                self.problems.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.problems.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
