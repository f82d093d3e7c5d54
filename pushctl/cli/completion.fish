# fish completion for pushctl
function __pushctl_complete
    set -l words (commandline -opc)
    set -l found (pushctl __complete -- $words[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c pushctl -f -a '(__pushctl_complete)'
