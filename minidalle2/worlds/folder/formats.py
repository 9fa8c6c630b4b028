"""Which file names are names of pictures."""

from PIL import Image

PICTURES = frozenset(Image.registered_extensions())  # such as ".png", in lower case
