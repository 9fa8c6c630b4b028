"""Extensions of packed archives. No world reads them, so they are named in the summary."""

PACKED = (".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".rar")
