#!/usr/bin/python
# -*- coding: utf-8 -*-
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
---
module: info
short_description: How far back the PostgreSQL clusters of a host can be taken
description:
  - Tells what C(pitr status) tells, and the base backups with what speaks against them.
version_added: 0.1.0
author:
  - The pitr authors (!UNKNOWN)
extends_documentation_fragment:
  - pitr.postgresql.pitr
options:
  backups:
    description:
      - List the base backups too. Needs O(cluster) where there is more than one.
    type: bool
    default: false
attributes:
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: See how far back it can be taken
  pitr.postgresql.info:
  register: pitr

- name: Fail where nothing can be recovered
  ansible.builtin.assert:
    that: pitr.clusters | map(attribute='windows') | min | length > 0
"""

RETURN = r"""
host:
  description: The host's own name.
  returned: always
  type: str
  sample: db-prod-03
clusters:
  description: Every cluster of the host, as C(pitr status -o json) has them.
  returned: always
  type: list
  elements: dict
  sample:
    - name: 15-main
      state: serving
      windows:
        - timeline: 1
          from: "2026-11-21T21:03:14.000000+00:00"
          to: null
backups:
  description: The base backups, as C(pitr backups -o json) has them.
  returned: when O(backups=true)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pitr.postgresql.plugins.module_utils.pitr import COMMON, Pitr


def main():
    module = AnsibleModule(argument_spec=dict(COMMON, backups=dict(type="bool", default=False)), supports_check_mode=True)
    pitr = Pitr(module)
    status = pitr.must(["status"])
    result = dict(changed=False, host=status["host"], clusters=status["clusters"])
    if module.params["backups"]:
        result["backups"] = pitr.must(["backups"])["backups"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
