"""Under pytest the notebooks train small networks for a short time.

`MINIDALLE2_FAST=0 pytest` trains as long as a reader of the notebooks does.
"""

import os

os.environ.setdefault("MINIDALLE2_FAST", "1")
