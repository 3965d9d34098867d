package admin

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// serveLogging sets levels and lists them: ?level=L for all, ?NAME=L for one,
// ?paths=NAME:L,NAME:L for several. Either all of a request is done or nothing.
func (s *Server) serveLogging(w http.ResponseWriter, r *http.Request) {
	ps := ParseParams(r.URL.RawQuery)
	if len(ps) > 1 {
		s.loggingUsage(w, "invalid number of parameters")
		return
	}
	var names []string
	var values []string
	if len(ps) == 1 && ps[0].Value != "" {
		switch p := ps[0]; p.Key {
		case "level":
			for name := range s.cfg.Loggers {
				names, values = append(names, name), append(values, p.Value)
			}
			if len(names) == 0 {
				names, values = append(names, ""), append(values, p.Value)
			}
		case "paths":
			for part := range strings.SplitSeq(p.Value, ",") {
				name, level, _ := strings.Cut(part, ":")
				names, values = append(names, name), append(values, level)
			}
		default:
			names, values = []string{p.Key}, []string{p.Value}
		}
	}
	levels := make([]slog.Level, len(names))
	for i, name := range names {
		l, known := ParseLevel(values[i])
		if !known {
			s.loggingUsage(w, "unknown logger level")
			return
		}
		levels[i] = l
		if s.cfg.Loggers[name] == nil && name != "" {
			s.loggingUsage(w, "unknown logger name")
			return
		}
	}
	for i, name := range names {
		if v := s.cfg.Loggers[name]; v != nil {
			v.Set(levels[i])
		}
	}
	s.writeLoggers(w)
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
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Loggers)) {
		fmt.Fprintf(w, "  %s: %s\n", name, LevelName(s.cfg.Loggers[name].Level()))
	}
}
