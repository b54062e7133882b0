"""What the doctor found, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a finding stands."""

    OK = "ok"
    NOTE = "note"
    """Not as it might be, but nothing fails for it."""
    MISSING = "missing"
    """Something that the profile needs is not here or damaged."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: "data", "weights", "machine" or "verdict".
        subject: what was looked at.
        status: how it stands.
        detail: what was found, in one line.
        fix: what to do about it, in one line; empty where nothing is to be done.
    """

    section: str
    subject: str
    status: Status
    detail: str
    fix: str = ""


_MARKS = {Status.OK: "ok", Status.NOTE: "note", Status.MISSING: "MISSING"}


def format_report(findings: Sequence[Finding]) -> str:
    """Return the findings as text: a block per section, a line per finding, an indented line per fix.

    A fix that holds for several findings in a row is told once, after the last of them.
    """
    width = max((len(finding.subject) for finding in findings), default=0)
    lines: list[str] = []
    for place, finding in enumerate(findings):
        if place == 0 or finding.section != findings[place - 1].section:
            lines += [*([""] if lines else []), finding.section.capitalize()]
        lines.append(f"  {_MARKS[finding.status]:<8}{finding.subject:<{width}}  {finding.detail}".rstrip())
        following = findings[place + 1].fix if place + 1 < len(findings) else ""
        if finding.fix and finding.fix != following:
            lines.append(f"{'':<10}-> {finding.fix}")
    return "\n".join(lines)
