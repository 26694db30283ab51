"""What can go wrong. Each message is one line: the value, what was expected, what to do."""


class Error(Exception):
    """Every error of this package."""


class InputError(Error, ValueError):
    """An argument is at fault; the message names it."""


class EpochError(Error):
    """An epoch is missing, closed, the wrong one, or could not be built."""


class DeviceError(Error):
    """A kernel, the CPU or its memory is at fault: missing, refused, or computing wrongly."""


class Rejected(Error):
    """A claim is no share; the message says why."""


for _error in (Error, InputError, EpochError, DeviceError, Rejected):
    _error.__module__ = "otedama"
