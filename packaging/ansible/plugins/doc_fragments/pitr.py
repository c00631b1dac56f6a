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
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
requirements:
  - pitr on the host, run as root
notes:
  - The modules run the program and hand on its JSON. They decide nothing themselves.
"""

    RUNS = r"""
options:
  state_directory:
    description:
      - Where runs are kept, to find out whether this very recovery has been done.
    type: path
    default: /var/lib/pitr
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
  dir:
    description:
      - The directory of the migrations, for tools whose tables do not name them (O(before_migration)).
    type: path
  tool:
    description:
      - The migration tool, where several left a table (O(before_migration)).
    type: str
  history_table:
    description:
      - The table of the tool, where it is not called as usual (O(before_migration)).
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
  as_cluster:
    description:
      - The cluster that is lost, where another one was made in its place.
    type: str
  dump_before:
    description:
      - Dump databases of the old cluster into this directory before it is stopped.
    type: path
  tablespace:
    description: Where a tablespace goes of which neither the backup nor the cluster tells, C(OID=DIR).
    type: list
    elements: str
    default: []
  dump_database:
    description:
      - Dump these databases alone.
    type: list
    elements: str
    default: []
  reason:
    description:
      - Why, for the report.
    type: str
"""
