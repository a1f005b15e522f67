"""Training a connector: LLM and U-Net frozen, noise prediction through the U-Net (section 3.1).

Needs the packages of the extra `[train]`; nothing outside this package imports it.
"""
