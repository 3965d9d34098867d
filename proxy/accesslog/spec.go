package accesslog

import (
	"errors"
	"fmt"
)

// Spec is one entry of an access_log list: plain, validated, immutable. Nothing is
// open yet.
type Spec struct {
	Path   string // "/dev/stdout" and "/dev/stderr" for the stream loggers
	Format *Format
	Filter Filter // nil logs everything
}

// Set is the open access logs of one listener or filter. A nil Set logs nothing. It
// is safe for concurrent use.
type Set struct {
	loggers []*Logger
	files   []*File
}

// OpenSet opens what specs name, each path once for the whole process. It returns
// nil for no specs. The Set is the caller's, to be closed.
func OpenSet(specs []Spec, files *Files) (*Set, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	if files == nil {
		return nil, errors.New("accesslog: this process keeps no log files")
	}
	set := &Set{}
	for i, s := range specs {
		f, err := files.Open(s.Path)
		if err != nil {
			set.Close()
			return nil, fmt.Errorf("access_log[%d]: %w", i, err)
		}
		set.files = append(set.files, f)
		set.loggers = append(set.loggers, NewLogger(on(s.Filter, files.opt.Runtime), s.Format, f))
	}
	return set, nil
}

// Loggers returns the logs, which are the Set's as long as it is open.
func (s *Set) Loggers() []*Logger {
	if s == nil {
		return nil
	}
	return s.loggers
}

// Log gives the entry to every log.
func (s *Set) Log(e *Entry) {
	if s == nil {
		return
	}
	for _, l := range s.loggers {
		l.Log(e)
	}
}

// Close gives the files back; what is buffered is still written.
func (s *Set) Close() {
	if s == nil {
		return
	}
	for _, f := range s.files {
		f.Close()
	}
	s.loggers, s.files = nil, nil
}
