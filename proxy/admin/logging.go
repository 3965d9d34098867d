package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/applog"
)

// serveLogging sets levels and lists them: ?level=L for all, ?NAME=L for one,
// ?paths=NAME:L,NAME:L for several. Either all of a request is done or nothing.
func (s *Server) serveLogging(w http.ResponseWriter, r *http.Request) {
	ps := ParseParams(r.URL.RawQuery)
	if len(ps) > 1 {
		s.loggingUsage(w, "invalid number of parameters")
		return
	}
	if len(ps) == 0 || ps[0].Value == "" {
		s.writeLoggers(w)
		return
	}
	if ps[0].Key == "level" {
		level, known := ParseLevel(ps[0].Value)
		if !known {
			s.loggingUsage(w, "unknown logger level")
			return
		}
		if s.cfg.Levels != nil {
			s.cfg.Levels.SetLevel(level)
		}
		s.writeLoggers(w)
		return
	}
	list := ps[0].Key + ":" + ps[0].Value
	if ps[0].Key == "paths" {
		list = ps[0].Value
	}
	if why := s.setLevels(list); why != "" {
		s.loggingUsage(w, why)
		return
	}
	s.writeLoggers(w)
}

// setLevels obeys "name:level,name:level", all of it or, with the reason, nothing.
func (s *Server) setLevels(list string) (why string) {
	var set []applog.ComponentLevel
	for part := range strings.SplitSeq(list, ",") {
		name, text, _ := strings.Cut(part, ":")
		level, known := ParseLevel(text)
		if !known {
			return "unknown logger level"
		}
		if !s.hasLogger(name) {
			return "unknown logger name"
		}
		set = append(set, applog.ComponentLevel{Component: name, Level: level})
	}
	s.cfg.Levels.Configure(set)
	return ""
}

func (s *Server) hasLogger(name string) bool {
	return s.cfg.Levels != nil && slices.ContainsFunc(s.cfg.Levels.Levels(), func(c applog.ComponentLevel) bool { return c.Component == name })
}

func (s *Server) loggingUsage(w http.ResponseWriter, why string) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, "error: %s\n\n", why)
	fmt.Fprint(w, "usage: /logging?<name>=<level> (one logger)\n",
		"usage: /logging?paths=name1:level1,name2:level2,... (several loggers)\n",
		"usage: /logging?level=<level> (all loggers)\n",
		"levels: trace debug info warning error critical off\n")
	s.writeLoggers(w)
}

func (s *Server) writeLoggers(w http.ResponseWriter) {
	fmt.Fprintln(w, "active loggers:")
	if s.cfg.Levels == nil {
		return
	}
	for _, c := range s.cfg.Levels.Levels() {
		fmt.Fprintf(w, "  %s: %s\n", c.Component, LevelName(c.Level))
	}
}
