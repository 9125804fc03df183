"""What can go wrong, worded for the person at the microscope: what came, what was expected, what to do."""


class TomoscreenError(Exception):
    """Base of every error that a user can cause and mend.

    The command line prints its message without a traceback and leaves with `exit_code`.
    """

    exit_code = 3


class SettingsError(TomoscreenError, ValueError):
    """A settings file or a command's arguments cannot be used."""

    exit_code = 2


class PlateMapError(TomoscreenError, ValueError):
    """A plate map cannot be read; the message names file, row and remedy."""


class AcquisitionError(TomoscreenError, ValueError):
    """A file of the microscope is damaged, unfinished or of an unknown kind."""


class MissingInputError(TomoscreenError, FileNotFoundError):
    """A file or folder that a step needs is not there."""

    def __str__(self) -> str:
        # FileNotFoundError renders (errno, text) pairs; ours carries one sentence.
        return str(self.args[0]) if self.args else ""


class StoreError(TomoscreenError, ValueError):
    """A plate store or a named result is damaged, unfinished or not what was expected."""

    exit_code = 5


class ClassifierError(TomoscreenError, ValueError):
    """A classifier folder is incomplete, altered or does not fit this version."""

    exit_code = 7


class WorkerLostError(TomoscreenError, RuntimeError):
    """A unit of work ended every process that tried it."""

    exit_code = 4


class UnfinishedError(TomoscreenError, RuntimeError):
    """A run ended, but some units failed; the others are kept and are not done again."""

    exit_code = 4


class LockedError(TomoscreenError, RuntimeError):
    """Another process writes the same output."""

    exit_code = 6


class DeviceError(SettingsError):
    """The device that was asked for is not there, or stopped working."""

    exit_code = 3


class DeviceMemoryError(DeviceError):
    """A device's memory does not hold a single patch beside the network."""

    exit_code = 104  # by which pipelines know that another machine may do


class StorageError(TomoscreenError, OSError):
    """A disk or a network drive refuses or fails; what was finished is kept."""

    exit_code = 75  # a failure for now: mend it, then run again

    def __str__(self) -> str:
        # OSError renders (errno, text) pairs; ours carries one sentence.
        return str(self.args[0]) if self.args else ""


class NoSpaceError(StorageError):
    """The disk is too small for what is to be written."""
