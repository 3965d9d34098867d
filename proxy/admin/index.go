package admin

import (
	"bytes"
	_ "embed"
	"fmt"
	"html"
	"net/http"
	"strings"
)

//go:embed index.css
var indexCSS string

// serveIndex is a page that lists the endpoints. It works without scripts: reading
// is by links, changing by forms. (No template: package html/template would keep
// every exported method of the program linked.)
func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	state, version := string(s.cfg.Source.State()), s.cfg.Source.ServerInfo().Version
	var out bytes.Buffer
	fmt.Fprintf(&out, `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mecha admin</title>
<style>
%s</style>
<header>
<h1>mecha</h1>
<span class="state %[2]s">%[2]s</span>
<span class="version">%[3]s</span>
</header>
<main>
`, indexCSS, html.EscapeString(state), html.EscapeString(version))
	s.writeRows(&out, "Look", false)
	s.writeRows(&out, "Change", true)
	out.WriteString("</main>\n</html>\n")
	h := w.Header()
	h.Set("Content-Type", page)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	_, _ = out.WriteTo(w) // the one who asked has gone
}

func (s *Server) writeRows(out *bytes.Buffer, title string, post bool) {
	fmt.Fprintf(out, "<h2>%s</h2>\n<ul>\n", title)
	for _, e := range s.endpoints {
		if e.Post != post || e.Path == "/" {
			continue
		}
		path := html.EscapeString(e.Path)
		link := html.EscapeString(strings.TrimSuffix(e.Path, "*"))
		if post {
			fmt.Fprintf(out, `<li><form method="post" action="%s"><button>%s</button></form>`, link, path)
		} else {
			fmt.Fprintf(out, `<li><a href="%s">%s</a>`, link, path)
		}
		fmt.Fprintf(out, "<div>%s", html.EscapeString(e.Help))
		if len(e.Params) > 0 {
			out.WriteString("<details><summary>parameters</summary><dl>")
			for _, p := range e.Params {
				fmt.Fprintf(out, "<dt><code>%s</code></dt><dd>%s</dd>", html.EscapeString(p.Name), html.EscapeString(p.Help))
			}
			out.WriteString("</dl></details>")
		}
		out.WriteString("</div></li>\n")
	}
	out.WriteString("</ul>\n")
}
