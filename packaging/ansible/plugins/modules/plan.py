#!/usr/bin/python
# -*- coding: utf-8 -*-
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
---
module: plan
short_description: What a recovery to a point in time would do and discard
description:
  - Makes a plan and proves that it can be carried out. Nothing on the host is changed.
  - A plan that is refused fails the module, unless O(refused=report).
version_added: 0.1.0
author:
  - The pitr authors (!UNKNOWN)
extends_documentation_fragment:
  - pitr.postgresql.pitr
  - pitr.postgresql.pitr.target
  - pitr.postgresql.pitr.runs
options:
  refused:
    description:
      - What becomes of a plan that is refused.
    type: str
    choices: [fail, report]
    default: fail
attributes:
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: What would be lost
  pitr.postgresql.plan:
    cluster: 15-main
    before_xid: "208245"
  register: planned

- name: Say it
  ansible.builtin.debug:
    msg: "{{ planned.plan.loss.transactions }} transactions would be discarded"
"""

RETURN = r"""
needed:
  description: Whether the recovery is still to be done; false where a run of the same request stands.
  returned: always
  type: bool
run:
  description: The run that has done it.
  returned: when not needed
  type: str
digest:
  description: Names the plan; give it to M(pitr.postgresql.restore).
  returned: when needed and not refused
  type: str
  sample: c5cf2fe77cd712dc
plan:
  description: The plan, as C(pitr plan -o json) has it.
  returned: when needed
  type: dict
refusals:
  description: Reasons against it.
  returned: when needed
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pitr.postgresql.plugins.module_utils.pitr import (
    COMMON,
    RUNS,
    TARGET,
    TARGETS,
    Pitr,
    source_words,
    standing,
    target_words,
)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            COMMON,
            refused=dict(type="str", choices=["fail", "report"], default="fail"),
            **dict(TARGET, **RUNS)
        ),
        mutually_exclusive=[TARGETS],
        required_one_of=[TARGETS],
        supports_check_mode=True,
    )
    pitr = Pitr(module)
    target = target_words(module.params)
    run = standing(pitr, module.params["state_directory"], target)
    if run:
        module.exit_json(changed=False, needed=False, run=run)
    status, document, err = pitr.run(["plan"] + target + source_words(module.params))
    refused = status == 3 and document is not None and "steps" in document
    if status != 0 and not (refused and module.params["refused"] == "report"):
        pitr.fail(status, document, err)
    module.exit_json(
        changed=False,
        needed=True,
        digest=document.get("digest"),
        plan=document,
        refusals=document.get("refusals", []),
    )


if __name__ == "__main__":
    main()
