"""The playground as a page, with Gradio: everything comes from this machine."""

from __future__ import annotations

import base64
import html
import io
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from quadrate.codecs import zoo
from quadrate.errors import QuadrateError
from quadrate.playground.pictures import Pixels, demo_picture
from quadrate.playground.play import Player, Reading, Sent

_DEMO_DIGIT = 7
_CSS = """
.quad-cards { display: grid; gap: 1rem; }
.quad-digits { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.quad-wide { grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.quad-cards figure { margin: 0; }
.quad-cards img { width: 100%; border-radius: 4px; display: block; }
.quad-digits img { image-rendering: pixelated; }
.quad-cards figcaption { font-size: .85rem; line-height: 1.4; margin-top: .4rem; }
.quad-cards figcaption b { font-size: .95rem; }
.quad-one { max-width: 16rem; } .quad-one.quad-wide { max-width: 32rem; }
.quad-sent { margin: 0 0 .8rem; }
"""


def serve(
    codecs: Sequence[str],
    host: str,
    port: int,
    browser: bool,
    ready: Callable[[str], None],
) -> None:
    """Show the page until the process is interrupted.

    Args:
        codecs: Files of codecs beside those in the package.
        host: The address to listen on.
        port: The port to listen on.
        browser: Whether to open the page in a browser.
        ready: Called with the page's address when it can be opened.

    Raises:
        QuadrateError: If Gradio is missing, a codec cannot be played with, or the port is taken.
    """
    players = Players(codecs)
    gradio = _gradio()
    with tempfile.TemporaryDirectory(prefix="quadrate-app-") as folder:
        page = build(players, Path(folder))
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                inbrowser=browser,
                prevent_thread_lock=True,
                share=False,
                quiet=True,
                ssr_mode=False,
                pwa=False,
                footer_links=[],
                allowed_paths=[folder],
                css=_CSS,
                theme=gradio.themes.Base(
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
                ),
            )
        except OSError as error:
            raise QuadrateError(
                f"cannot listen on {host}, port {port}: {error}; give another with --port"
            ) from None
        try:
            ready(address)
            threading.Event().wait()
        finally:
            page.close(verbose=False)


class Players:
    """Codecs at play by name, each loaded when it is first chosen.

    Args:
        codecs: Files of codecs beside those in the package; they are loaded at once.

    Raises:
        QuadrateError: If one of them cannot be played with.
    """

    def __init__(self, codecs: Sequence[str] = ()) -> None:
        self.names = [*codecs, *zoo()]
        self._load = cache(Player)
        self._lock = threading.Lock()
        for codec in codecs:
            self._load(codec)

    def __getitem__(self, name: str) -> Player:
        with self._lock:
            return self._load(name)


def build(players: Players, folder: Path) -> Any:
    """Return the page, a `gradio.Blocks`.

    Args:
        players: The codecs to choose from.
        folder: Where files stand that are downloaded.
    """
    gr = _gradio()
    first = players[players.names[0]]

    def send(name: str, quality: float, picture: Pixels | None, faithful: float) -> tuple[Any, ...]:
        player = players[name]
        if picture is None:
            picture = _demo(player)
        try:
            sent = player.send(picture, quality)
        except QuadrateError as error:
            raise gr.Error(str(error)) from None
        file = Path(tempfile.mkdtemp(dir=folder)) / "picture.quad"
        file.write_bytes(sent.file)
        return sent, cards(player, sent), turn(name, sent, faithful), gr.DownloadButton(value=file)

    def turn(name: str, sent: Sent | None, faithful: float) -> str:
        player = players[name]
        if sent is None or not player.has_knob:
            return ""
        return figures(player, [player.between(sent, faithful)], "quad-one")

    def choose(name: str) -> tuple[Any, ...]:
        player = players[name]
        return (
            gr.Slider(visible=player.is_photographic),
            gr.Slider(visible=player.has_knob),
            gr.HTML(visible=player.has_knob),
            _demo(player),
        )

    def drawn(canvas: dict[str, Any] | None) -> Pixels:
        if canvas is None or canvas.get("composite") is None:
            raise gr.Error("there is nothing in the picture: draw a digit, or choose a picture")
        return np.asarray(canvas["composite"])

    def another(name: str, number: int) -> tuple[int, Pixels]:
        return number + 1, demo_picture(players[name].shape, number + 1)

    with gr.Blocks(title="Quadrate", analytics_enabled=False) as page:
        gr.Markdown(
            "# Quadrate\nOne picture is sent once. Whoever reads the file chooses the decoder:"
            " faithful pixels, a realistic picture, or the right label."
        )
        state, number = gr.State(), gr.State(_DEMO_DIGIT)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                codec = gr.Dropdown(players.names, value=first.name, label="Codec")
                quality = gr.Slider(
                    0, 100, 50, step=1, label="Rate: quality", visible=first.is_photographic
                )
                with gr.Tabs():
                    with gr.Tab("Picture"):
                        picture = gr.Image(
                            _demo(first),
                            label="Drop, paste or choose a picture",
                            sources=["upload", "clipboard"],
                            height=240,
                        )
                        more = gr.Button("Another example", size="sm")
                    with gr.Tab("Draw"):
                        canvas = gr.Sketchpad(
                            label="Take the brush, and draw a digit",
                            canvas_size=(280, 280),
                            fixed_canvas=True,
                            layers=False,
                            sources=(),
                            transforms=(),
                            brush=gr.Brush(22, colors=["#000000"], color_mode="fixed"),
                        )
                        use = gr.Button("Send the drawing", variant="primary")
            with gr.Column(scale=2, min_width=300):
                results = gr.HTML()
                knob = gr.Slider(
                    0,
                    1,
                    0.5,
                    step=0.05,
                    label="The knob: 0 is realistic, 1 is faithful",
                    visible=first.has_knob,
                )
                blend = gr.HTML(visible=first.has_knob)
                file = gr.DownloadButton("Download the .quad file")
        gr.Markdown(
            "MSE: mean squared error a pixel, pixels in [0, 1]. Judges are classifiers that learnt"
            " from clean images, and that no codec was trained against."
        )
        inputs, outputs = [codec, quality, picture, knob], [state, results, blend, file]
        codec.input(choose, [codec], [quality, knob, blend, picture]).then(send, inputs, outputs)
        picture.input(send, inputs, outputs)
        quality.release(send, inputs, outputs)
        more.click(another, [codec, number], [number, picture]).then(send, inputs, outputs)
        use.click(drawn, [canvas], [picture]).success(send, inputs, outputs)
        knob.change(
            turn,
            [codec, state, knob],
            [blend],
            show_progress="hidden",
            trigger_mode="always_last",
        )
        page.load(send, inputs, outputs)
    return page


def cards(player: Player, sent: Sent) -> str:
    """Return the original and what each decoder shows, with their numbers, as HTML."""
    _, height, width = sent.original.shape
    bits = 8 * len(sent.file)
    said = (
        f"<p class='quad-sent'><b>{len(sent.file):,} bytes</b> for {width} × {height} pixels,"
        f" {bits / (width * height):.2f} bits a pixel, header and checksums included;"
        f" compressed, and read by all decoders, in {sent.seconds:.2f} s.</p>"
    )
    return said + figures(player, player.readings(sent))


def figures(player: Player, readings: Sequence[Reading], kind: str = "") -> str:
    """Return pictures with what there is to say of them, as HTML."""
    size = "quad-wide" if player.is_photographic else "quad-digits"
    shown = "".join(_figure(reading) for reading in readings)
    return f"<div class='quad-cards {size} {kind}'>{shown}</div>"


def _figure(reading: Reading) -> str:
    lines = [f"<b>{html.escape(reading.name)}</b>"]
    if reading.mse:
        lines.append(f"MSE {reading.mse:.4f}, PSNR {reading.psnr:.1f} dB")
    lines += [
        f"{html.escape(judge)} reads {label} ({share:.0%})"
        for judge, (label, share) in reading.labels.items()
    ]
    name, captions = html.escape(reading.name, quote=True), "<br>".join(lines)
    return (
        f"<figure><img src='{_address(reading.picture)}' alt='{name}'>"
        f"<figcaption>{captions}</figcaption></figure>"
    )


def _address(picture: Pixels) -> str:
    """A picture, uint8 (C, H, W), as the text of its address."""
    from PIL import Image

    values = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, 2)
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(target, "png")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def _demo(player: Player) -> Pixels:
    return demo_picture(player.shape, 0 if player.is_photographic else _DEMO_DIGIT)


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # also while it is imported
    try:
        import gradio
    except ImportError:
        raise QuadrateError(
            "the page needs Gradio, which is missing: pip install 'quadrate[app]' -c"
            " constraints.txt"
        ) from None
    return gradio
