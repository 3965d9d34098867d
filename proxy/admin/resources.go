package admin

import (
	"fmt"
	"net/http"
)

// serveResources shows what the process was configured with, and what of it is used: in a
// mesh that is little. It is mecha's own..
func (s *Server) serveResources(w http.ResponseWriter, r *http.Request) {
	src, can := s.cfg.Source.(ResourceLister)
	if !can {
		fail(w, http.StatusNotFound, "resources are not known here")
		return
	}
	ps := ParseParams(r.URL.RawQuery)
	list := []ResourceView{}
	for _, v := range src.Resources() {
		if state := ps.Get("state"); state == "" || v.is(state) {
			list = append(list, v)
		}
	}
	if ps.Get("format") == "json" {
		writeJSON(w, map[string][]ResourceView{"resources": list})
		return
	}
	for _, v := range list {
		fmt.Fprintf(w, "%s::%s::%s", v.Type, v.Name, v.use())
		for _, word := range []string{"static", "stale", "refused"} {
			if v.is(word) {
				fmt.Fprintf(w, ",%s", word)
			}
		}
		if v.Version != "" {
			fmt.Fprintf(w, "::%s", v.Version)
		}
		fmt.Fprintln(w)
	}
}

func (v ResourceView) use() string {
	if v.Used {
		return "used"
	}
	return "unused"
}

// is reports whether a word describes the resource.
func (v ResourceView) is(state string) bool {
	switch state {
	case "static":
		return v.Static
	case "stale":
		return v.Stale
	case "refused":
		return v.Refused != ""
	}
	return state == v.use()
}
