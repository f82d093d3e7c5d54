package push

import "strings"

// Clip returns s, or of one longer than most bytes its beginning and "…": at most
// three bytes more, and no part of a character. It is for what others wrote and
// an error or a record repeats.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
