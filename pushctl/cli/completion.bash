# bash completion for pushctl; load it with: source <(pushctl completion bash)
_pushctl() {
	local line word glue= IFS=$'\n'
	local words=()
	# bash cuts words at "=", which pushctl does not.
	for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
		if [[ $word == "=" || -n $glue ]] && ((${#words[@]})); then
			words[-1]+=$word
			[[ $word == "=" ]] && glue=1 || glue=
		else
			words+=("$word")
		fi
	done
	COMPREPLY=()
	for line in $("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null); do
		line=${line%%$'\t'*}
		[[ $line == --*=* ]] && line=${line#*=}
		COMPREPLY+=("$line")
	done
}
complete -o default -F _pushctl pushctl
