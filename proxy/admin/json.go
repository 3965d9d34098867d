package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// writeJSON answers with v, indented as Envoy does.
func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", asked)
	_, _ = w.Write(append(b, '\n')) // the one who asked has gone
}

// decimal is a 64-bit number, which JSON of protobuf writes as a string.
type decimal uint64

// MarshalText implements encoding.TextMarshaler.
func (d decimal) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(d), 10), nil }

// addressJSON is envoy.config.core.v3.Address.
type addressJSON struct {
	Socket *socketJSON `json:"socket_address,omitempty"`
	Pipe   *pipeJSON   `json:"pipe,omitempty"`
}

type socketJSON struct {
	Address string `json:"address"`
	Port    uint16 `json:"port_value"`
}

type pipeJSON struct {
	Path string `json:"path"`
}

func toAddress(a meta.Addr) addressJSON {
	if a.IsUnix() {
		return addressJSON{Pipe: &pipeJSON{a.Path}}
	}
	if !a.Known() {
		return addressJSON{}
	}
	return addressJSON{Socket: &socketJSON{a.Addr().String(), a.Port()}}
}

func (s *Server) serveInfo(w http.ResponseWriter, _ *http.Request) {
	info := s.cfg.Source.ServerInfo()
	uptime := strconv.FormatInt(int64(time.Since(info.Start)/time.Second), 10) + "s"
	writeJSON(w, struct {
		Version    string          `json:"version"`
		State      State           `json:"state"`
		Uptime     string          `json:"uptime_current_epoch"`
		UptimeAll  string          `json:"uptime_all_epochs"`
		HotRestart string          `json:"hot_restart_version"`
		Restarting bool            `json:"hot_restart_initializing"`
		Options    any             `json:"command_line_options,omitempty"`
		Node       json.RawMessage `json:"node,omitempty"`
	}{info.Version, s.cfg.Source.State(), uptime, uptime, info.HotRestartVersion, false, info.CommandLine, info.Node})
}

func (s *Server) serveListeners(w http.ResponseWriter, r *http.Request) {
	views := s.cfg.Source.Listeners()
	if ParseParams(r.URL.RawQuery).Get("format") != "json" {
		for _, v := range views {
			fmt.Fprintf(w, "%s::%s\n", v.Name, v.Address)
			for _, a := range v.Additional {
				fmt.Fprintf(w, "%s::%s\n", v.Name, a)
			}
		}
		return
	}
	type listener struct {
		Name       string        `json:"name"`
		Address    addressJSON   `json:"local_address"`
		Additional []addressJSON `json:"additional_local_addresses,omitempty"`
	}
	out := struct {
		Listeners []listener `json:"listener_statuses,omitempty"`
	}{}
	for _, v := range views {
		l := listener{Name: v.Name, Address: toAddress(v.Address)}
		for _, a := range v.Additional {
			l.Additional = append(l.Additional, toAddress(a))
		}
		out.Listeners = append(out.Listeners, l)
	}
	writeJSON(w, out)
}

// serveInitDump shows envoy.admin.v3.UnreadyTargetsDumps. A mask says what is asked
// for: "listener" is all that Envoy knows.
func (s *Server) serveInitDump(w http.ResponseWriter, r *http.Request) {
	type dump struct {
		Name    string   `json:"name"`
		Targets []string `json:"target_names,omitempty"`
	}
	out := struct {
		Dumps []dump `json:"unready_targets_dumps,omitempty"`
	}{}
	mask, masked := ParseParams(r.URL.RawQuery).Find("mask")
	if src, can := s.cfg.Source.(Initializer); can && (!masked || mask == "listener") {
		for _, u := range src.Unready() {
			out.Dumps = append(out.Dumps, dump(u))
		}
	}
	writeJSON(w, out)
}

func (s *Server) serveRuntime(w http.ResponseWriter, _ *http.Request) {
	view := s.cfg.Source.Runtime()
	if view.Layers == nil {
		view.Layers = []string{}
	}
	if view.Entries == nil {
		view.Entries = map[string]RuntimeEntry{}
	}
	writeJSON(w, struct {
		Layers  []string                `json:"layers"`
		Entries map[string]RuntimeEntry `json:"entries"`
	}(view))
}

// serveMemory shows envoy.admin.v3.Memory as far as Go's runtime knows the like.
func (s *Server) serveMemory(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	writeJSON(w, struct {
		Allocated decimal `json:"allocated"`
		HeapSize  decimal `json:"heap_size"`
		Unmapped  decimal `json:"pageheap_unmapped"`
		Free      decimal `json:"pageheap_free"`
		Cache     decimal `json:"total_thread_cache"`
		Physical  decimal `json:"total_physical_bytes"`
	}{
		decimal(m.HeapAlloc), decimal(m.HeapSys), decimal(m.HeapReleased), decimal(m.HeapIdle - m.HeapReleased),
		decimal(m.MCacheInuse), decimal(m.Sys - m.HeapReleased),
	})
}
