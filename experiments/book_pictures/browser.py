"""Pages in a browser, which need Chromium: the demo page and TensorBoard also its driver and the package selenium."""

import base64
import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from snnjax.app.demo import page_of, teaching_page

from book_pictures import deciding
from snnjax import InputError
from snnjax.app.main import main
from snnjax.data import load
from snnjax.runs.trained import Trained

SIZE = (1280, 1250)  # pixels of the page that are shown
SEVEN = [(80, 70), (195, 70), (195, 75), (150, 150), (125, 225)]
"""Where a pen goes that draws a seven on the sheet of 280 x 280 pixels."""
DRAW = """
clear();
sheet.drawn = true;
sheet.stroke = arguments[0][0];
arguments[0].slice(1).forEach(drawTo);
endStroke();
"""


def demo() -> bytes:
    """A drawn seven on the demo page, the spikes of each layer over time, and the race of the potentials."""
    data = load("mnist").first(None, 20)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "demo.html"
        page.write_text(page_of(deciding.network(), data.test_images, data.test_labels, centred=True))
        shot = _screenshot(page)
    return _small(shot)


PHONE = (390, 844)  # pixels
TEACH = """
for (const name of ["one", "seven"]) {
  element("name").value = name;
  document.querySelector("#new-class button").click();
}
"""
PRESS = "document.querySelectorAll('.teach')[arguments[0]].click();"
ONE = [(150, 50), (130, 230)]
"""Where a pen goes that draws a one."""


def teach() -> bytes:
    """The page of a lesson on a phone: a drawn seven is decided after one picture of each of two classes."""
    data = load("mnist").first(None, 20)
    trained = Trained.read("pretrained:goupy2024_ncg_mnist")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "teach.html"
        page.write_text(teaching_page(trained, data.test_images, data.test_labels, centred=True))
        driver = _driver()
        try:
            metrics = dict(width=PHONE[0], height=PHONE[1], deviceScaleFactor=1.6, mobile=True)
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(page.as_uri())
            driver.execute_script(TEACH)
            for label, strokes in enumerate((ONE, SEVEN)):
                driver.execute_script(DRAW, [[*place] for place in strokes])
                driver.execute_script(PRESS, label)
            driver.execute_script(DRAW, [[*place] for place in SEVEN])
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {})
            return _small(base64.b64decode(shot["data"]))
        finally:
            driver.quit()


SHORT = ("--epochs", "2", "3", "--train_images", "300", "--test_images", "60", "--out", "runs/diagnosed")
"""Options of a short training."""
REPORT_SIZE = (1000, 880)  # pixels


def report() -> bytes:
    """The top of the report of a short training."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        main(["train", *SHORT])
        page = Path("runs/diagnosed/report.html").absolute()
        size = f"--window-size={REPORT_SIZE[0]},{REPORT_SIZE[1]}"
        subprocess.run([_chromium(), *ARGUMENTS, size, "--screenshot=report.png", page.as_uri()], check=True)
        return _small(Path("report.png").read_bytes())


WATCHED = ("--tensorboard", "--epochs", "5", "20", "--train_images", "600", "--test_images", "100")
"""Options of the trainings that TensorBoard shows."""
BOARD_SIZE = (1240, 622)  # pixels of the window
BOARD = "http://localhost:6017/"
SHOWN = "?smoothing=0&tagFilter=accuracy/(train|validation)#timeseries"


def tensorboard() -> bytes:
    """TensorBoard with the accuracies of two trainings, which differ by their seed, over the epochs."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for seed in ("0", "1"):
            main(["train", *WATCHED, "--seed", seed, "--out", f"runs/seed{seed}"])
        with _served("runs"):
            shot = _board()
    picture = ImageOps.expand(Image.open(io.BytesIO(shot)).convert("RGB"), 20, "white")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return _small(buffer.getvalue())


@contextlib.contextmanager
def _served(runs: str) -> Iterator[None]:
    """TensorBoard, which answers at `BOARD`, until the context ends."""
    words = ["--logdir", runs, "--port", BOARD.rpartition(":")[2].strip("/"), "--load_fast=false"]
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *words], stderr=subprocess.DEVNULL)
    try:
        for _ in range(60):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{BOARD}data/runs")
                break
            time.sleep(1)
        yield
    finally:
        server.terminate()
        server.wait()


def _board() -> bytes:
    """The page of TensorBoard with its curves, without its settings, as PNG."""
    driver = _driver()
    try:
        driver.set_window_size(*BOARD_SIZE)
        driver.implicitly_wait(30)
        driver.get(BOARD + SHOWN)
        driver.find_element("css selector", "button.settings-button").click()
        driver.find_element("css selector", "scalar-card line-chart")
        time.sleep(5)  # curves are drawn after their chart
        return driver.get_screenshot_as_png()
    finally:
        driver.quit()


def _small(png: bytes) -> bytes:
    """A picture in 128 colours."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def _chromium() -> str:
    """The path of Chromium; raises InputError where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise InputError("pictures of pages need chromium: install it")
    return chromium


def _screenshot(page: Path) -> bytes:
    """The top of the page after a seven was drawn, as PNG."""
    driver = _driver()
    try:
        width, height = SIZE
        metrics = dict(width=width, height=height, deviceScaleFactor=1, mobile=False)
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(page.as_uri())
        driver.execute_script(DRAW + "show(state.run.step);", [[*place] for place in SEVEN])
        clip = dict(x=0, y=0, width=width, height=height, scale=1)
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", dict(captureBeyondViewport=True, clip=clip))
        return base64.b64decode(shot["data"])
    finally:
        driver.quit()


def _driver() -> Any:
    """Chromium without a window; raises InputError where a part is missing."""
    try:
        from selenium import webdriver
    except ModuleNotFoundError as error:
        raise InputError("pictures of pages need selenium: pip install selenium") from error
    driver = shutil.which("chromedriver")
    if driver is None:
        raise InputError("pictures of pages need chromedriver: install it")
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = _chromium()
    for argument in ARGUMENTS:
        chosen.add_argument(argument)
    return webdriver.Chrome(chosen, webdriver.ChromeService(driver))
