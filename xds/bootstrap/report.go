package bootstrap

import (
	"fmt"
	"strconv"
	"strings"
)

// maxFindings bounds how many problems, and how many warnings, one load
// collects: a file that is wrong everywhere must not answer with a megabyte.
const maxFindings = 100

// A Finding is one remark about one place in a configuration: a problem when
// it is part of an Error, a warning when it is part of a Report.
type Finding struct {
	// File is the Source's name, as the operator wrote it.
	File string
	// Line counts from 1; 0 means the place has no line (binary sources,
	// resources that came over the wire).
	Line int
	// Path leads from the root message to the field, in proto field names:
	// static_resources.listeners[0].address. Empty for the file as a whole.
	Path string
	// Text says what is wrong and, where that is known, what to write instead.
	Text string
}

// String renders FILE:LINE: PATH: TEXT, leaving out what is not known.
func (f Finding) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(f.Line))
		}
		b.WriteString(": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path)
		b.WriteString(": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// An Error refuses a configuration. It always holds at least one Finding.
type Error struct {
	// Findings are in file order; at most 100 are kept.
	Findings []Finding
}

// Error is the first finding, and how many more there are.
func (e *Error) Error() string {
	if len(e.Findings) == 0 {
		return "configuration refused"
	}
	first := e.Findings[0].String()
	switch more := len(e.Findings) - 1; more {
	case 0:
		return first
	case 1:
		return first + " (and 1 more problem)"
	default:
		return first + " (and " + strconv.Itoa(more) + " more problems)"
	}
}

// refuse makes an Error of one finding.
func refuse(file string, line int, path, format string, args ...any) *Error {
	return &Error{Findings: []Finding{{File: file, Line: line, Path: path, Text: fmt.Sprintf(format, args...)}}}
}

// A Report is what a successful (or refused) load has to say besides the
// message itself.
type Report struct {
	// Warnings are in file order; at most 100 are kept, the counters go on.
	Warnings []Finding
	// UnknownFields counts fields and enum values that were dropped because no
	// linked schema knows them.
	UnknownFields int
	// UnknownTypes counts Any values whose type is not linked and which were
	// kept as a TypedStruct.
	UnknownTypes int
	// Deprecated counts uses of fields their schema marks deprecated.
	Deprecated int
}

// add appends o's remarks to r.
func (r *Report) add(o Report) {
	r.UnknownFields += o.UnknownFields
	r.UnknownTypes += o.UnknownTypes
	r.Deprecated += o.Deprecated
	for _, w := range o.Warnings {
		r.warn(w)
	}
}

func (r *Report) warn(f Finding) {
	if len(r.Warnings) < maxFindings {
		r.Warnings = append(r.Warnings, f)
	}
}
