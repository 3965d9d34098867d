package why

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Sentence says a decision without who made it: `takes, in virtual host "shop" route[2]: all`.
func (d *Told) Sentence() string {
	return string(appendSentence(nil, d.What, d.N, d.Of, d.Place, d.Peer, d.Because))
}

func appendSentence(dst []byte, what string, n int, of string, place int, peer, because string) []byte {
	dst = append(dst, what...)
	if n != 0 {
		dst = strconv.AppendInt(append(dst, ' '), int64(n), 10)
	}
	if of != "" {
		dst = strconv.AppendQuote(append(dst, ' '), of)
	}
	if place > 0 {
		dst = append(strconv.AppendInt(append(dst, " route["...), int64(place-1), 10), ']')
	}
	if peer != "" {
		dst = append(append(dst, ' '), peer...)
	}
	if because != "" {
		dst = append(append(dst, ": "...), because...)
	}
	return dst
}

// AppendLine appends all decisions as one line of text, for access logs.
func (r *Record) AppendLine(dst []byte) []byte {
	for i := range r.Decisions() {
		if i > 0 {
			dst = append(dst, "; "...)
		}
		d := &r.list[i]
		dst = append(append(dst, d.By...), ' ')
		peer := ""
		if d.Peer != nil {
			peer = d.Peer.String()
		}
		dst = appendSentence(dst, d.What, d.N, d.Of, d.Place, peer, d.Because)
	}
	if n := r.Lost(); n > 0 {
		dst = append(strconv.AppendInt(append(dst, "; and "...), int64(n), 10), " more"...)
	}
	return dst
}

// millis is a duration in milliseconds, with microseconds.
func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// WriteLine writes an exchange in one line.
func (e *Exchange) WriteLine(w io.Writer) {
	fmt.Fprintf(w, "%s %3d %9s ms  %-36s  %s %s%s", e.Start.Format("15:04:05.000"), e.Code, millis(e.End), shown(orNone(e.ID)), shown(e.Method), shown(e.Host), shown(e.Path))
	e.outcome(w)
}

// outcome ends a line with response flags and details, if they say anything.
func (e *Exchange) outcome(w io.Writer) {
	if e.Flags != 0 {
		fmt.Fprintf(w, "  %s", e.Flags)
	}
	if e.Details != "" && e.Details != "via_upstream" {
		fmt.Fprintf(w, "  %s", shown(e.Details))
	}
	fmt.Fprintln(w)
}

// WriteText tells an exchange to somebody at a terminal.
func (e *Exchange) WriteText(w io.Writer) {
	fmt.Fprintf(w, "%s %s%s  ->  %d", shown(e.Method), shown(e.Host), shown(e.Path), e.Code)
	e.outcome(w)
	fmt.Fprintf(w, "request ID %s, at %s, from %s, over %s\n", shown(orNone(e.ID)), e.Start.Format("2006-01-02 15:04:05.000"), e.Client, e.Protocol)
	fmt.Fprintf(w, "listener %q, filter chain %q", e.Listener, e.FilterChain)
	if e.Cluster != "" {
		fmt.Fprintf(w, ", cluster %q", e.Cluster)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(w, ", %d attempts", e.Attempts)
	}
	fmt.Fprintln(w, "\n\nWhat was decided (milliseconds since the start):")
	for i := range e.Decisions {
		d := &e.Decisions[i]
		fmt.Fprintf(w, "%10s  %s: %s\n", millis(d.At), d.By, shown(d.Sentence()))
	}
	if e.Lost > 0 {
		fmt.Fprintf(w, "            and %d more, for which there was no room\n", e.Lost)
	}
	fmt.Fprintln(w, "\nWhere the time went (milliseconds):")
	for _, p := range e.Phases {
		fmt.Fprintf(w, "%10s  %3.0f %%  %s\n", millis(p.Took), percent(p.Took, e.End), p.Name)
	}
	fmt.Fprintf(w, "%10s         in all\n", millis(e.End))
}

// WriteForecast tells what would become of a request that nobody has sent.
func (e *Exchange) WriteForecast(w io.Writer) {
	fmt.Fprintf(w, "%s %s%s  ->  ", shown(e.Method), shown(e.Host), shown(e.Path))
	switch {
	case e.Code != 0:
		fmt.Fprintf(w, "would be answered with %d", e.Code)
		e.outcome(w)
	case e.Cluster != "":
		fmt.Fprintf(w, "would be sent to cluster %q\n", e.Cluster)
	default:
		fmt.Fprintln(w, "would pass")
	}
	fmt.Fprintf(w, "listener %q, filter chain %q\n\nWhat would be decided:\n", e.Listener, e.FilterChain)
	for i := range e.Decisions {
		d := &e.Decisions[i]
		fmt.Fprintf(w, "  %s: %s\n", d.By, shown(d.Sentence()))
	}
	if e.Lost > 0 {
		fmt.Fprintf(w, "  and %d more, for which there was no room\n", e.Lost)
	}
}

func percent(part, all time.Duration) float64 {
	if all <= 0 {
		return 0
	}
	return 100 * float64(part) / float64(all)
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

// shown is a text from a peer as a terminal may see it: what could steer the terminal is
// replaced.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
