"""The sample project of the first start, made through the services like anybody's."""

from axons.app.platform import Platform


def start_sample(platform: Platform) -> None:
    """Make the sample project and train its model in the background, once for an installation."""
