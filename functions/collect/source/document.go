package source

import (
	"errors"
	"fmt"
	"io"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// MaxDefinition bounds one source, or the rules of one, in bytes.
const MaxDefinition = 256 << 10

// Bounds of one source, which may be written by whoever has an API key. The
// parser's time grows with the square of the tokens, and its memory with that of
// the brackets in one another: 32 KiB of '[' took seconds and 2 GB. A hundred
// rules with all their fields have some 5,000 tokens.
const (
	maxTokens   = 10_000
	maxBrackets = 50 // that are open at once
)

// document returns the one document of a file, nil if it is empty.
func document(file []byte) (ast.Node, error) {
	if len(file) > MaxFile {
		return nil, &Fault{Reason: fmt.Sprintf("the file is larger than %d bytes", MaxFile)}
	}
	return parseDocument(func() (*ast.File, error) { return parser.ParseBytes(file, 0) })
}

// boundedDocument is document for a text whose writer is not the operator.
func boundedDocument(text []byte) (ast.Node, error) {
	if len(text) > MaxDefinition {
		return nil, &Fault{Reason: fmt.Sprintf("it is larger than %d bytes", MaxDefinition)}
	}
	return parseDocument(func() (*ast.File, error) {
		tokens, err := tokenize(string(text))
		if err != nil {
			return nil, err
		}
		return parser.Parse(tokens, 0)
	})
}

// tokenize returns the tokens of text as the parser's own lexer does, or a
// [*Fault] as soon as they exceed a bound.
func tokenize(text string) (token.Tokens, error) {
	var (
		s      scanner.Scanner
		tokens token.Tokens
		open   int // brackets
	)
	s.Init(text)
	for {
		some, err := s.Scan()
		if errors.Is(err, io.EOF) {
			return tokens, nil
		}
		// Any other error is a token of its own, of which the parser tells.
		for _, t := range some {
			switch t.Type {
			case token.SequenceStartType, token.MappingStartType:
				open++
			case token.SequenceEndType, token.MappingEndType:
				open = max(0, open-1)
			}
			if open > maxBrackets {
				return nil, &Fault{t.Position.Line, t.Position.Column, "", fmt.Sprintf("nests deeper than %d brackets", maxBrackets)}
			}
		}
		tokens.Add(some...)
		if len(tokens) > maxTokens {
			return nil, &Fault{Reason: fmt.Sprintf("it has more than %d words and signs", maxTokens)}
		}
	}
}

// parseDocument returns the one document of what parse reads, nil if it is empty.
func parseDocument(parse func() (*ast.File, error)) (root ast.Node, err error) {
	// The YAML parser is not made for what strangers write, and panics on some of it.
	defer func() {
		if broken := recover(); broken != nil {
			root, err = nil, &Fault{Reason: "not YAML: the parser cannot make sense of it"}
		}
	}()
	parsed, err := parse()
	var over *Fault
	if errors.As(err, &over) {
		return nil, over
	}
	if err != nil {
		return nil, faultOf(err)
	}
	for _, doc := range parsed.Docs {
		if doc.Body == nil || isNull(doc.Body) {
			continue
		}
		if root != nil {
			line, column := position(doc.Body)
			return nil, &Fault{line, column, "", "the file must hold one document"}
		}
		root = doc.Body
	}
	return root, nil
}
