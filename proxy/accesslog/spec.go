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
	// Remote is a log that goes somewhere else than to a file: what FileOptions.Remote
	// understands. Path and Format are not used then.
	Remote any
}

// Recorder takes entries for a service. Record must not block; e is lent.
type Recorder interface {
	Record(e *Entry)
	Close()
}

// Set is the open access logs of one listener or filter. A nil Set logs nothing. It
// is safe for concurrent use.
type Set struct {
	loggers []*Logger
	files   []*File
	remote  []Recorder
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
		if s.Remote != nil {
			r, err := files.remote(s.Remote)
			if err != nil {
				set.Close()
				return nil, fmt.Errorf("access_log[%d]: %w", i, err)
			}
			set.remote = append(set.remote, r)
			set.loggers = append(set.loggers, &Logger{filter: on(s.Filter, files.opt.Runtime), remote: r})
			continue
		}
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

// remote opens a log that goes to a service.
func (fs *Files) remote(config any) (Recorder, error) {
	if fs.opt.Remote == nil {
		return nil, errors.New("accesslog: this process sends no entries to services")
	}
	return fs.opt.Remote(config)
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
	for _, r := range s.remote {
		r.Close()
	}
	s.loggers, s.files, s.remote = nil, nil, nil
}
