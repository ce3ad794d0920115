"""Every kind of fault: importing this module fills the table."""

from __future__ import annotations

from chaos import faults_daemon, faults_link, faults_server
from chaos.kinds import KINDS, Kind

__all__ = ["KINDS", "Kind", "faults_daemon", "faults_link", "faults_server"]
