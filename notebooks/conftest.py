"""Under pytest the notebooks train their small size; `MINIDALLE2_FAST=0 pytest` the reader's."""

import os

os.environ.setdefault("MINIDALLE2_FAST", "1")
