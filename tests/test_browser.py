"""A real browser: JupyterLab opens a notebook, runs it all, a slider moves, the picture changes."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

# Two notebooks with a slider
SLIDERS = ("00_the_whole_machine.ipynb", "06_diffusion.ipynb")
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"
NO_NEWS = '{"fetchNews": "false", "checkForUpdates": false}'
PICTURE = ".jp-OutputArea-output img.widget-image, .widget-image"
NOT_OURS = ("favicon", "api/contents/untitled", "net::ERR", "websocket")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on copies of the notebooks, which it saves by itself."""
    folder = tmp_path_factory.mktemp("lab")
    for name in SLIDERS:
        shutil.copy(NOTEBOOKS / name, folder)
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(NO_NEWS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    places = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "MINIDALLE2_FAST": "1",
    }
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            f"--ServerApp.root_dir={folder}",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={token}",
            "--expose-app-in-browser",
        ],
        env={**os.environ, **places},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api/status?token={token}").close()
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    yield lambda name: f"{address}/lab/tree/{name}?token={token}&reset"
    process.terminate()
    process.wait(20)


@pytest.mark.parametrize("name", SLIDERS)
def test_a_slider_changes_the_picture(server, name):
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(180_000)
        errors = []
        page.on("console", lambda m: m.type == "error" and errors.append(m.text))
        page.goto(server(name))
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(IDLE)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_timeout(2_000)
        page.wait_for_function(IDLE)
        handle = page.locator(".noUi-handle").first
        handle.scroll_into_view_if_needed()
        before = page.locator(PICTURE).first.get_attribute("src")
        handle.focus()
        for _ in range(3):
            handle.press("ArrowRight")
        page.wait_for_function(
            "([selector, old]) => document.querySelector(selector)?.src !== old",
            arg=[PICTURE, before],
        )
        browser.close()
    assert [e for e in errors if not any(word in e for word in NOT_OURS)] == []
