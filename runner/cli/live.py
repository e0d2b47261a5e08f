"""The live display of a run on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from runner.cli.frame import REFRESH_S, View, render
from runner.events import Event, Noted
from runner.report.tally import Heading, Tally
from runner.report.words import printable

WAITING_NOTES = 100


def can_show(console: Console) -> bool:
    """Whether the console can show a display that is redrawn in place."""
    # FORCE_COLOR makes Rich take a log for a terminal.
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


class LiveDisplay:
    """Watches a run and redraws a frame a few times a second, from a thread of its own."""

    def __init__(
        self,
        tally: Tally,
        heading: Heading,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tally = tally
        self._heading = heading
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._lock = threading.Lock()
        self._notes: deque[Noted] = deque(maxlen=WAITING_NOTES)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._drawn: tuple[int, list[int]] = (0, [])
        self._is_over = False
        self._live = Live(
            console=self._console,
            get_renderable=self._frame,
            auto_refresh=False,
            transient=True,
            # A piped stdout belongs to whoever reads it.
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Show the display until `stop`."""
        self._live.start(refresh=True)
        self._thread = threading.Thread(target=self._watch, name="live display", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take the display away; what was noted stays."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None
        self._guarded(self._show_notes)
        self._is_over = True
        self._guarded(self._live.stop)

    def see(self, event: Event) -> None:
        """Count the event; never waits for the terminal."""
        with self._lock:
            self._tally.see(event, self._clock())
            if isinstance(event, Noted):
                self._notes.append(event)

    def _watch(self) -> None:
        while not self._stopped.wait(REFRESH_S):
            self._guarded(self._draw)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, ValueError):
            # The terminal is gone; the jobs are paid for and go on.
            self._stopped.set()

    def _draw(self) -> None:
        self._make_room()
        self._show_notes()
        self._live.refresh()

    def _frame(self) -> Group:
        if self._is_over:
            # Rich draws a last frame whole; in a low window it could not be taken away again.
            return Group(Text())
        with self._lock:
            progress = self._tally.at(self._clock())
        plain = not self._console.encoding.lower().startswith("utf")
        frame = render(View(self._heading, progress, plain), self._console.width)
        lengths = [line.cell_len for line in frame.renderables if isinstance(line, Text)]
        self._drawn = (self._console.width, lengths)
        return frame

    def _make_room(self) -> None:
        """Wipe what a narrower window has wrapped: the frame then has more lines than Rich drew."""
        width, (drawn_width, lengths) = self._console.width, self._drawn
        if width >= drawn_width:
            return
        extra = sum(max(1, -(-length // width)) - 1 for length in lengths)
        wipe = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
        self._console.control(Control(*wipe * extra))

    def _show_notes(self) -> None:
        while self._notes:
            note = self._notes.popleft()
            stamp = time.strftime("%H:%M:%S  ", time.localtime(self._clock()))
            text = Text.assemble((stamp, "bright_black"))
            if note.warning:
                text.append("warning: ", style="bold yellow")
            self._console.print(text.append(printable(note.text)), highlight=False)
