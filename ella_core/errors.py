"""The exceptions that report a mistake a user can mend."""


class EllaError(ValueError):
    """Something a user gave is wrong.

    The message says what was found, what was expected, and which node or folder mends it.
    """


class MissingLLMError(EllaError):
    """The LLM that was chosen is not in any of the folders."""
