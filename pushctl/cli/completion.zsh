#compdef pushctl
# zsh completion for pushctl
_pushctl() {
	local -a lines names
	local line
	lines=("${(@f)$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	for line in $lines; do
		[[ -n $line ]] && names+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	if (( ${#names} )); then
		_describe pushctl names
	else
		_files
	fi
}
if [[ $funcstack[1] == _pushctl ]]; then
	_pushctl "$@"
else
	compdef _pushctl pushctl
fi
