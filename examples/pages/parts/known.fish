
# What only this host knows: names of clusters and backups, ids of runs.
function __pitr_clusters
    cat /etc/pitr/pitr.toml /etc/pitr/conf.d/*.toml 2>/dev/null | string replace -rf '^ *\[cluster\."?([A-Za-z0-9_./-]*[A-Za-z0-9_-])"?\].*$' '$1' | string match -v '*.hooks'
    for directory in /etc/postgresql/*/*/
        string replace -r '.*/([^/]*)/([^/]*)/$' '$1-$2' $directory
    end
end

function __pitr_runs
    set -l state (cat /etc/pitr/pitr.toml /etc/pitr/conf.d/*.toml 2>/dev/null | string replace -rf '^ *state_directory *= *"(.*)".*' '$1')[1]
    test -n "$state"; or set state /var/lib/pitr
    command ls -r -- $state/runs 2>/dev/null
end

function __pitr_backups
    command pitr backups -o json -q 2>/dev/null | string match -ra '"name":"[^"\\\\]*"' | string replace -r '.*:"(.*)"' '$1'
end

complete -c pitr -l cluster -x -a '(__pitr_clusters)'
complete -c pitr -n '__fish_seen_subcommand_from @BACKUP_VERBS@' -l backup -x -a '(__pitr_backups)'
complete -c pitr -n '__fish_seen_subcommand_from @RUN_VERBS@' -f -a '(__pitr_runs)'
