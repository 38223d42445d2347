"""Opens a report in a headless Chromium and does what a reader does.

    python3 tests/report_in_browser.py REPORT.html [--shots DIR]

Checks that the page opens without errors and without asking the network for anything, that its table
sorts, that a mark shows its values on hover and by the keyboard, that a phone's width holds it, that it
is readable in the dark and on paper. Exits with 2 where there is no Chromium. Needs Python alone: the
browser is spoken to through two pipes.
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell"]


class Browser:
    """A Chromium that answers to DevTools' protocol on file descriptors 3 and 4."""

    def __init__(self, program):
        to_browser, self.write = os.pipe()
        self.read, from_browser = os.pipe()
        self.profile = tempfile.mkdtemp()
        os.set_inheritable(to_browser, True)
        os.set_inheritable(from_browser, True)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        command = [program, *flags, f"--user-data-dir={self.profile}", "about:blank"]
        # The shell gives the two pipes the numbers that Chromium expects.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["sh", "-c", shell, "sh", *command],
            pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.rest, self.events, self.number, self.session = b"", [], 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def message(self):
        while b"\0" not in self.rest:
            piece = os.read(self.read, 1 << 20)
            if not piece:
                raise SystemExit("FAILED: the browser went away")
            self.rest += piece
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **params):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"FAILED: {method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"FAILED: {expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, event, seconds=30):
        end = time.time() + seconds
        while not any(e.get("method") == event for e in self.events):
            if time.time() > end:
                raise SystemExit(f"FAILED: no {event} after {seconds} s")
            self.events.append(self.message())

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.write)
        os.close(self.read)
        shutil.rmtree(self.profile, ignore_errors=True)


failed = []


def check(what, holds, found=""):
    print(("ok      " if holds else "FAILED  ") + what + ("" if holds else f": {found}"))
    if not holds:
        failed.append(what)


def size(browser, width, height=900, dark=False, media=""):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 500)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", media=media, features=[scheme])


def shot(browser, folder, name):
    if folder:
        picture = browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        pathlib.Path(folder, name + ".png").write_bytes(base64.b64decode(picture))


def opens(browser, page):
    for domain in ["Page", "Runtime", "Log", "Network"]:
        browser.call(domain + ".enable")
    browser.call("Page.navigate", url=page.resolve().as_uri())
    browser.wait("Page.loadEventFired")
    complaints = [e for e in browser.events if e.get("method") in
                  ("Runtime.exceptionThrown", "Log.entryAdded")
                  or (e.get("method") == "Runtime.consoleAPICalled" and e["params"]["type"] in ("error", "warning"))]
    check("opens without errors", not complaints, complaints)
    asked = [e["params"]["request"]["url"] for e in browser.events
             if e.get("method") == "Network.requestWillBeSent"]
    abroad = [url for url in asked if not url.startswith(("file:", "data:"))]
    check("asks the network for nothing", not abroad and len(asked) >= 1, abroad)


def column(browser, index):
    cells = f"[...document.querySelector('table.runs').tBodies[0].rows].map(r => r.children[{index}].dataset.value)"
    return browser.value(cells)


def sorts(browser):
    heads = browser.value("[...document.querySelectorAll('table.runs thead th')].map(h => h.textContent)")
    index = next(i for i, head in enumerate(heads) if head.startswith("Parameters"))
    click = f"document.querySelectorAll('table.runs thead th')[{index}].querySelector('button').click()"
    numbers = []
    for _ in range(2):
        browser.value(click)
        numbers.append([float(cell) for cell in column(browser, index)])
    check("a click sorts by parameters, the largest first", numbers[0] == sorted(numbers[0], reverse=True), numbers)
    check("a second click turns the order round", numbers[1] == sorted(numbers[1]), numbers)
    said = browser.value(f"document.querySelectorAll('table.runs thead th')[{index}].getAttribute('aria-sort')")
    check("the head says so", said == "ascending", said)
    first = "document.querySelector('table.runs thead th button').click()"
    browser.value(first)
    names = column(browser, 0)
    check("names sort too", names == sorted(names, key=str.lower), names)


def answers(browser):
    place = "(() => { const m = document.querySelector('#cost .mark[tabindex], #errors .hit'); " \
            "m.scrollIntoView({block: 'center'}); const b = m.getBoundingClientRect(); " \
            "return [b.x + b.width / 2, b.y + b.height / 2, m.dataset.tip]; })()"
    x, y, wanted = browser.value(place)
    time.sleep(0.2)  # the scrolling hides what was shown
    x, y, wanted = browser.value(place)
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    shown = browser.value("(t => t.hidden ? '' : t.textContent)(document.getElementById('tip'))")
    # Another circle may lie over its middle, and answers then.
    marks = browser.value("[...document.querySelectorAll('[data-tip]')].map(m => m.dataset.tip)")
    check("a mark shows its values on hover", shown in marks and "%" in shown, (shown, wanted))
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    check("and hides them again", browser.value("document.getElementById('tip').hidden"))
    browser.value("document.querySelector('#cost .mark[tabindex]')?.focus()")
    check("the keyboard reaches it", not browser.value("document.getElementById('tip').hidden")
          or not browser.value("!!document.querySelector('#cost')"))
    browser.value("document.activeElement.blur()")


LUMINANCE = """(() => {
  const light = css => { const c = css.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * c[0] + .7152 * c[1] + .0722 * c[2]; };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const texts = [...document.querySelectorAll('p, td, dt, dd, h1, h2, figcaption')]
    .filter(e => e.textContent.trim() && !e.closest('.matrix'));
  const svg = [...document.querySelectorAll('svg text')];
  const contrast = ink => (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
  const rgb = e => e.closest('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color;
  return Math.min(...[...texts, ...svg].map(rgb).filter(c => c.startsWith('rgb')).map(c => contrast(light(c))));
})()"""


def readable(browser, what):
    contrast = browser.value(LUMINANCE)
    check(f"text is readable {what} (contrast {contrast:.1f})", contrast >= 4.5, contrast)


def fits(browser):
    wide = browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check("a phone's width holds the page", wide <= 0, f"{wide} pixels stick out")
    small = browser.value("Math.min(...[...document.querySelectorAll('.cards svg.plot')].map(s => 12 * "
                          "s.getBoundingClientRect().width / s.viewBox.baseVal.width))")
    check("figures are legible there", small is None or small >= 8.5, f"text of {small} pixels")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--shots")
    args = parser.parse_args()
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        print("skipped: no Chromium here")
        raise SystemExit(2)
    if args.shots:
        os.makedirs(args.shots, exist_ok=True)
    browser = Browser(program)
    try:
        size(browser, 1280)
        opens(browser, args.page)
        readable(browser, "in the light")
        shot(browser, args.shots, "light")
        sorts(browser)
        answers(browser)
        size(browser, 1280, dark=True)
        readable(browser, "in the dark")
        shot(browser, args.shots, "dark")
        size(browser, 360, 740)
        fits(browser)
        shot(browser, args.shots, "phone")
        size(browser, 800, media="print")
        readable(browser, "on paper")
        shot(browser, args.shots, "print")
    finally:
        browser.close()
    if failed:
        raise SystemExit(f"{len(failed)} checks failed")


main()
