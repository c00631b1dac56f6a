# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pitr_global_optspecs
    string join \n config= cluster= o/output= no-progress q/quiet v/verbose h/help V/version
end

function __fish_pitr_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pitr_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pitr_using_subcommand
    set -l cmd (__fish_pitr_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pitr -n "__fish_pitr_needs_command" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_needs_command" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_needs_command" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_needs_command" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_needs_command" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_needs_command" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_needs_command" -s V -l version -d 'Print version'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "status" -d 'Show each cluster, how far back it can be taken, and what to type next'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "backups" -d 'List the base backups and say which of them can be used'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "log" -d 'List transactions of the WAL, oldest first, and what each changed'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "migrations" -d 'List the migrations of every tool that left a history table, and the commit that begins each'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "verify" -d 'Prove that what recoveries need is whole: backups and WAL, or one of them'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "check" -d 'Ask whether this host is ready for a recovery (exit 6 where it is not), or run checks against a server'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "runs" -d 'List every run, newest first: what it did and what it keeps'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "report" -d 'Tell what a run did, from its journal alone'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "mark" -d 'Make a restore point, and prove that one can come back to it; for use before a migration'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "plan" -d 'Show what a recovery would do, and prove that it can be done; change nothing'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "restore" -d 'Take the cluster back to the target'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "resume" -d 'Continue a run that was interrupted'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "undo" -d 'Put the old cluster back, before or after the switch'
complete -c pitr -n "__fish_pitr_needs_command" -f -a "purge" -d 'Delete what a run kept; after this it cannot be undone'
complete -c pitr -n "__fish_pitr_using_subcommand status" -l backups -d 'Look for base backups here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand status" -l wal -d 'Look for WAL here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand status" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand status" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand status" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand status" -l watch -d 'Show it again every few seconds until interrupted'
complete -c pitr -n "__fish_pitr_using_subcommand status" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand status" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand status" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand backups" -l backups -d 'Look for base backups here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand backups" -l wal -d 'Look for WAL here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand backups" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand backups" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand backups" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand backups" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand backups" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand backups" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand backups" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand log" -l since -d 'From this time on: \'2026-11-21 21:05\', 21:05 (today), or 2h (ago)' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -l until -d 'Up to this time' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -l around -d 'From five minutes before this time to five minutes after it' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -s t -l relation -d 'That changed this relation: name, schema.name, OID or file number' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -l database -d 'In this database: name or OID' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -l xid -d 'This transaction, also when it was rolled back' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -l limit -d 'The newest so many, at most 500000' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -l timeline -d 'Follow this timeline: a number, latest (the highest there is), or current (the cluster\'s own)' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -l wal -d 'Read this directory instead of the cluster\'s archive and pg_wal; needs no cluster; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand log" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand log" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand log" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand log" -l ddl -d 'That changed definitions'
complete -c pitr -n "__fish_pitr_using_subcommand log" -l deletes -d 'That deleted rows or emptied relations'
complete -c pitr -n "__fish_pitr_using_subcommand log" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand log" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand log" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand log" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l dir -d 'The tool\'s own directory: for names, what is pending, and whether a migration has a way back of its own' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l tool -d 'Only migrations of this tool, as pitr migrations prints it' -r
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l history-table -d 'Only those in this history table: name, or schema.name' -r
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l database -d 'In this database only' -r
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l timeline -d 'Follow this timeline: a number, latest (the highest there is), or current (the cluster\'s own)' -r
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand migrations" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -f -a "backups" -d 'Read backups whole; say of each what was proved and what could not be (exit 6 when one is damaged)'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and not __fish_seen_subcommand_from backups wal" -f -a "wal" -d 'Read every record of the WAL; say what can be reached on each timeline, and every hole (exit 6)'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -l backups -d 'Look for backups here instead of where the configuration says; needs no cluster; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from backups" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -l wal -d 'Read this directory instead of the cluster\'s archive and pg_wal; needs no cluster; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand verify; and __fish_seen_subcommand_from wal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand check" -l max-backup-age -d 'Fail where the newest usable backup is older than this (2d, 36h)' -r
complete -c pitr -n "__fish_pitr_using_subcommand check" -l sql -d 'Run the checks of this SQL file against a server instead; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand check" -l url -d 'Reach the server by this URL instead of the cluster\'s socket, DIRECT_DATABASE_URL or DATABASE_URL' -r
complete -c pitr -n "__fish_pitr_using_subcommand check" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand check" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand check" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand check" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand check" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand check" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand runs" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand runs" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand runs" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand runs" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand runs" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand runs" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand runs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand report" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand report" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand report" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand report" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand report" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand report" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand mark" -l timeout -d 'Wait at most so long for the archive' -r
complete -c pitr -n "__fish_pitr_using_subcommand mark" -l url -d 'Reach the server by this URL instead of the cluster\'s socket, as a role that may make restore points' -r
complete -c pitr -n "__fish_pitr_using_subcommand mark" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand mark" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand mark" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand mark" -l wait -d 'Wait until its WAL is archived, and prove that a recovery can come back to it (else exit 6)'
complete -c pitr -n "__fish_pitr_using_subcommand mark" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand mark" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand mark" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand mark" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l to-time -d 'Keep what was committed up to this time, with its zone: \'2026-11-21 21:05:19+00\'' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l to-xid -d 'Keep this transaction and what was committed before it' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l to-lsn -d 'Keep the WAL record at this position' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l to-name -d 'Stop at this restore point (pg_create_restore_point)' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l before-time -d 'Keep what was committed before this time, with its zone' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l before-xid -d 'Keep what was committed before this transaction' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l before-migration -d 'Keep what was committed before this migration, named as its tool\'s users name it: 123, 0004_audit, shop.0007' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l before-lsn -d 'Discard the WAL record at this position and all after it' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l timeline -d 'Follow this timeline: a number, latest (the highest in the archive), or current (the cluster\'s own)' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l backup -d 'Use this base backup instead of the one that suits best' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l backups -d 'Look for base backups here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l wal -d 'Look for WAL here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l as -d 'Recover into this cluster of a fresh host, whatever empty cluster it has: 16/main' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l tablespace -d 'Where a tablespace goes of which neither the backup nor the cluster tells; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l accept -d 'Override the refusal with this id; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l config-from -d 'Take PostgreSQL\'s configuration from today\'s cluster or from the backup' -r -f -a "current\t'What the cluster uses now'
backup\t'What the backup contains'"
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l checks -d 'Run the checks of this SQL file too; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l dump-before -d 'Dump the databases as they are now into this directory, before the cluster is stopped (pg_dump -Fc, and the roles)' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l dump-database -d 'Dump only this database; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l reason -d 'Say why, for the report' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l dir -d 'The tool\'s own directory: for names, what is pending, and whether a migration has a way back of its own' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l tool -d 'Only migrations of this tool, as pitr migrations prints it' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l history-table -d 'Only those in this history table: name, or schema.name' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand plan" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l to-latest -d 'Keep everything there is'
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l to-consistent -l to-immediate -d 'Stop as soon as the backup is consistent'
complete -c pitr -n "__fish_pitr_using_subcommand plan" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand plan" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand plan" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l to-time -d 'Keep what was committed up to this time, with its zone: \'2026-11-21 21:05:19+00\'' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l to-xid -d 'Keep this transaction and what was committed before it' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l to-lsn -d 'Keep the WAL record at this position' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l to-name -d 'Stop at this restore point (pg_create_restore_point)' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l before-time -d 'Keep what was committed before this time, with its zone' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l before-xid -d 'Keep what was committed before this transaction' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l before-migration -d 'Keep what was committed before this migration, named as its tool\'s users name it: 123, 0004_audit, shop.0007' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l before-lsn -d 'Discard the WAL record at this position and all after it' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l timeline -d 'Follow this timeline: a number, latest (the highest in the archive), or current (the cluster\'s own)' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l backup -d 'Use this base backup instead of the one that suits best' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l backups -d 'Look for base backups here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l wal -d 'Look for WAL here instead of where the configuration says; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l as -d 'Recover into this cluster of a fresh host, whatever empty cluster it has: 16/main' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l tablespace -d 'Where a tablespace goes of which neither the backup nor the cluster tells; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l accept -d 'Override the refusal with this id; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l config-from -d 'Take PostgreSQL\'s configuration from today\'s cluster or from the backup' -r -f -a "current\t'What the cluster uses now'
backup\t'What the backup contains'"
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l checks -d 'Run the checks of this SQL file too; may be repeated' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l dump-before -d 'Dump the databases as they are now into this directory, before the cluster is stopped (pg_dump -Fc, and the roles)' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l dump-database -d 'Dump only this database; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l reason -d 'Say why, for the report' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l dir -d 'The tool\'s own directory: for names, what is pending, and whether a migration has a way back of its own' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l tool -d 'Only migrations of this tool, as pitr migrations prints it' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l history-table -d 'Only those in this history table: name, or schema.name' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l plan -d 'Run only the plan with this digest, as `pitr plan` printed it' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l max-loss -d 'Refuse to discard more than this: a duration (1h, 5min) or a number of transactions' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand restore" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l to-latest -d 'Keep everything there is'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l to-consistent -l to-immediate -d 'Stop as soon as the backup is consistent'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l yes -d 'Do not ask'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l dry-run -d 'Only show the plan, like `pitr plan`'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand resume" -l accept -d 'Override the refusal with this id; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand resume" -l reason -d 'Say why, for the report' -r
complete -c pitr -n "__fish_pitr_using_subcommand resume" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand resume" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand resume" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand resume" -l yes -d 'Do not ask'
complete -c pitr -n "__fish_pitr_using_subcommand resume" -l dry-run -d 'Only show what would be done'
complete -c pitr -n "__fish_pitr_using_subcommand resume" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand resume" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand resume" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand undo" -l accept -d 'Override the refusal with this id; may be repeated' -r
complete -c pitr -n "__fish_pitr_using_subcommand undo" -l reason -d 'Say why, for the report' -r
complete -c pitr -n "__fish_pitr_using_subcommand undo" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand undo" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand undo" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand undo" -l yes -d 'Do not ask'
complete -c pitr -n "__fish_pitr_using_subcommand undo" -l dry-run -d 'Only show what would be done'
complete -c pitr -n "__fish_pitr_using_subcommand undo" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand undo" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand undo" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pitr -n "__fish_pitr_using_subcommand purge" -l config -d 'Read this file instead of /etc/pitr/pitr.toml and /etc/pitr/conf.d/*.toml' -r -F
complete -c pitr -n "__fish_pitr_using_subcommand purge" -l cluster -d 'Act on this cluster, told by its name or its data directory; not needed where there is one' -r
complete -c pitr -n "__fish_pitr_using_subcommand purge" -s o -l output -d 'Print the result as text or as one JSON document' -r -f -a "text\t'For people; may change between versions'
json\t'One document with a schema number'
html\t'One page that needs nothing else (only of `report`)'
md\t'Markdown (only of `report`)'"
complete -c pitr -n "__fish_pitr_using_subcommand purge" -l all -d 'Delete what every finished run kept; what may not go is named'
complete -c pitr -n "__fish_pitr_using_subcommand purge" -l yes -d 'Do not ask'
complete -c pitr -n "__fish_pitr_using_subcommand purge" -l dry-run -d 'Only show what would be deleted'
complete -c pitr -n "__fish_pitr_using_subcommand purge" -l no-progress -d 'Show no progress'
complete -c pitr -n "__fish_pitr_using_subcommand purge" -s q -l quiet -d 'Print only the result and errors'
complete -c pitr -n "__fish_pitr_using_subcommand purge" -s v -l verbose -d 'Say more on standard error; twice for every detail'
complete -c pitr -n "__fish_pitr_using_subcommand purge" -s h -l help -d 'Print help (see more with \'--help\')'

# What only this host knows: names of clusters and backups, ids of runs.
function __pitr_files
    # Only `set` takes a pattern that matches nothing.
    set -l files /etc/pitr/pitr.toml /etc/pitr/conf.d/*.toml
    cat $files 2>/dev/null
end

function __pitr_clusters
    __pitr_files | string replace -rf '^ *\[cluster\."?([A-Za-z0-9_./-]*[A-Za-z0-9_-])"?\].*$' '$1' | string match -v '*.hooks'
    for directory in /etc/postgresql/*/*/
        string replace -r '.*/([^/]*)/([^/]*)/$' '$1-$2' $directory
    end
end

function __pitr_runs
    set -l state (__pitr_files | string replace -rf '^ *state_directory *= *"(.*)".*' '$1')[1]
    test -n "$state"; or set state /var/lib/pitr
    command ls -r -- $state/runs 2>/dev/null
end

function __pitr_backups
    command pitr backups -o json -q 2>/dev/null | string match -ra '"name":"[^"\\\\]*"' | string replace -r '.*:"(.*)"' '$1'
end

complete -c pitr -l cluster -x -a '(__pitr_clusters)'
complete -c pitr -n '__fish_seen_subcommand_from plan restore' -l backup -x -a '(__pitr_backups)'
complete -c pitr -n '__fish_seen_subcommand_from report resume undo purge' -f -a '(__pitr_runs)'
