#!/usr/bin/python
# -*- coding: utf-8 -*-
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
---
module: restore
short_description: Take a PostgreSQL cluster back to a point in time, or return from that
description:
  - Runs C(pitr restore), C(pitr resume) or C(pitr undo). The program asks nobody; what it would ask is answered by running it.
  - A recovery that this very request has done already, and whose cluster stands, is not done again.
  - The old cluster is kept beside its data directory until somebody runs C(pitr purge) by hand.
version_added: 0.1.0
author:
  - The pitr authors (!UNKNOWN)
extends_documentation_fragment:
  - pitr.postgresql.pitr
  - pitr.postgresql.pitr.target
  - pitr.postgresql.pitr.runs
options:
  state:
    description:
      - V(restored) recovers the cluster, V(resumed) continues a run that was interrupted, V(undone) puts the old cluster back.
    type: str
    choices: [restored, resumed, undone]
    default: restored
  run:
    description:
      - The run to continue or to revert.
    type: str
  digest:
    description:
      - Run only the plan of this digest, as M(pitr.postgresql.plan) returned it.
    type: str
  max_loss:
    description:
      - Refuse to discard more than this duration or number of transactions.
    type: str
attributes:
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
seealso:
  - module: pitr.postgresql.plan
"""

EXAMPLES = r"""
- name: Look first
  pitr.postgresql.plan:
    before_xid: "208245"
  register: planned

- name: Do exactly that
  pitr.postgresql.restore:
    before_xid: "208245"
    digest: "{{ planned.digest }}"
    max_loss: 1h
    reason: migration 123 flattened the environment names
  register: restored

- name: Put the old cluster back
  pitr.postgresql.restore:
    state: undone
    run: "{{ restored.run }}"
"""

RETURN = r"""
run:
  description: Id of the run; in check mode none.
  returned: when there is one
  type: str
  sample: 20261122T011820Z-69f2
outcome:
  description: How it ended, as in C(pitr restore -o json).
  returned: unless in check mode
  type: str
  sample: switched
report:
  description: The whole document.
  returned: when the program acted
  type: dict
plan:
  description: What would be done.
  returned: in check mode and diff mode, with O(state=restored)
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pitr.postgresql.plugins.module_utils.pitr import (
    COMMON,
    RUNS,
    TARGET,
    TARGETS,
    Pitr,
    read_journal,
    source_words,
    standing,
    target_words,
)

VERBS = dict(restored="restore", resumed="resume", undone="undo")


def difference(plan):
    """The plan as two texts, for people."""
    target, loss = plan.get("target") or {}, plan.get("loss") or {}
    kept, discarded = target.get("keeps") or {}, target.get("discards") or {}
    before = ["timeline: as it is"]
    before += ["%s.%s: as it is" % (r["database"], r["name"]) for r in loss.get("relations") or []]
    after = ["timeline: a new one, from timeline %s at %s" % (target.get("timeline"), target.get("lsn"))]
    for relation in loss.get("relations") or []:
        counts = ", ".join("%s %s" % (relation[k], k) for k in ("inserted", "updated", "deleted") if relation.get(k))
        after.append("%s.%s: without %s rows" % (relation["database"], relation["name"], counts))
    after.append("last transaction kept: %s %s" % (kept.get("xid"), kept.get("time")))
    after.append("first transaction discarded: %s %s" % (discarded.get("xid"), discarded.get("time")))
    return dict(before="\n".join(before) + "\n", after="\n".join(after) + "\n", before_header="cluster", after_header="recovered")


def restored(module, pitr):
    """Recovers, unless it has been done."""
    params = module.params
    target = target_words(params)
    run = standing(pitr, params["state_directory"], target)
    if run:
        module.exit_json(changed=False, run=run, outcome="nothing")
    words = target + source_words(params)
    result = {}
    if module.check_mode or module._diff:
        plan = pitr.must(["plan"] + words)
        if params["digest"] and plan["digest"] != params["digest"]:
            module.fail_json(msg="the plan is now %s, not %s" % (plan["digest"], params["digest"]), plan=plan)
        result = dict(plan=plan, diff=difference(plan))
    if module.check_mode:
        module.exit_json(changed=True, **result)
    for name, flag in (("digest", "--plan"), ("max_loss", "--max-loss")):
        if params[name]:
            words.append("%s=%s" % (flag, params[name]))
    act(module, pitr, ["restore"] + words, result)


def returned(module, pitr):
    """Continues or reverts a run."""
    params = module.params
    words = [VERBS[params["state"]], params["run"]] + ["--accept=%s" % value for value in params["accept"]]
    if module.check_mode:
        events = ended(module, params)
        done = dict(resumed="switched", undone="undone")[params["state"]]
        module.exit_json(changed=not events or events[-1] != done, run=params["run"])
    if params["reason"]:
        words.append("--reason=%s" % params["reason"])
    act(module, pitr, words, {})


def ended(module, params):
    """How the sections of the run ended so far."""
    path = os.path.join(params["state_directory"], "runs", params["run"], "journal")
    if not os.path.exists(path):
        module.fail_json(msg="there is no run %s in %s" % (params["run"], params["state_directory"]))
    return [event["outcome"] for event in read_journal(path) if event.get("event") == "end"]


def act(module, pitr, words, result):
    """Runs the verb that changes the host."""
    status, document, err = pitr.run(words + ["--yes"])
    if status != 0 or document is None:
        pitr.fail(status, document, err)
    module.exit_json(
        changed=document["changed"],
        run=document["run"],
        outcome=document["outcome"],
        report=document,
        **result
    )


def main():
    module = AnsibleModule(
        argument_spec=dict(
            COMMON,
            state=dict(type="str", choices=sorted(VERBS), default="restored"),
            run=dict(type="str"),
            digest=dict(type="str"),
            max_loss=dict(type="str"),
            **dict(TARGET, **RUNS)
        ),
        mutually_exclusive=[TARGETS],
        required_if=[
            ("state", "restored", TARGETS, True),
            # Without it a second undo would go back one run further.
            ("state", "resumed", ("run",)),
            ("state", "undone", ("run",)),
        ],
        supports_check_mode=True,
    )
    pitr = Pitr(module)
    if module.params["state"] == "restored":
        restored(module, pitr)
    else:
        returned(module, pitr)


if __name__ == "__main__":
    main()
