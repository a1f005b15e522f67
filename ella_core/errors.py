"""The one exception that reports a mistake a user can mend."""


class EllaError(ValueError):
    """Something a user gave is wrong.

    The message says what was found, what was expected, and which node or folder mends it.
    """
