"""The playground: a page on which one picture is sent, and read in all ways a codec knows.

`play` is what it does; `page` shows it, with Gradio (the extra `app`).
"""

from quadrate.playground.pictures import demo_picture
from quadrate.playground.play import Player, Reading, Sent

__all__ = ["Player", "Reading", "Sent", "demo_picture"]
