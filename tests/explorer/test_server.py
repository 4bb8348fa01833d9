"""The server of the explorer: it decodes as the model does, for this computer only."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import convae
from convae.core.errors import OutputError
from convae.explorer import ExplorerServer
from convae.latents import Session

MODEL: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 3}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
    "likelihood": "bernoulli",
    "condition": {"classes": 2, "channels": 1},
}
POINT = {"z": [0.5, -1, 2.25], "label": [1]}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("images") / "all.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8), labels=np.arange(12) % 2)
    return Session(convae.build(MODEL), data=path)


@pytest.fixture(scope="module")
def server(session: Session) -> Iterator[ExplorerServer]:
    with ExplorerServer(session) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.close()
        thread.join()


def post(server: ExplorerServer, name: str, body: Any, **headers: str) -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + name, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_page_has_no_weights_and_may_ask_this_server_only(server: ExplorerServer) -> None:
    with urllib.request.urlopen(server.url, timeout=20) as answer:
        page = answer.read().decode()
    assert "connect-src 'self'" in page
    contents = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert contents["decode"] == {"remote": "decode", "outputs": {"image": 64}}
    assert contents["encode"]["outputs"] == {"mean": 3, "logvar": 3}
    assert contents["count"] == 12


def test_it_decodes_and_encodes_as_the_model_does(server: ExplorerServer, session: Session) -> None:
    status, body = post(server, "decode", POINT)
    assert status == 200
    wanted = session.model.decode(torch.tensor([POINT["z"]]), torch.tensor(POINT["label"])).mean
    assert np.allclose(np.frombuffer(body, "<f4"), wanted.detach().flatten().numpy(), atol=1e-6)
    image = [number / 63 for number in range(64)]
    status, body = post(server, "encode", {"image": image, "label": [0]})
    found = np.frombuffer(body, "<f4").reshape(2, 3)
    posterior = session.model.encode(torch.tensor(image).view(1, 1, 8, 8), torch.tensor([0]))
    assert np.allclose(found[0], posterior.mean.detach().numpy(), atol=1e-5)
    assert np.allclose(found[1], posterior.logvar.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400),
        (b"[" * 900, 400),
        ({"z": [0, 0, 0]}, 400),
        ({"z": [0, 0], "label": [0]}, 400),
        ({"z": [0, 0, "1"], "label": [0]}, 400),
        ({"z": [0, 0, float("nan")], "label": [0]}, 400),
        ({"z": [0, 0, 1], "label": [0.5]}, 400),
        ({"z": [0, 0, 1], "label": [2]}, 400),
        ({"z": [0, 0, 1], "label": [True]}, 400),
        (b" " * 100_000, 413),
    ],
)
def test_wrong_requests_are_refused(body: Any, code: int, server: ExplorerServer) -> None:
    assert post(server, "decode", body)[0] == code
    assert post(server, "decode", POINT)[0] == 200


def test_other_sites_and_paths_get_nothing(server: ExplorerServer) -> None:
    assert post(server, "decode", POINT, Host="example.org")[0] == 404
    assert post(server, "decode", POINT, Origin="http://example.org")[0] == 404
    assert post(server, "../etc", POINT)[0] == 404
    assert post(server, "decode", POINT, Origin=server.url.rstrip("/"))[0] == 200


def test_a_port_that_is_taken_is_named(server: ExplorerServer, session: Session) -> None:
    port = int(server.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(OutputError, match=str(port)):
        ExplorerServer(session, port=port)


def test_models_of_any_size_are_served(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convae.explorer.page.LARGEST", 100)
    with ExplorerServer(session) as made:
        assert made.url.startswith("http://127.0.0.1:")
