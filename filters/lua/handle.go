package lua

import (
	"encoding/base64"
	"log/slog"
	"strconv"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// The levels of the log.
var levels = map[string]slog.Level{
	"logTrace": slog.LevelDebug - 4, "logDebug": slog.LevelDebug, "logInfo": slog.LevelInfo,
	"logWarn": slog.LevelWarn, "logErr": slog.LevelError, "logCritical": slog.LevelError + 4,
}

// handleMethods are those of the handle that the functions of a script get.
func (h *host) handleMethods() methods {
	m := methods{
		"headers":                 h.give(func(*run) glua.LValue { return h.head }),
		"body":                    h.on("handle", h.wholeBody),
		"bodyChunks":              h.on("handle", h.chunks),
		"trailers":                h.on("handle", h.trailersOf),
		"httpCall":                h.on("handle", h.httpCall),
		"respond":                 h.on("handle", h.respond),
		"metadata":                h.on("handle", h.routeMetadata),
		"filterContext":           h.on("handle", func(l *glua.LState, r *run) int { return h.pushMap(l, r.context) }),
		"importPublicKey":         h.on("handle", h.importKey),
		"verifySignature":         h.on("handle", h.verify),
		"timestamp":               h.on("handle", timestamp),
		"timestampString":         h.on("handle", timestampText),
		"clearRouteCache":         h.on("handle", clearRoute),
		"base64Escape":            h.on("handle", h.escape),
		"setUpstreamOverrideHost": h.on("handle", overrideHost),
	}
	for _, class := range []string{"streamInfo", "connection", "connectionStreamInfo", "virtualHost", "route"} {
		m[class] = h.give(func(*run) glua.LValue { return h.single[class] })
	}
	for name, level := range levels {
		m[name] = h.on("handle", func(l *glua.LState, r *run) int {
			text := l.CheckString(2)
			r.env.Log.Log(r.s.Engine.Context(), level, "script log: "+text)
			return 0
		})
	}
	return m
}

// give makes a method of the handle without arguments.
func (h *host) give(f func(r *run) glua.LValue) glua.LGFunction {
	return h.on("handle", func(l *glua.LState, r *run) int {
		l.Push(f(r))
		return 1
	})
}

// print is the function of the basic library: what it prints goes to the log.
func (h *host) print(l *glua.LState) int {
	if h.run == nil {
		return 0
	}
	text := ""
	for i := 1; i <= l.GetTop(); i++ {
		if i > 1 {
			text += "\t"
		}
		text += l.ToStringMeta(l.Get(i)).String()
		h.vm.Charge(l, len(text))
	}
	h.run.env.Log.Info("script log: " + text)
	return 0
}

// waiting does what takes the time of others.
func (r *run) waiting(f func()) {
	begun := time.Now()
	f()
	r.vm.Waited(time.Since(begun))
}

// maxReply is how long the body of an answer of a script may be.
const maxReply = 16 << 20

// respond is respond(headers, body): the script answers the request.
func (h *host) respond(l *glua.LState, r *run) int {
	if r.response {
		l.RaiseError("respond not currently supported in the response path")
	}
	if r.passed {
		l.RaiseError("respond() cannot be called if headers have been continued")
	}
	var m header.Map
	fieldsOf(l, l.CheckTable(2), &m)
	body := l.OptString(3, "")
	code, err := strconv.Atoi(m.Value(header.Status))
	if err != nil || code < 200 || code > 599 {
		l.RaiseError(":status must be between 200-599")
	}
	if len(body) > maxReply {
		l.RaiseError("the body is longer than %d bytes", maxReply)
	}
	m.DelID(header.Status)
	m.DelID(header.ContentLength)
	r.reply = &filter.Reply{Code: code, Body: body, Details: "lua_response", Modify: func(s *filter.Stream) {
		for f := range m.Fields() {
			s.Response.AddKnown(f.ID, f.Name, f.Value)
		}
	}}
	l.RaiseError("script has answered the request")
	return 0
}

// fieldsOf reads a table of header fields: texts, or lists of texts.
func fieldsOf(l *glua.LState, t *glua.LTable, m *header.Map) {
	add := func(name string, v glua.LValue) {
		if !glua.LVCanConvToString(v) {
			l.RaiseError("unexpected type '%s' for a header", v.Type())
		}
		m.Add(name, glua.LVAsString(v))
	}
	t.ForEach(func(key, v glua.LValue) {
		name := match.HeaderName(glua.LVAsString(key))
		if list, ok := v.(*glua.LTable); ok {
			for i := 1; i <= list.Len(); i++ {
				add(name, list.RawGetInt(i))
			}
			return
		}
		add(name, v)
	})
	for name, value := range m.All() {
		if !validName(name) || !validValue(value) {
			l.RaiseError("the name or the value of the header has characters that it must not have")
		}
	}
}

func (h *host) escape(l *glua.LState, _ *run) int {
	text := l.CheckString(2)
	h.vm.Charge(l, 2*len(text))
	return pushText(l, base64.StdEncoding.EncodeToString([]byte(text)))
}

// now is the time in milliseconds or in microseconds, as argument i says.
func now(l *glua.LState, i int) int64 {
	switch n := l.OptInt(i, 0); n {
	case 0:
		return time.Now().UnixMilli()
	case 1:
		return time.Now().UnixMicro()
	default:
		l.RaiseError("timestamp format must be MILLISECOND or MICROSECOND.")
		return 0
	}
}

func timestamp(l *glua.LState, _ *run) int {
	l.Push(glua.LNumber(now(l, 2)))
	return 1
}

func timestampText(l *glua.LState, _ *run) int { return pushText(l, strconv.FormatInt(now(l, 2), 10)) }

func clearRoute(_ *glua.LState, r *run) int {
	r.s.Engine.RefreshRoute()
	return 0
}

// overrideHost is setUpstreamOverrideHost(host, strict).
func overrideHost(l *glua.LState, r *run) int {
	addr := l.CheckString(2)
	if r.response {
		l.RaiseError("setUpstreamOverrideHost() cannot be called in the response path")
	}
	if !validHost(addr) {
		l.RaiseError("host is not a valid IP address")
	}
	r.s.Upstream = cluster.OverrideHost{Addr: addr, Strict: l.OptBool(3, false)}
	return 0
}
