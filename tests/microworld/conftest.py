"""Puts the reader that the tests of this folder share where they can import it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
