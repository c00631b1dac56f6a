# -*- coding: utf-8 -*-
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that the modules have in common."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type


class ModuleDocFragment(object):
    """Documentation of what every module takes, and of the target of those that need one."""

    DOCUMENTATION = r"""
options:
  cluster:
    description:
      - Name of the cluster, as C(pitr status) prints it. Not needed where there is one.
    type: str
  config:
    description:
      - Configuration file to read in place of C(/etc/pitr/pitr.toml) and C(/etc/pitr/conf.d/*.toml).
    type: path
  executable:
    description:
      - The program.
    type: path
    default: pitr
requirements:
  - pitr on the host, run as root
notes:
  - The modules run the program and hand on its JSON. They decide nothing themselves.
"""

    TARGET = r"""
options:
  to_time:
    description:
      - Keep what was committed up to this time. The time needs its zone.
    type: str
  to_xid:
    description:
      - Keep this transaction and what was committed before it.
    type: str
  to_lsn:
    description:
      - Keep the WAL record at this position.
    type: str
  to_name:
    description:
      - Stop at this restore point.
    type: str
  to_latest:
    description:
      - Keep everything there is.
    type: bool
  to_consistent:
    description:
      - Stop as soon as the backup is consistent.
    type: bool
  before_time:
    description:
      - Keep what was committed before this time. The time needs its zone.
    type: str
  before_xid:
    description:
      - Keep what was committed before this transaction.
    type: str
  before_lsn:
    description:
      - Discard the WAL record at this position and all after it.
    type: str
  before_migration:
    description:
      - Keep what was committed before this migration, named as its tool's users name it.
    type: str
  timeline:
    description:
      - A number, V(latest) or V(current).
    type: str
  backup:
    description:
      - Use this base backup in place of the one that suits best.
    type: str
  backups:
    description:
      - Look for base backups in these directories in place of the configured ones.
    type: list
    elements: path
    default: []
  wal:
    description:
      - Look for WAL in these directories in place of the configured ones.
    type: list
    elements: path
    default: []
  accept:
    description:
      - Ids of refusals to override.
    type: list
    elements: str
    default: []
  checks:
    description:
      - More files with checks, on the host.
    type: list
    elements: path
    default: []
  config_from:
    description:
      - Whose PostgreSQL configuration the recovered cluster gets.
    type: str
    choices: [current, backup]
  reason:
    description:
      - Why, for the report.
    type: str
"""
