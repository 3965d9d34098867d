package lua

import (
	"context"
	"errors"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// options are those of httpCall.
type options struct {
	async      bool
	timeout    time.Duration
	duplicates bool // return_duplicate_headers
	anonymous  bool // send_xff is false
}

// httpCall is httpCall(cluster, headers, body, timeout_ms, async) or
// httpCall(cluster, headers, body, options).
func (h *host) httpCall(l *glua.LState, r *run) int {
	q := &call.Request{Cluster: l.CheckString(2)}
	if r.env.Clusters == nil || r.env.Clusters.Cluster(q.Cluster) == nil {
		l.RaiseError("http call cluster invalid. Must be configured")
	}
	o := callOptions(l)
	fieldsOf(l, l.CheckTable(3), &q.Header)
	if !q.Header.Has(header.Path) || !q.Header.Has(header.Method) || !q.Header.Has(header.Authority) {
		l.RaiseError("http call headers must include ':path', ':method', and ':authority'")
	}
	body := l.OptString(4, "")
	q.Header.DelID(header.ContentLength)
	if body != "" {
		q.Header.SetInt(header.ContentLength, int64(len(body)))
	}
	q.Timeout, q.Anonymous = o.timeout, o.anonymous
	if o.async {
		r.background(q, body)
		return 0
	}
	q.Body.AppendString(body)
	var a call.Response
	var err error
	r.waiting(func() { err = r.client.Do(r.s.Engine, q, &a) })
	if ended := call.Ended(err); ended != nil {
		r.reply = ended
		l.RaiseError("the stream has ended")
	}
	if err != nil {
		explain(&a, err)
	}
	h.vm.Charge(l, len(a.Body)+a.Header.Bytes())
	l.Push(answer(l, &a.Header, o.duplicates))
	if len(a.Body) == 0 {
		return pushNil(l, r) + 1
	}
	return pushText(l, string(a.Body)) + 1
}

// callOptions reads what follows the body.
func callOptions(l *glua.LState) (o options) {
	ms := l.Get(5)
	if t, ok := ms.(*glua.LTable); ok {
		flag := func(name string) bool { return glua.LVAsBool(t.RawGetString(name)) }
		o.async, o.duplicates = flag("asynchronous"), flag("return_duplicate_headers")
		o.anonymous = t.RawGetString("send_xff") == glua.LFalse
		ms = t.RawGetString("timeout_ms")
	} else {
		ms = glua.LNumber(l.CheckInt(5))
		o.async = l.ToBool(6)
	}
	n := int(glua.LVAsNumber(ms))
	if n < 0 {
		l.RaiseError("http call timeout must be >= 0")
	}
	o.timeout = time.Duration(n) * time.Millisecond
	return o
}

// explain makes the answer that the router would give of a failed call.
func explain(a *call.Response, err error) {
	code, body := 503, "upstream connect error or disconnect/reset before headers"
	var ce *cluster.ConnectError
	switch {
	case errors.Is(err, call.ErrTimeout):
		code, body = 504, "upstream request timeout"
	case errors.Is(err, cluster.ErrNoHealthyHost):
		body = "no healthy upstream"
	case errors.Is(err, cluster.ErrOverflow), errors.Is(err, cluster.ErrPendingOverflow):
		body += ". reset reason: overflow"
	case errors.As(err, &ce):
		body += ". reset reason: connection failure"
	default:
		body = "upstream failure"
	}
	a.Header.Reset()
	a.Header.SetInt(header.Status, int64(code))
	a.Header.SetInt(header.ContentLength, int64(len(body)))
	a.Header.SetID(header.ContentType, "text/plain")
	a.Body = []byte(body)
}

// answer is the table of header fields of an answer. Of fields that are there twice it has
// the last one, or lists.
func answer(l *glua.LState, m *header.Map, duplicates bool) *glua.LTable {
	t := l.CreateTable(0, m.Len())
	for name, value := range m.All() {
		old := t.RawGetString(name)
		switch {
		case !duplicates || old == glua.LNil:
			t.RawSetString(name, glua.LString(value))
		default:
			list, ok := old.(*glua.LTable)
			if !ok {
				list = l.NewTable()
				list.Append(old)
				t.RawSetString(name, list)
			}
			list.Append(glua.LString(value))
		}
	}
	return t
}

// maxBackground is how many calls of one filter nobody may wait for at once.
const maxBackground = 256

// background makes a call that nobody waits for.
func (r *run) background(q *call.Request, body string) {
	sh := r.shared
	select {
	case sh.calls <- struct{}{}:
	default:
		sh.env.Log.Warn("lua: too many calls at once that nobody waits for: one is left out")
		return
	}
	go func() {
		defer func() { <-sh.calls }()
		q.Body.AppendString(body)
		var a call.Response
		if err := sh.client.Do(call.Background(context.Background()), q, &a); err != nil {
			sh.env.Log.Debug("lua: a call that nobody waits for has failed", "cluster", q.Cluster, "err", err)
		}
	}()
}
