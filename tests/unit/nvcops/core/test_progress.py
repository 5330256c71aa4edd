from __future__ import annotations

import threading

from nvcops.adapters.runs.conduct import within
from nvcops.core.progress import Progress, heard_by, tell


def test_what_an_act_tells_in_its_own_thread_is_heard_by_whoever_watches_the_run() -> None:
    heard: list[Progress] = []
    with heard_by(heard.append):
        within(5.0, lambda: tell(1, 4, "fetching"), threading.Event())
    assert heard == [Progress(1, 4, "fetching")]
    tell(2, 4)
    assert len(heard) == 1
