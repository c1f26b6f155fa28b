#compdef frontctl
# Completion of frontctl for zsh: commands and options as --help has them, names as the front has.

_frontctl_names() { # COMMAND MEMBER: the values of a member in an answer
    local -a where names
    [[ -n ${opt_args[-S]} ]] && where=(-S ${opt_args[-S]})
    [[ -n ${opt_args[-c]} ]] && where=(-c ${opt_args[-c]})
    names=(${(f)"$(frontctl $where --json $1 2>/dev/null | grep -o "\"$2\":\"[^\"]*\"" | cut -d'"' -f4 | sort -u)"})
    compadd -a names
}

_frontctl_commands() {
    local -a commands
    commands=(${(f)"$(frontctl --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\)  *\(.*\)/\1:\2/p')"})
    _describe command commands
}

_frontctl_rest() {
    local -a options
    if [[ $PREFIX == -* ]]; then
        options=(--json --help ${(f)"$(frontctl $words[1] --help 2>/dev/null | head -n 1 | grep -o -- '--[a-z-]*')"})
        compadd -a options
        return
    fi
    case $words[1] in
    pause | resume) _frontctl_names pools pool ;;
    drain | undrain) _frontctl_names workers address ;;
    log) compadd error warning info debug ;;
    esac
}

_frontctl() {
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C \
        '(-c)-S[the control socket]:socket:_files' \
        '(-S)-c[the config whose run_dir is meant]:config:_files' \
        '--json[the answer as JSON]' \
        '--version' '--help' \
        '1:command:_frontctl_commands' \
        '*::argument:_frontctl_rest'
}

_frontctl "$@"
