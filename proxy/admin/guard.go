package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// refuse returns why a request may not be served, "" if it may. Programs may do
// everything. A browser on the same machine reaches a loopback address for any web
// page it shows, by a cross-site form or, with DNS rebinding, as the page's own
// origin; so a page of another origin may change nothing, and a loopback address
// may be named only by IP or as localhost.
func refuse(r *http.Request, mutates bool) string {
	origin := r.Header.Get("Origin")
	site := r.Header.Get("Sec-Fetch-Site")
	if origin == "" && site == "" && r.Header.Get("Accept-Language") == "" {
		return "" // no browser
	}
	if !localName(r.Host) && onLoopback(r) {
		return "admin: a browser may address this port by IP or as localhost only"
	}
	if !mutates {
		return ""
	}
	if site == "cross-site" || site == "same-site" {
		return "admin: a page of another site may not change anything here"
	}
	if origin != "" {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return "admin: a page of another origin may not change anything here"
		}
	}
	return ""
}

// localName reports whether a Host is an IP address or localhost.
func localName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(strings.TrimSuffix(host, "."), "[]"))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// onLoopback reports whether the request came over a loopback address or a unix
// socket.
func onLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	tcp, ok := local.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
