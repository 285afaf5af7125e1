"""An asset's entry in the registry of a test."""

from __future__ import annotations

import hashlib
from typing import Any

FIELDS = {"needed_by": "a test", "licence": "CC0-1.0", "non_commercial": False, "home": "nowhere"}


def wheel_source(member: str, package: str = "parcel") -> dict[str, str]:
    return {"kind": "wheel", "package": package, "version": "1.0", "member": member}


def entry(content: bytes, *sources: dict[str, str], **other: Any) -> dict[str, Any]:
    """What the registry says of a file with that content."""
    digest = hashlib.sha256(content).hexdigest()
    return {**FIELDS, "bytes": len(content), "sha256": digest, "sources": list(sources)} | other
