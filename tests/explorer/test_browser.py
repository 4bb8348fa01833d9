"""The page's arithmetic is torch's, in Node, and the page works in Chromium, from a file and without a network.

Run by `make explorer`: Node and Chromium are not packages of Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_models import every_graph
from PIL import Image

import convae
from convae.explorer import ExplorerServer, lower, write_page
from convae.interop.graphs import Graph, build_graph
from convae.latents import Session

pytestmark = pytest.mark.browser

OPERATIONS = Path(convae.__file__).parent / "explorer" / "web" / "operations.js"
PRESETS = ["torch-vae", "image-vae", "dcgan", "resnet", "ladder"]
TOLERANCE = 1e-3
RUN = """
const fs = require("fs"), [operations, folder] = process.argv.slice(2);
const { prepare } = require(operations);
const blob = new Float32Array(new Uint8Array(fs.readFileSync(`${folder}/blob`)).buffer);  // a copy of its own
const differences = {};
for (const { name, program, inputs, outputs } of JSON.parse(fs.readFileSync(`${folder}/cases.json`))) {
  const found = prepare(program, blob)(inputs);
  differences[name] = Math.max(...Object.entries(outputs).map(([key, values]) =>
    values.reduce((most, value, i) => Math.max(most, Math.abs(value - found[key][i])), 0)));
}
console.log(JSON.stringify(differences));
"""


def differences(graphs: dict[str, Graph], folder: Path) -> dict[str, float]:
    """The largest difference of the page's outputs from torch's, by the name of the graph."""
    blob, cases = bytearray(), []
    for name, each in graphs.items():
        inputs = {key: tensor[:1] for key, tensor in each.examples.items()}
        with torch.no_grad():
            wanted = dict(zip(each.outputs, each.module(*inputs.values()), strict=True))
        numbers = [{key: tensor.double().flatten().tolist() for key, tensor in own.items()} for own in (inputs, wanted)]
        program = lower(each).as_json(blob)
        cases.append({"name": name, "program": program, "inputs": numbers[0], "outputs": numbers[1]})
    (folder / "blob").write_bytes(blob)
    (folder / "cases.json").write_text(json.dumps(cases))
    (folder / "run.js").write_text(RUN)
    done = subprocess.run(
        ["node", folder / "run.js", OPERATIONS, folder], capture_output=True, text=True, check=True, timeout=300
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_every_entry_is_computed_as_torch_does(tmp_path: Path) -> None:
    graphs = {name: own for name, own in every_graph().items() if not name.endswith((" sample", " decode-codes"))}
    found = differences(graphs, tmp_path)
    assert {name: value for name, value in found.items() if not value <= TOLERANCE} == {}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_computed_as_torch_does(preset: str, tmp_path: Path) -> None:
    model = convae.build({"preset": preset}).eval()
    found = differences({name: build_graph(model, name) for name in ("encode", "decode")}, tmp_path)
    assert max(found.values()) <= TOLERANCE


MODEL: dict[str, Any] = {
    "preset": "torch-vae",
    "input": [1, 16, 16],
    "latent": 3,
    "max_filters": 8,
    "condition": {"classes": 2, "channels": 2},
}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """The explorer of a small conditional model in Chromium, opened from its file and without a network."""
    from playwright.sync_api import sync_playwright

    values = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
    np.savez(tmp_path / "images.npz", images=values, labels=np.arange(40) % 2)
    Image.fromarray(values[3]).save(tmp_path / "own.png")
    model = convae.build(MODEL)
    model.provenance = model.provenance.model_copy(update={"classes": ("</script><script>broken=1</script>", "b")})
    session = Session(model, data=tmp_path / "images.npz", label="b")
    path = write_page(session, tmp_path / "page.html", projection="tsne")
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        opened = browser.new_context(offline=True, viewport={"width": 1200, "height": 900}).new_page()
        faults: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        opened.goto(path.as_uri())
        opened.wait_for_selector("body[data-ready]")
        yield opened
        assert faults == []
        browser.close()


def decoded(page: Any) -> list[float]:
    """The image that is shown, before it is rounded to pixels."""
    page.wait_for_timeout(120)
    found: list[float] = page.evaluate("[...decode(pending[0])]")
    return found


def image(page: Any) -> list[float]:
    """The pixels of the decoded image."""
    page.wait_for_timeout(120)
    found: list[float] = page.evaluate(
        "() => { const c = document.getElementById('image');"
        " return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    )
    return found


def test_the_controls_change_the_image_and_the_state_is_in_the_address(page: Any) -> None:
    assert page.evaluate("typeof broken") == "undefined"
    seen = [decoded(page)]

    def changed() -> None:
        seen.append(decoded(page))
        assert seen[-1] != seen[-2]

    box = page.locator("#plane").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] + 80, middle[1] - 60)
    changed()
    page.mouse.down()
    page.mouse.move(middle[0] - 90, middle[1] + 40, steps=3)
    page.mouse.up()
    page.mouse.move(2, 2)
    changed()
    page.locator("#plane").press("ArrowRight")
    changed()
    page.locator("#sliders input").first.fill("1")
    changed()
    page.locator("#label").select_option("0")
    changed()
    page.click("#random")
    changed()
    page.wait_for_timeout(400)
    kept, address = image(page), page.url
    assert "label=0" in address
    page.click("#reset")
    changed()
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    difference = np.abs(np.array(image(page)) - np.array(kept))
    assert difference.max() <= 1


def test_an_image_of_ones_own_is_encoded(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#file", tmp_path / "own.png")
    page.wait_for_selector("#own:not([hidden])")
    assert "PSNR" in page.text_content("#own-text")
    assert page.locator("#neighbors button").count() == 8
    assert page.evaluate("plane.ellipse.xx > 0 && plane.ellipse.yy > 0")
    found = page.evaluate("[...state.own.mean]")
    model, own = convae.build(MODEL).eval(), np.asarray(Image.open(tmp_path / "own.png")) / 255
    with torch.no_grad():
        mean = model.encode(torch.tensor(own, dtype=torch.float32)[None, None], torch.tensor([1])).mean[0]
    assert np.abs(np.array(found) - mean.numpy()).max() <= TOLERANCE


def test_a_path_is_played_and_a_population_evolves(page: Any) -> None:
    for _ in range(3):
        page.click("#random")
        page.click("#anchor")
    before = image(page)
    page.click("#play")
    page.wait_for_timeout(500)
    assert image(page) != before
    page.click("#play")
    assert page.locator("#play").get_attribute("aria-pressed") == "false"
    first = page.locator("#population canvas").first
    before = first.evaluate("canvas => canvas.toDataURL()")
    page.locator("#population button").nth(4).click()
    chosen = page.locator("#population canvas").nth(4).evaluate("canvas => canvas.toDataURL()")
    page.click("#next")
    assert page.locator("#population canvas").first.evaluate("canvas => canvas.toDataURL()") == chosen
    assert chosen != before


def test_a_path_is_saved_as_an_animation(page: Any, tmp_path: Path) -> None:
    for _ in range(2):
        page.click("#random")
        page.click("#anchor")
    with page.expect_download() as download:
        page.click("#record")
    download.value.save_as(tmp_path / "path.webp")
    with Image.open(tmp_path / "path.webp") as found:
        assert (found.format, found.size, getattr(found, "n_frames", 1)) == ("WEBP", (256, 256), 60)
        first = np.asarray(found.convert("L"), float)
        assert (found.info["duration"], found.info["loop"]) == (50, 0)
        found.seek(30)
        last = np.asarray(found.convert("L"), float)
    anchors = page.evaluate("state.anchors.map((z) => [...decode(z)].map((value) => value * 255))")
    for shown, values in zip((first, last), anchors, strict=True):
        wanted = np.kron(np.reshape(values, (16, 16)), np.ones((16, 16)))
        assert np.abs(shown - wanted).mean() < 6


def test_points_inside_a_lasso_are_selected_and_give_a_direction(page: Any) -> None:
    page.click("#lasso")
    box = page.locator("#plane").bounding_box()
    x, y, radius = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["height"] * 0.3
    corners = [(x + dx * radius, y + dy * radius) for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    chosen, inside = page.evaluate(
        "() => { const [a, b] = [[0.2, 0.2], [0.8, 0.8]].map(([u, v]) => plane.toPlane({"
        " clientX: plane.canvas.getBoundingClientRect().left + plane.canvas.clientWidth * 0.5 +"
        " (u - 0.5) * plane.canvas.clientHeight, clientY: plane.canvas.getBoundingClientRect().top +"
        " plane.canvas.clientHeight * v }));"
        " const inside = [...plane.xs].map((x, n) => n).filter((n) => plane.xs[n] > a[0] && plane.xs[n] < b[0] &&"
        " plane.ys[n] < a[1] && plane.ys[n] > b[1]); return [selection, inside]; }"
    )
    assert sorted(chosen) == inside
    assert 0 < len(chosen) < 40
    assert page.text_content("#selection-text").startswith(f"{len(chosen)} of 40 points: ")
    page.click("#selection-direction")
    page.locator("#amount").fill("1")
    moved = np.array(page.evaluate("[...state.z].map((value, i) => value - latents.mean[i])"))
    mean = np.array(page.evaluate("[...latents.meanOf(selection)].map((value, i) => value - latents.mean[i])"))
    assert np.allclose(moved, mean, atol=1e-5)
    page.click("#selection-clear")
    assert page.locator("#selection").is_hidden()
    page.click("#select-view")
    assert page.text_content("#selection-text").startswith("4") or page.text_content("#selection-text").startswith("3")


def test_a_place_on_the_map_is_decoded_from_the_nearest_points(page: Any) -> None:
    page.locator("#axis-x").select_option(label="t-SNE map")
    assert page.locator("#axis-y").input_value() == page.locator("#axis-x").input_value()
    for number in (3, 17):
        found, point = page.evaluate(
            f"[[...latents.ofMap(plane.xs[{number}], plane.ys[{number}])], [...latents.point({number})]]"
        )
        assert np.allclose(found, point, atol=1e-5)
        place, own = page.evaluate(
            f"[latents.toMap(latents.point({number})), [plane.xs[{number}], plane.ys[{number}]]]"
        )
        assert np.allclose(place, own, atol=1e-3)
    before = decoded(page)
    box = page.locator("#plane").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4)
    assert decoded(page) != before
    page.wait_for_timeout(400)
    address, kept = page.url, image(page)
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    assert page.evaluate("isMap()")
    assert np.abs(np.array(image(page)) - np.array(kept)).max() <= 1
    page.locator("#axis-y").select_option("0")
    assert not page.evaluate("isMap()")


def test_many_points_are_drawn_in_the_colors_of_their_classes(page: Any) -> None:
    page.evaluate(
        "() => { plane.points = Array.from({ length: 3000 }, (_, n) => n % 2);"
        " const places = Float32Array.from(plane.points, (_, n) => Math.sin(1 + 12.9898 * n));"
        " plane.setPoints(places, places.map((_, n) => Math.cos(78.233 * n))); }"
    )

    def colors() -> dict[str, int]:
        """The number of pixels of each color."""
        found: dict[str, int] = page.evaluate(
            "() => { const { width, height } = plane.layer, counts = {};"
            " const { data } = plane.layer.getContext('2d').getImageData(0, 0, width, height);"
            " for (let i = 0; i < data.length; i += 4) if (data[i + 3]) {"
            "   const key = [0, 1, 2].map((c) => Math.round(data[i + c] / 16)).join(' ');"
            "   counts[key] = (counts[key] || 0) + 1; } return counts; }"
        )
        return found

    blue, orange = ("0 7 11", "13 6 0")  # #0072b2 and #d55e00, in sixteenths
    both = colors()
    assert set(both) == {blue, orange}
    assert min(both.values()) > 1500
    page.evaluate("() => { plane.hidden.add(1); plane.refresh(); }")
    assert set(colors()) == {blue}
    page.evaluate("() => { plane.hidden.clear(); plane.select([0]); }")
    opacities = page.evaluate(
        "() => [...new Set(plane.layer.getContext('2d').getImageData(0, 0, plane.layer.width, plane.layer.height)"
        ".data.filter((_, i) => i % 4 === 3))].sort((a, b) => a - b)"
    )
    assert opacities == [0, 31, 204]  # the selected point is not pale


def test_decoding_is_fast_enough_to_drag(page: Any) -> None:
    took = page.evaluate(
        "() => { const z = latents.random(); for (let i = 0; i < 5; i++) decode(z);"
        " const begin = performance.now(); for (let i = 0; i < 20; i++) decode(z);"
        " return (performance.now() - begin) / 20; }"
    )
    assert took < 50


def test_every_control_has_a_name(page: Any) -> None:
    nameless = page.evaluate(
        "() => [...document.querySelectorAll('button, input, select, canvas[tabindex]')].filter((each) =>"
        " !each.getAttribute('aria-label') && !each.textContent.trim() && !(each.labels && each.labels.length))"
        ".map((each) => each.outerHTML)"
    )
    assert nameless == []


def test_a_server_decodes_for_the_page(page: Any, tmp_path: Path) -> None:
    session = Session(convae.build(MODEL), data=tmp_path / "images.npz", label="1")
    wanted = decoded(page)
    with ExplorerServer(session) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        opened = page.context.browser.new_page()
        opened.goto(server.url)
        opened.wait_for_selector("body[data-ready]")
        assert np.allclose(decoded(opened), wanted, atol=1e-4)
        before = decoded(opened)
        opened.click("#random")
        assert decoded(opened) != before
        opened.set_input_files("#file", tmp_path / "own.png")
        opened.wait_for_selector("#own:not([hidden])")
        assert "PSNR" in opened.text_content("#own-text")
        server.close()
        thread.join()
