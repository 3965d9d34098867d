package extauthz

import (
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

const (
	partialBody     = "x-envoy-auth-partial-body"
	headersToRemove = "x-envoy-auth-headers-to-remove"
)

// askHTTP asks a service over HTTP: a request like the client's, to which 200 is yes.
func (f *Filter) askHTTP(s *filter.Stream, q *question) (*decision, error) {
	h := q.service.http
	rq := &call.Request{Cluster: h.Cluster, Timeout: h.Timeout, Anonymous: true}
	f.describe(s, q, &rq.Header)
	if q.data != nil {
		q.data.Share(&rq.Body, min(q.data.Len(), q.body.Max))
	}
	rq.Header.SetInt(header.ContentLength, int64(rq.Body.Len()))
	h.Add.Apply(&rq.Header, s)
	var a call.Response
	d := &decision{asked: time.Now()}
	if err := f.client.DoAgain(s.Engine, rq, &a, h.Retries); err != nil {
		return d, call.Ended(err)
	}
	a.Header.SetInt(header.XEnvoyUpstreamServiceTime, time.Since(d.asked).Milliseconds())
	h.read(d, &a)
	return d, nil
}

// describe fills the head of the request to the service.
func (f *Filter) describe(s *filter.Stream, q *question, m *header.Map) {
	h := q.service.http
	for fd := range s.Request.Fields() {
		switch {
		case fd.ID == header.ContentLength, f.Disallowed.Match(fd.Name), !hasHeader(fd.ID) && !f.Allowed.Match(fd.Name):
		case fd.ID == header.Path && h.PathOverride != "":
			m.AddID(header.Path, h.PathOverride)
		case fd.ID == header.Path:
			m.AddID(header.Path, m.Concat(h.PathPrefix, fd.Value))
		default:
			if old, there := m.Find(fd.Name); there {
				m.Set(fd.Name, m.Concat(old, ",", fd.Value))
				continue
			}
			m.AddKnown(fd.ID, fd.Name, fd.Value)
		}
	}
	if q.data != nil {
		m.Add(partialBody, strconv.FormatBool(q.partial))
	}
}

// read turns an answer into a decision.
func (h *HTTPService) read(d *decision, a *call.Response) {
	code := a.Code()
	switch {
	case code >= 500:
		return
	case code == 200:
		d.verdict = allowed
		h.readAllowed(d, &a.Header)
		return
	}
	d.verdict, d.code, d.body = denied, code, string(a.Body)
	for fd := range a.Header.Fields() {
		if fd.ID == header.Status || fd.ID == header.ContentLength || fd.Name == headersToRemove || !h.toClient(fd.Name) {
			continue
		}
		d.reply = append(d.reply, mutation{fd.Name, fd.Value, overwriteOrAdd})
	}
}

func (h *HTTPService) readAllowed(d *decision, m *header.Map) {
	for v := range m.Values(headersToRemove) {
		for name := range strings.SplitSeq(v, ",") {
			if name = match.HeaderName(strings.TrimSpace(name)); name != "" {
				d.remove = append(d.remove, name)
			}
		}
	}
	var add []mutation
	for fd := range m.Fields() {
		if fd.Name == headersToRemove || fd.ID == header.Status {
			continue
		}
		if h.Upstream.Match(fd.Name) {
			d.request = append(d.request, mutation{fd.Name, fd.Value, overwriteOrAdd})
		}
		if h.UpstreamAppend.Match(fd.Name) {
			add = append(add, mutation{fd.Name, fd.Value, appendOrAdd})
		}
		if h.ClientSuccess.Match(fd.Name) {
			d.response = append(d.response, mutation{fd.Name, fd.Value, appendOrAdd})
		}
		if h.ToMetadata.Match(fd.Name) {
			if d.metadata == nil {
				d.metadata = map[string]any{}
			}
			d.metadata[fd.Name] = fd.Value
		}
	}
	d.request = append(d.request, add...)
}

// toClient reports whether the client is told a field of a denial.
func (h *HTTPService) toClient(name string) bool {
	if h.Client == nil {
		return name != "host"
	}
	return name == "www-authenticate" || name == "location" || h.Client.Match(name)
}
