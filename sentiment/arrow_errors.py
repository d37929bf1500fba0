"""What Arrow's errors of object stores mean, read from their messages.

Arrow raises a plain OSError, or a subclass that says little, for whatever S3 or Google Cloud
Storage answers. The texts say whether a request is worth another try, and decide nothing else.
They are not part of Arrow's interface. `tests/sentiment/test_arrow_errors.py` gets them from real
servers, and fails when an upgrade changes them.
"""

import re

_OUTAGE = re.compile(
    r"AWS Error (INTERNAL_FAILURE|NETWORK_CONNECTION|REQUEST_TIMEOUT|SERVICE_UNAVAILABLE|SLOW_DOWN"
    r"|THROTTLING|UNKNOWN \(HTTP status (408|429|5\d\d)\)) "
    r"|google::cloud::Status\((UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL)"
)
_MISREAD = "AWS Error INTERNAL_FAILURE "
_GOOGLE_DETAILS = " error_info="


def is_outage(error: BaseException | None) -> bool:
    """Whether the object store's server failed or was unreachable. The file may well exist."""
    return isinstance(error, OSError) and bool(_OUTAGE.search(str(error)))


def is_misread(error: BaseException | None) -> bool:
    """Whether Arrow took the server's answer "slow down" for the content of the file.

    Arrow does not retry then. It fails when the answer is longer than the requested range.
    """
    return isinstance(error, OSError) and _MISREAD in str(error)


def without_details(message: str) -> str:
    """A message of Google's client without the paragraph of details at its end."""
    return message.partition(_GOOGLE_DETAILS)[0]
