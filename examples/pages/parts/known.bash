
# What only this host knows: names of clusters and backups, ids of runs.
_pitr_clusters() {
    local directory
    cat /etc/pitr/pitr.toml /etc/pitr/conf.d/*.toml 2>/dev/null | sed -n 's/^ *\[cluster\."\{0,1\}\([A-Za-z0-9_./-]*[A-Za-z0-9_-]\)"\{0,1\}\] *\(#.*\)\{0,1\}$/\1/p' |
        grep -v '\.hooks$'
    for directory in /etc/postgresql/*/*/; do
        [ -d "$directory" ] && printf '%s\n' "$directory" | sed 's,.*/\([^/]*\)/\([^/]*\)/$,\1-\2,'
    done
}

_pitr_runs() {
    local state
    state=$(cat /etc/pitr/pitr.toml /etc/pitr/conf.d/*.toml 2>/dev/null | sed -n 's/^ *state_directory *= *"\(.*\)".*/\1/p' | head -n 1)
    command ls -r -- "${state:-/var/lib/pitr}/runs" 2>/dev/null
}

_pitr_backups() {
    command pitr backups -o json -q 2>/dev/null | grep -o '"name":"[^"\\]*"' | cut -d'"' -f4
}

# _pitr_offer LINES WORD: those lines that begin with the word.
_pitr_offer() {
    local IFS=$'\n'
    COMPREPLY=($(compgen -W "$1" -- "$2"))
}

_pitr_known() {
    local cur=$2 prev=$3 word verb=
    case $prev in
        --cluster) _pitr_offer "$(_pitr_clusters)" "$cur"; return ;;
        --backup) _pitr_offer "$(_pitr_backups)" "$cur"; return ;;
        --yes | --dry-run) ;;
        -*) _pitr "$@"; return ;;
    esac
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            @RUN_VERBS@) verb=$word ;;
        esac
    done
    case $verb,$cur in
        ,* | *,-*) _pitr "$@" ;;
        *) _pitr_offer "$(_pitr_runs)" "$cur" ;;
    esac
}

complete -F _pitr_known -o bashdefault -o default pitr
