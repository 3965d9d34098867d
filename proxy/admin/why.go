package admin

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/why"
)

// mostExchanges is how many exchanges one answer of /why has.
const mostExchanges = 10_000

// serveWhy tells what was decided about a request, or lists the newest ones. It is mecha's
// own.
func (s *Server) serveWhy(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Journal == nil {
		fail(w, http.StatusNotFound, "no requests are remembered: the proxy runs with --why-records 0")
		return
	}
	ps := ParseParams(r.URL.RawQuery)
	if ps.Has("id") {
		s.serveOneWhy(w, ps)
		return
	}
	n := 20
	if ps.Has("last") {
		var err error
		if n, err = strconv.Atoi(ps.Get("last")); err != nil || n < 1 {
			fail(w, http.StatusBadRequest, fmt.Sprintf("last: %q is not a number of requests", ps.Get("last")))
			return
		}
	}
	list := s.cfg.Journal.Newest(min(n, mostExchanges), ps.Has("wrong"))
	if ps.Get("format") == "json" {
		if list == nil {
			list = []*why.Exchange{}
		}
		writeJSON(w, map[string][]*why.Exchange{"exchanges": list})
		return
	}
	for _, e := range list {
		e.WriteLine(w)
	}
}

func (s *Server) serveOneWhy(w http.ResponseWriter, ps Params) {
	e := s.cfg.Journal.Find(ps.Get("id"))
	switch {
	case e == nil:
		fail(w, http.StatusNotFound, fmt.Sprintf("no request with the ID %q is remembered (any more)", ps.Get("id")))
	case ps.Get("format") == "json":
		writeJSON(w, e)
	default:
		e.WriteText(w)
	}
}

// serveWhatIf tells what would become of a request.
func (s *Server) serveWhatIf(w http.ResponseWriter, r *http.Request) {
	src, can := s.cfg.Source.(Forecaster)
	if !can {
		fail(w, http.StatusNotFound, "forecasts are not made here")
		return
	}
	ps := ParseParams(r.URL.RawQuery)
	q := WhatIf{Method: "GET", URL: ps.Get("url"), Listener: ps.Get("listener"), To: ps.Get("to"), From: ps.Get("from")}
	if m, given := ps.Find("method"); given {
		q.Method = m
	}
	for _, p := range ps {
		if p.Key == "header" {
			q.Headers = append(q.Headers, p.Value)
		}
	}
	e, err := src.Forecast(q)
	switch {
	case err != nil:
		fail(w, http.StatusBadRequest, err.Error())
	case ps.Get("format") == "json":
		writeJSON(w, e)
	default:
		e.WriteForecast(w)
	}
}
