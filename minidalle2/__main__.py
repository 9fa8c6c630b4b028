"""`python -m minidalle2` is the command `minidalle2`."""

from minidalle2.commands.cli import main

raise SystemExit(main())
