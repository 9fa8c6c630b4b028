"""A notebook client whose clean-up cannot hang.

The heartbeat of jupyter_client runs in its own thread and may open a new socket once a second.
nbclient destroys the context of all sockets while the heartbeat still runs, and waits until the
last socket is closed. If the heartbeat opens a socket at that moment, nbclient waits forever
(issue 771 of jupyter_client).
"""

from nbclient import NotebookClient


class PatientClient(NotebookClient):
    """Stops the heartbeat and waits for its end before the clean-up."""

    async def _async_cleanup_kernel(self) -> None:
        if self.kc is not None and self.kc.hb_channel.is_alive():
            self.kc.hb_channel.stop()
        await super()._async_cleanup_kernel()
