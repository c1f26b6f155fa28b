# Completion of frontctl for bash: commands and options as --help has them, names as the front has.

_frontctl_ask() { # the values of a member in an answer: _frontctl_ask COMMAND MEMBER OPTION…
    local command=$1 member=$2
    shift 2
    frontctl "$@" --json "$command" 2>/dev/null | grep -o "\"$member\":\"[^\"]*\"" | cut -d'"' -f4 | sort -u
}

_frontctl() {
    local word=${COMP_WORDS[COMP_CWORD]} command= i=1 where=()
    COMPREPLY=()
    while ((i < COMP_CWORD)); do
        case ${COMP_WORDS[i]} in
        -S | --socket | -c | --config)
            where+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}")
            ((i++))
            ;;
        -*) ;;
        *) [ -n "$command" ] || command=${COMP_WORDS[i]} ;;
        esac
        ((i++))
    done
    case ${COMP_WORDS[COMP_CWORD - 1]} in
    -S | --socket | -c | --config)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    esac
    local words
    if [ -z "$command" ]; then
        words="-S -c --json --help --version $(frontctl --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')"
    elif [[ $word == -* ]]; then
        words="--json --help $(frontctl "$command" --help 2>/dev/null | head -n 1 | grep -o -- '--[a-z-]*')"
    else
        case $command in
        pause | resume) words=$(_frontctl_ask pools pool "${where[@]}") ;;
        drain | undrain)
            words=$(_frontctl_ask workers address "${where[@]}")
            if declare -F __ltrim_colon_completions >/dev/null; then
                mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
                __ltrim_colon_completions "$word"
                return
            fi
            ;;
        log) words="error warning info debug" ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _frontctl frontctl
