package wasm

import (
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// maxCalls is how many calls, over HTTP and gRPC, an instance may wait for.
const maxCalls = 256

// callInfo is what a callback is about besides its context, for as long as it runs.
type callInfo struct {
	configuration string // of the VM or the plugin
	answered      bool
	response      call.Response // to an HTTP call
	body          buffer.Buf    // of the response, or the message

	initial, trailing *header.Map  // metadata of a gRPC call
	hasMessage        bool         // body is a gRPC message
	status            *call.Status // of a gRPC call that has ended
}

// answerMap is a header map of the answer that a callback is about.
func (in *Instance) answerMap(t MapType) *header.Map {
	if in.call == nil {
		return nil
	}
	switch {
	case t == GRPCInitialMetadata:
		return in.call.initial
	case t == GRPCTrailingMetadata:
		return in.call.trailing
	case t == CallResponseHeaders && in.call.answered:
		return &in.call.response.Header
	case t == CallResponseTrailers && in.call.answered:
		return &in.call.response.Trailers
	}
	return nil
}

// httpCall is (cluster, fields, body, trailers, timeout in ms, where the token goes).
func (in *Instance) httpCall(a []uint64) Status {
	c := in.effective
	if c == nil {
		return StatusBadArgument
	}
	if c.root != nil {
		c = c.root
	}
	name, ok1 := in.view(a[0], a[1])
	fields, ok2 := in.view(a[2], a[3])
	body, ok3 := in.view(a[4], a[5])
	trailers, ok4 := in.view(a[6], a[7])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return StatusInvalidMemoryAccess
	}
	env := &c.plugin.env
	q := &call.Request{Cluster: string(name), Anonymous: true, Timeout: time.Duration(uint32(a[8])) * time.Millisecond}
	if env.Clusters == nil || env.Clusters.Cluster(q.Cluster) == nil {
		return StatusBadArgument
	}
	if !readPairs(fields, pairsInto(&q.Header)) || !readPairs(trailers, pairsInto(&q.Trailers)) {
		return StatusBadArgument
	}
	if !q.Header.Has(header.Path) || !q.Header.Has(header.Method) || !q.Header.Has(header.Authority) {
		return StatusBadArgument
	}
	if in.calls >= maxCalls {
		c.plugin.counters.Denied.Inc()
		return StatusInternalFailure
	}
	q.Header.DelID(header.ContentLength)
	if len(body) > 0 {
		q.Header.SetInt(header.ContentLength, int64(len(body)))
	}
	in.token++
	token := in.token
	if s := in.put32(a[9], token); s != StatusOK {
		return s
	}
	q.Body.AppendString(string(body))
	in.calls++
	go c.await(q, token)
	return StatusOK
}

// pairsInto adds pairs to a map, in memory of its own.
func pairsInto(m *header.Map) func(name, value []byte) bool {
	return func(name, value []byte) bool {
		n, v := strings.ToLower(string(name)), string(value)
		if valid(n, v) {
			m.Add(n, v)
			return true
		}
		return false
	}
}

// await makes a call and tells the guest of the answer, of which nothing is there where
// there is none.
func (c *Context) await(q *call.Request, token uint32) {
	in := c.in
	info := &callInfo{answered: true}
	err := call.NewClient(c.plugin.env.Clusters).Do(call.Background(in.life), q, &info.response)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.calls--
	if c.over || in.closed || c.failed {
		return
	}
	var fields, trailers int
	if err == nil {
		info.body.Append(info.response.Body)
		defer info.body.Release()
		fields, trailers = info.response.Header.Len(), info.response.Trailers.Len()
	} else {
		info.response = call.Response{}
		c.plugin.env.Log.Debug("wasm: a call has failed", "plugin", c.plugin.Name, "cluster", q.Cluster, "err", err)
	}
	before := in.call
	in.call = info
	_, _, _ = c.invoke(onHTTPCallResponse, uint64(token), uint64(fields), uint64(info.body.Len()), uint64(trailers)) // a failure is noted
	in.call = before
}
