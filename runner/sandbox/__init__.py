"""A simulated Segmind API on loopback that is as unkind as the real network.

It serves submits, polls, results, balance, request history and media from one origin, and imports
nothing of the rest of the program: it is an independent witness of what was sent and what was
billed. A prompt asks for a fault with a marker such as `[[lost]]`; `MARKERS` lists them all.
"""

from runner.sandbox.book import Accepted
from runner.sandbox.latency import Bimodal, Fixed, Latency, Lognormal, Servers, parse_latency
from runner.sandbox.markers import MARKERS, body_key
from runner.sandbox.options import Options
from runner.sandbox.requestlog import Seen
from runner.sandbox.server import Sandbox

__all__ = [
    "MARKERS",
    "Accepted",
    "Bimodal",
    "Fixed",
    "Latency",
    "Lognormal",
    "Options",
    "Sandbox",
    "Seen",
    "Servers",
    "body_key",
    "parse_latency",
]
