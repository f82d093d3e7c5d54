# bash completion for pushctl; load it with: source <(pushctl completion bash)
_pushctl() {
	local line IFS=$'\n'
	local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
	# bash cuts words at "=", which pushctl does not.
	local joined=() word glue=
	for word in "${words[@]}"; do
		if [[ $word == "=" || -n $glue ]] && ((${#joined[@]})); then
			joined[-1]+=$word
			[[ $word == "=" ]] && glue=1 || glue=
		else
			joined+=("$word")
		fi
	done
	COMPREPLY=()
	for line in $("${COMP_WORDS[0]}" __complete -- "${joined[@]}" 2>/dev/null); do
		COMPREPLY+=("${line%%$'\t'*}")
	done
}
complete -o default -F _pushctl pushctl
