"""Configs of older checkpoints → the present format."""

FORMAT_VERSION = 2


def upgraded(values: dict, version: int) -> dict:
    """The values of a config of any format up to FORMAT_VERSION. Raises ValueError."""
    return _from_version_1(dict(values)) if version < 2 else values


def _from_version_1(values: dict) -> dict:
    """`image_widths` had 3 numbers for a LayoutTower, 4 for a StyleTower. `guided_above` was a
    timestep in the decoder's config. It is now an option of sampling (sampling.json)."""
    if "image_widths" in values:
        widths = values.pop("image_widths")
        if widths:
            values["style_widths" if values.get("image_layers") else "layout_widths"] = widths
    if above := values.pop("guided_above", 0):
        share = above / values.get("timesteps", 1000)
        raise ValueError(
            "guided_above is no longer part of a decoder's config; delete that line and write "
            f'{{"decoder_guided_above": {share:g}}} into a file sampling.json in the folder above'
        )
    return values
