package push

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// HasHalfCharacter reports whether raw, which is JSON, escapes one half of a
// surrogate pair without the other, as in "\ud800". Decoders put U+FFFD in its
// place, so that texts which differ become one.
func HasHalfCharacter(raw []byte) bool {
	if !bytes.Contains(raw, []byte(`\ud`)) && !bytes.Contains(raw, []byte(`\uD`)) {
		return false
	}
	const escape = len(`\u0000`)
	for i := 0; i+escape <= len(raw); i++ {
		switch {
		case raw[i] != '\\':
			continue
		case raw[i+1] != 'u':
			i++
			continue
		}
		half := unit(raw[i+2 : i+escape])
		i += escape - 1
		if !utf16.IsSurrogate(half) {
			continue
		}
		next := raw[i+1:]
		if len(next) < escape || next[0] != '\\' || next[1] != 'u' || utf16.DecodeRune(half, unit(next[2:escape])) == unicode.ReplacementChar {
			return true
		}
		i += escape
	}
	return false
}

// unit returns the UTF-16 unit of four hexadecimal digits.
func unit(hex []byte) rune {
	n, err := strconv.ParseUint(string(hex), 16, 16)
	if err != nil {
		return unicode.ReplacementChar // not reached: it is JSON
	}
	return rune(n)
}

// Halved reports whether one of texts, which were decoded from the JSON raw, may
// stand for another: it has U+FFFD, and raw has half characters somewhere.
func Halved[S ~string](raw []byte, texts ...S) bool {
	return slices.ContainsFunc(texts, HasReplacement[S]) && HasHalfCharacter(raw)
}

// HasReplacement reports whether text has U+FFFD, which may stand for what could
// not be decoded.
func HasReplacement[S ~string](text S) bool {
	return strings.ContainsRune(string(text), unicode.ReplacementChar)
}
