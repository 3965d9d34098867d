package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// builtin returns the endpoints that are always there.
func (s *Server) builtin() []Endpoint {
	return []Endpoint{
		{Path: "/", Help: "this list as a page", Serve: s.serveIndex},
		{Path: "/help", Help: "this list as text", Serve: s.serveHelp},
		{Path: "/ready", Help: "the server's state: 200 when LIVE, else 503", Serve: s.serveReady},
		{Path: "/server_info", Help: "version, state, uptime, command line and node", Serve: s.serveInfo},
		{Path: "/stats", Help: "statistics as text or JSON", Serve: s.serveStats, Params: statsParams("json, prometheus or text")},
		{Path: "/stats/prometheus", Help: "statistics in Prometheus' text format", Serve: s.servePrometheus, Params: []ParamHelp{
			{"usedonly", "only what was ever written"},
			{"filter", "regular expression (RE2) for names"},
			{"invert_filter", "names that the filter does not match"},
			{"text_readouts", "texts too, as gauges of value 0"},
			{"histogram_buckets", "cumulative or summary"},
		}},
		{Path: "/clusters", Help: "clusters, their hosts and limits", Serve: s.serveClusters, Params: []ParamHelp{
			{"format", "json or text"}, {"filter", "regular expression (RE2) for names of clusters"},
		}},
		{Path: "/listeners", Help: "listeners and their addresses", Serve: s.serveListeners, Params: []ParamHelp{{"format", "json or text"}}},
		{Path: "/config_dump", Help: "the configuration in use, without private keys", Serve: s.serveConfigDump, Params: []ParamHelp{
			{"resource", "one kind of resource, such as dynamic_active_clusters"},
			{"mask", "protobuf field mask of what to show"},
			{"name_regex", "regular expression (RE2) for names of resources"},
			{"include_eds", "endpoints too"},
		}},
		{Path: "/contention", Help: "waiting for locks, with --enable-mutex-tracing", Serve: s.serveContention},
		{Path: "/cpuprofiler", Post: true, Help: "write a CPU profile to admin.profile_path", Serve: s.serveCPUProfiler, Params: []ParamHelp{{"enable", "y or n"}}},
		{Path: "/heapprofiler", Post: true, Help: "not supported: see /heap_dump", Serve: unsupported("heap profiler")},
		{Path: "/allocprofiler", Post: true, Help: "not supported: see /heap_dump", Serve: unsupported("allocation profiler")},
		{Path: "/heap_dump", Help: "a profile of the heap, for go tool pprof", Serve: s.serveHeapDump},
		{Path: "/peak_heap_dump", Help: "not supported: see /heap_dump", Serve: unsupported("peak heap dump")},
		{Path: "/tap", Post: true, Help: "not supported by this build", Serve: unsupported("tap")},
		{Path: "/stats/recentlookups", Help: "lookups of names of statistics", Serve: s.serveLookups},
		{Path: "/stats/recentlookups/clear", Post: true, Help: "forget the lookups", Serve: func(w http.ResponseWriter, _ *http.Request) { ok(w) }},
		{Path: "/stats/recentlookups/enable", Post: true, Help: "count lookups", Serve: s.trackLookups(true)},
		{Path: "/stats/recentlookups/disable", Post: true, Help: "do not count lookups", Serve: s.trackLookups(false)},
		{Path: "/certs", Help: "certificates in use", Serve: s.serveCerts},
		{Path: "/runtime", Help: "runtime values by layer", Serve: s.serveRuntime},
		{Path: "/runtime_modify", Post: true, Help: "set runtime values of the admin layer: ?key=value&...", Serve: s.serveRuntimeModify},
		{Path: "/memory", Help: "memory in use", Serve: s.serveMemory},
		{Path: "/memory/tcmalloc", Help: "memory in use as Go's runtime counts it", Serve: s.serveMalloc},
		{Path: "/init_dump", Help: "what the server still waits for while it starts", Serve: s.serveInitDump},
		{Path: "/resources", Help: "configuration from the control plane, files and the bootstrap: used, unused, stale, refused", Serve: s.serveResources, Params: []ParamHelp{
			{"state", "only what is used, unused, static, stale or refused"},
			{"format", "text or json"},
		}},
		{Path: "/why", Help: "what was decided about requests, and where their time went", Serve: s.serveWhy, Params: []ParamHelp{
			{"id", "of that request only (x-request-id)"},
			{"last", "how many of the newest (20)"},
			{"wrong", "only those that failed, were refused or took more than one attempt"},
			{"format", "text or json"},
		}},
		{Path: "/why/if", Help: "what would be decided about a request, which is not sent", Serve: s.serveWhatIf, Params: []ParamHelp{
			{"url", "http://HOST/PATH or https://HOST/PATH"},
			{"method", "GET unless it is given"},
			{"header", "name: value; may be repeated"},
			{"listener", "the listener it comes to, by name"},
			{"to", "or by the address that the client connects to"},
			{"from", "the client's address"},
			{"format", "text or json"},
		}},
		{Path: "/hot_restart_version", Help: "whether hot restart is possible", Serve: s.serveHotRestart},
		{Path: "/logging", Post: true, Help: "show or set log levels", Serve: s.serveLogging, Params: []ParamHelp{
			{"level", "the level of all loggers: trace, debug, info, warning, error, critical or off"},
			{"paths", "levels of several loggers: name:level,name:level"},
			{"<name>", "the level of one logger"},
			{"group", "refused: loggers are named after components here"},
		}},
		{Path: "/drain_listeners", Post: true, Help: "drain and close listeners", Serve: s.serveDrain, Params: []ParamHelp{
			{"inboundonly", "only listeners with traffic_direction INBOUND"},
			{"graceful", "first discourage connections for the drain time"},
			{"skip_exit", "never stop the listeners"},
		}},
		{Path: "/healthcheck/fail", Post: true, Help: "make health checks of this server fail", Serve: s.health(false)},
		{Path: "/healthcheck/ok", Post: true, Help: "make health checks of this server pass", Serve: s.health(true)},
		{Path: "/reset_counters", Post: true, Help: "set all counters to zero", Serve: s.serveResetCounters},
		{Path: "/reopen_logs", Post: true, Help: "open access logs anew", Serve: s.serveReopenLogs},
		{Path: "/quitquitquit", Post: true, Help: "stop the server", Serve: s.serveQuit},
		{Path: "/debug/pprof/*", Help: "profiles of the Go runtime, for go tool pprof", Serve: servePprof},
	}
}

func statsParams(formats string) []ParamHelp {
	return []ParamHelp{
		{"usedonly", "only what was ever written"},
		{"filter", "regular expression (RE2) for names"},
		{"invert_filter", "names that the filter does not match"},
		{"format", formats},
		{"type", "All, Counters, Gauges, Histograms or TextReadouts"},
		{"histogram_buckets", "cumulative, disjoint, detailed or summary"},
	}
}

func (s *Server) serveHelp(w http.ResponseWriter, _ *http.Request) { s.writeHelp(w) }

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	state := s.cfg.Source.State()
	if state != Live {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, state)
}

func (s *Server) serveHotRestart(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, s.cfg.Source.ServerInfo().HotRestartVersion)
}

func (s *Server) serveConfigDump(w http.ResponseWriter, r *http.Request) {
	ps := ParseParams(r.URL.RawQuery)
	dump, err := s.cfg.Source.ConfigDump(DumpOptions{
		Resource: ps.Get("resource"), Mask: ps.Get("mask"), NameRegex: ps.Get("name_regex"), IncludeEDS: ps.Has("include_eds"),
	})
	if err != nil {
		failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", asked)
	_, _ = w.Write(dump) // the one who asked has gone
}

// failWith answers with an error and its status code.
func failWith(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	if e, ok := errors.AsType[*Error](err); ok {
		code = e.Code
	}
	fail(w, code, err.Error())
}

const okText = "OK\n"

func ok(w http.ResponseWriter) { fmt.Fprint(w, okText) }

func (s *Server) serveDrain(w http.ResponseWriter, r *http.Request) {
	ps := ParseParams(r.URL.RawQuery)
	s.cfg.Source.Drain(DrainOptions{
		InboundOnly: ps.Has("inboundonly"), Graceful: ps.Has("graceful"), SkipExit: ps.Has("skip_exit"),
	})
	ok(w)
}

func (s *Server) health(healthy bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.cfg.Source.SetHealthy(healthy)
		ok(w)
	}
}

func (s *Server) serveResetCounters(w http.ResponseWriter, _ *http.Request) {
	s.cfg.Stats.ResetCounters()
	ok(w)
}

func (s *Server) serveReopenLogs(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Source.ReopenLogs(); err != nil {
		failWith(w, err)
		return
	}
	ok(w)
}

// serveQuit answers before the process ends: the answer is sent, then Quit called. It has a
// length: the last chunk of one without would follow when this has returned, or never.
func (s *Server) serveQuit(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Length", strconv.Itoa(len(okText)))
	ok(w)
	if err := http.NewResponseController(w).Flush(); err != nil {
		s.cfg.Log.Debug("admin: quitquitquit: the client went away", "error", err)
	}
	s.cfg.Source.Quit()
}

func (s *Server) serveRuntimeModify(w http.ResponseWriter, r *http.Request) {
	ps := ParseParams(r.URL.RawQuery)
	setter, settable := s.cfg.Source.(RuntimeSetter)
	switch {
	case len(ps) == 0:
		fail(w, http.StatusBadRequest, "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters as form values\nuse an empty value to remove a previously added override")
	case !settable:
		fail(w, http.StatusServiceUnavailable, "No admin layer specified")
	default:
		if err := setter.SetRuntime(ps); err != nil {
			failWith(w, err)
			return
		}
		ok(w)
	}
}
