"""Notebooks' kernels that always end.

jupyter_client's heartbeat runs in a thread of its own and once a second may open a new socket.
nbclient destroys the context of all sockets while it still runs, and then waits until the last of
them is closed: for ever, where one was opened just then (jupyter_client's issue 771).
"""

from nbclient import NotebookClient


class PatientClient(NotebookClient):
    """Waits for the heartbeat's end before it cleans up."""

    async def _async_cleanup_kernel(self) -> None:
        if self.kc is not None and self.kc.hb_channel.is_alive():
            self.kc.hb_channel.stop()
        await super()._async_cleanup_kernel()
