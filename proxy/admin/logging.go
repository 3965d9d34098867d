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
	if ps[0].Key == "group" {
		s.loggingUsage(w, "group parameter requires fine-grain logging to be enabled")
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

// hasLogger accepts Envoy's names, too, whether or not something logs under them here.
func (s *Server) hasLogger(name string) bool {
	if s.cfg.Levels == nil {
		return false
	}
	return envoyLogger(name) || slices.ContainsFunc(s.cfg.Levels.Levels(), func(c applog.ComponentLevel) bool { return c.Component == name })
}

func (s *Server) loggingUsage(w http.ResponseWriter, why string) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, "error: %s\n\n", why)
	fmt.Fprint(w, "usage: /logging?<name>=<level> (change single level)\n",
		"usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n",
		"usage: /logging?level=<level> (change all levels)\n",
		"usage: /logging?group=<group_name>:<level> (change group of loggers)\n",
		"levels: trace debug info warning error critical off \n")
	s.writeLoggers(w)
}

func (s *Server) writeLoggers(w http.ResponseWriter) {
	fmt.Fprintln(w, "active loggers:")
	defer fmt.Fprintln(w)
	if s.cfg.Levels == nil {
		return
	}
	for _, c := range s.cfg.Levels.Levels() {
		fmt.Fprintf(w, "  %s: %s\n", c.Component, LevelName(c.Level))
	}
}

// envoyLogger reports whether Envoy 1.40 has a logger of that name.
func envoyLogger(name string) bool {
	switch name {
	case "a2a", "admin", "ai_protocol_manager", "alternate_protocols_cache", "aws", "assert", "backtrace", "basic_auth",
		"cache_filter", "client", "config", "connection", "conn_handler", "compression", "credential_injector",
		"decompression", "dns", "dubbo", "envoy_bug", "ext_authz", "ext_proc", "rocketmq", "file", "filter", "forward_proxy",
		"geolocation", "grpc", "happy_eyeballs", "hc", "health_checker", "http", "http2", "hystrix", "init", "io", "jwt",
		"json_rpc", "kafka", "key_value_store", "lua", "local_rate_limit", "main", "matcher", "mcp", "misc", "mongo",
		"multi_connection", "notification", "oauth2", "quic", "quic_stream", "pool", "rate_limit_quota", "rbac", "rds",
		"redis", "router", "runtime", "stats", "secret", "sse", "tap", "testing", "thrift", "tracing", "upstream", "udp",
		"wasm", "websocket", "golang", "stats_sinks", "dynamic_modules", "ip_tagging":
		return true
	}
	return false
}
