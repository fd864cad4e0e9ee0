"""What can be wrong with a directory that is to be imported: one class for each kind of damage.

All are the source's fault. `slug` and `remedy` are for the operator; nothing was changed when one is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from runner.errors import RunnerError

if TYPE_CHECKING:
    from pathlib import Path


class ImportSourceError(RunnerError):
    """A directory cannot be taken over; nothing was changed. `path` is the culprit."""

    slug: ClassVar[str] = "import_source"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class NotAnAuthStateError(ImportSourceError):
    """Not a directory, or one without any file that Baileys writes."""

    slug = "not_an_auth_state"
    remedy = "name the directory that was given to useMultiFileAuthState, or its parent with --all"


class CredentialsMissingError(ImportSourceError):
    """There are Signal records and no credentials."""

    slug = "credentials_missing"
    remedy = "restore creds.json from a backup; without it the device must be linked again"


class FileEmptyError(ImportSourceError):
    """The file has no content, as after a crash in the middle of a write."""

    slug = "file_empty"
    remedy = "restore the file from a backup"


class FileNotJsonError(ImportSourceError):
    """The file is cut off or is not JSON."""

    slug = "file_not_json"
    remedy = "restore the file from a backup"


class FileUnreadableError(ImportSourceError):
    """The operating system could not read it, or it is not a regular file, or it is too large."""

    slug = "file_unreadable"
    remedy = "check the disk and the path"


class FileForbiddenError(FileUnreadableError):
    """No permission to read."""

    slug = "file_forbidden"
    remedy = "run the import as the user that owns the files"


class SourceInUseError(ImportSourceError):
    """The credentials changed while they were read."""

    slug = "source_in_use"
    remedy = "stop the program that uses this directory, then import again"


class FieldError(ImportSourceError):
    """One value of the credentials is damaged. `field` is its path in the file."""

    slug = "credentials_damaged"
    remedy = "restore creds.json from a backup; the file was not changed"

    def __init__(self, path: Path, field_path: str, what: str) -> None:
        super().__init__(path, f"{field_path}: {what}")
        self.field = field_path


class FieldMissingError(FieldError):
    """It is not there."""

    slug = "field_missing"


class FieldTypeError(FieldError):
    """It is of another type."""

    slug = "field_type"


class FieldBase64Error(FieldError):
    """It is not base64."""

    slug = "field_base64"


class FieldLengthError(FieldError):
    """It has the wrong number of bytes."""

    slug = "field_length"


class FieldRangeError(FieldError):
    """The number or address is outside what the protocol allows."""

    slug = "field_range"


class KeyMismatchError(FieldError):
    """The public key does not belong to the secret."""

    slug = "key_mismatch"


class NotRegisteredError(ImportSourceError):
    """The device was never linked to an account."""

    slug = "not_registered"
    remedy = "link the device first, or leave this directory out"


class SameDeviceTwiceError(ImportSourceError):
    """Two directories hold the same device; which one is current cannot be known from here."""

    slug = "same_device_twice"
    remedy = "keep the directory that was used last and move the other one away"
