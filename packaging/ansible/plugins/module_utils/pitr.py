# -*- coding: utf-8 -*-
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs pitr and reads what it says. What is decided is decided by the program."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import glob
import json
import os

#: Values of the target, one of which is given.
TARGETS = (
    "to_time",
    "to_xid",
    "to_lsn",
    "to_name",
    "to_latest",
    "to_consistent",
    "before_time",
    "before_xid",
    "before_lsn",
    "before_migration",
)

COMMON = dict(
    cluster=dict(type="str"),
    config=dict(type="path"),
    executable=dict(type="path", default="pitr"),
)

RUNS = dict(
    state_directory=dict(type="path", default="/var/lib/pitr"),
)

TARGET = dict(
    to_time=dict(type="str"),
    to_xid=dict(type="str"),
    to_lsn=dict(type="str"),
    to_name=dict(type="str"),
    to_latest=dict(type="bool"),
    to_consistent=dict(type="bool"),
    before_time=dict(type="str"),
    before_xid=dict(type="str"),
    before_lsn=dict(type="str"),
    before_migration=dict(type="str"),
    dir=dict(type="path"),
    tool=dict(type="str"),
    history_table=dict(type="str"),
    timeline=dict(type="str"),
    backup=dict(type="str"),
    backups=dict(type="list", elements="path", default=[]),
    wal=dict(type="list", elements="path", default=[]),
    accept=dict(type="list", elements="str", default=[]),
    checks=dict(type="list", elements="path", default=[]),
    config_from=dict(type="str", choices=["current", "backup"]),
    as_cluster=dict(type="str"),
    dump_before=dict(type="path"),
    dump_database=dict(type="list", elements="str", default=[]),
    tablespace=dict(type="list", elements="str", default=[]),
    reason=dict(type="str"),
)


class Pitr(object):
    """The program on this host."""

    def __init__(self, module):
        self.module = module
        self.path = module.get_bin_path(module.params["executable"], required=True)

    def run(self, words):
        """Runs a verb; returns its exit status, its document and the rest of what it said."""
        command = [self.path] + words + ["--output=json", "--no-progress"]
        for name in ("cluster", "config"):
            if self.module.params[name]:
                command.append("--%s=%s" % (name, self.module.params[name]))
        status, out, err = self.module.run_command(command)
        try:
            document = json.loads(out)
        except ValueError:
            document = None
        return status, document, err

    def must(self, words):
        """Runs a verb that has to succeed; returns its document."""
        status, document, err = self.run(words)
        if status != 0 or document is None:
            self.fail(status, document, err)
        return document

    def fail(self, status, document, err):
        """Ends the module with what the program said of its failure."""
        document = document or {}
        error = document.get("error") or {}
        refusals = document.get("refusals") or []
        message = error.get("what") or "; ".join(refusal["what"] for refusal in refusals) or err.strip() or "pitr failed"
        self.module.fail_json(
            msg=message,
            rc=status,
            cause=error.get("cause"),
            hint=error.get("hint"),
            refusals=refusals,
            outcome=document.get("outcome"),
            run=document.get("run"),
            changed=bool(document.get("changed")),
            stderr_lines=err.splitlines(),
        )


def target_words(params):
    """The target as the command line has it."""
    words = []
    for name in TARGETS:
        value = params[name]
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value:
            words.append("%s=%s" % (flag, value))
    return words


def source_words(params):
    """What besides the target decides a plan."""
    words = []
    for name in ("dir", "tool", "history_table", "timeline", "backup", "config_from", "as_cluster", "dump_before", "reason"):
        if params[name]:
            flag = "as" if name == "as_cluster" else name.replace("_", "-")
            words.append("--%s=%s" % (flag, params[name]))
    for name in ("backups", "wal", "tablespace", "accept", "checks", "dump_database"):
        words.extend("--%s=%s" % (name.replace("_", "-"), value) for value in params[name])
    return words


def standing(pitr, state_directory, target):
    """The run that this very request made, if its cluster is the one that stands: then there is nothing to do.

    A run's journal begins with the recovery and who asked for it (docs/journal.md).
    """
    clusters = pitr.must(["status"])["clusters"]
    places = [cluster.get("data_directory") for cluster in clusters]
    for path in sorted(glob.glob(os.path.join(state_directory, "runs", "*", "journal")), reverse=True):
        events = read_journal(path)
        if not events or events[0].get("event") != "run":
            continue
        if events[0]["recovery"]["cluster"]["data_directory"] not in places:
            continue
        outcomes = [event["outcome"] for event in events if event.get("event") == "end"]
        if "undone" in outcomes or "switched" not in outcomes:
            # It never stood, or does no longer: what stands is older.
            continue
        if all(word in events[0]["by"]["command"] for word in target):
            return os.path.basename(os.path.dirname(path))
        return None
    return None


def read_journal(path):
    """Its entries; a torn last line is what a power cut leaves."""
    events = []
    with open(path, "rb") as journal:
        for line in journal.read().rstrip(b"\0").split(b"\n"):
            parts = line.split(b" ", 2)
            if len(parts) < 3:
                continue
            try:
                events.append(json.loads(parts[2].decode("utf-8")))
            except ValueError:
                break
    return events
