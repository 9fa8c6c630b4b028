"""Names of files that are no pictures: the metadata of a folder, and archives."""

METADATA = ("metadata.jsonl", "metadata.csv")  # of a folder of pictures; the first one is used
# Extensions of packed archives. No world reads them, so they are named in the summary.
PACKED = (".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".rar")
