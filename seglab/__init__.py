"""A laboratory for semantic segmentation of photographs."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations asks the network for updates at import

__version__ = "0.1.0"
