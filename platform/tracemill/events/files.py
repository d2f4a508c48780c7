"""Events of files that were handed to the server, and of the batches that such files are."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label, Utc
from tracemill.messages import Value


class FileChanged(Happened):
    """What the events of one file share."""

    keep: ClassVar[bool] = True
    file_id: Id
    """The file."""

    @property
    def stream(self) -> str:
        return f"file:{self.file_id}"


class FileStored(FileChanged):
    """A file was handed over, or made, and its bytes are on the disk."""

    kind: Literal["file.stored"] = "file.stored"
    filename: Label
    """What its owner calls it."""
    purpose: Label
    """What it is for: fine-tune, batch, batch_output, user_data ..."""
    size_bytes: int = Field(ge=0)
    """How many bytes."""
    sha256: Label
    """Of the bytes."""
    key_id: Label | None = None
    """The key that it was handed over with."""
    expires_at: Utc | None = None
    """When it is to be deleted; None: when somebody says so."""


class FileDeleted(FileChanged):
    """The bytes of a file are gone."""

    kind: Literal["file.deleted"] = "file.deleted"
    reason: Literal["asked", "expired"]
    """Why."""


class WrongLine(Value):
    """A line of a file that no call can be made of."""

    line: int = Field(ge=1)
    """Which one, counted from 1."""
    code: Label
    """A word of low cardinality."""
    message: str
    """What is wrong, in a sentence."""
    param: Label | None = None
    """The field."""


class FileBatch(Happened):
    """What the events of one batch share."""

    keep: ClassVar[bool] = True
    batch_id: Id
    """The batch."""

    @property
    def stream(self) -> str:
        return f"file_batch:{self.batch_id}"


class FileBatchRequested(FileBatch):
    """Somebody wants every line of a file to be answered."""

    kind: Literal["file_batch.requested"] = "file_batch.requested"
    input_file_id: Id
    """The file."""
    endpoint: Label
    """The path that each line is a request to."""
    completion_window: Label
    """Until when it is wanted, in the words of whoever asked."""
    total: int = Field(ge=0)
    """Lines."""
    job_id: Id | None = None
    """The job that answers them; None where lines were wrong."""
    errors: tuple[WrongLine, ...] = ()
    """Those that were wrong, the first of them."""
    metadata: dict[Label, str] = Field(default_factory=dict)
    """Tags of whoever asked."""
    key_id: Label | None = None
    """The key that it was asked for with."""


class FileBatchWritten(FileBatch):
    """The answers of a batch are in files."""

    kind: Literal["file_batch.written"] = "file_batch.written"
    output_file_id: Id | None = None
    """The answers; None where there is none."""
    error_file_id: Id | None = None
    """Why others have none; None where all have one."""
    done: int = Field(ge=0)
    """Lines that were answered."""
    failed: int = Field(ge=0)
    """Lines that were not."""
    input_tokens: int = Field(ge=0)
    """Tokens read, all answers together."""
    output_tokens: int = Field(ge=0)
    """Tokens written, all answers together."""
