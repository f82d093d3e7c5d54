// Package rule maps a webhook to a message by expressions that a user writes in
// CEL, the Common Expression Language (https://cel.dev).
//
// A [Spec] is a rule as it is written, a [Rule] is one compiled. Its
// expressions see
//
//	body         the decoded body: any JSON value; fields of a form as strings
//	headers      a map of the request's headers, names in lower case
//	query        a map of the URL's query parameters
//	source       the name of the source
//	received_at  a timestamp
//
// and have CEL's standard functions, optional access (body.?a.?b.orValue("")),
// cel.bind, comprehensions over two variables, and of the strings extension
// join, split, replace, substring, indexOf, lowerAscii, upperAscii and trim.
//
// Who writes a rule is not trusted to write a cheap one, and who sends a body is
// not trusted at all. One evaluation takes at most 100 ms, give or take one
// call, and some 20 MB: every step and every byte that is made costs, a call
// that could do much at once looks at its arguments first, and lists are
// measured before they are walked. What goes over a bound is an [Error], never
// a message with something missing.
package rule
