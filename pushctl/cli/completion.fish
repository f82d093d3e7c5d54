# fish completion for pushctl
function __pushctl_complete
    set -l words (commandline -opc)
    pushctl __complete -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c pushctl -a '(__pushctl_complete)'
