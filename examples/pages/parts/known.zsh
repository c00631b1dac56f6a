
# What only this host knows: names of clusters and backups, ids of runs.
(( $+functions[_pitr_clusters] )) ||
_pitr_clusters() {
    local -a names
    names=( ${(f)"$(cat /etc/pitr/pitr.toml /etc/pitr/conf.d/*.toml(N) 2>/dev/null | sed -n 's/^ *\[cluster\."\{0,1\}\([A-Za-z0-9_./-]*[A-Za-z0-9_-]\)"\{0,1\}\] *$/\1/p' | grep -v '\.hooks$')"} )
    names+=( ${${(M)${(f)"$(print -l /etc/postgresql/*/*(N/))"}:#/*}:t2} )
    compadd -- ${names//\//-}
}

(( $+functions[_pitr_runs] )) ||
_pitr_runs() {
    local state=$(cat /etc/pitr/pitr.toml /etc/pitr/conf.d/*.toml(N) 2>/dev/null | sed -n 's/^ *state_directory *= *"\(.*\)".*/\1/p' | head -n 1)
    compadd -- ${state:-/var/lib/pitr}/runs/*(N:t)
}

(( $+functions[_pitr_backups] )) ||
_pitr_backups() {
    compadd -- ${(f)"$(command pitr backups -o json -q 2>/dev/null | grep -o '"name":"[^"\\]*"' | cut -d'"' -f4)"}
}
