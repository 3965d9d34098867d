// Package dialogue plays scripts of what clients and upstreams say to a proxy and
// compares with what each of them sees. A script is a text file that people read as
// the specification of a behaviour; the same file runs against mecha in this process
// and against any proxy with Envoy's command line, above all Envoy.
//
// A file holds cases:
//
//	=== retry-5xx
//	# A 503 is tried again, as the route says.
//	config
//	  routes:
//	  - match: {prefix: /}
//	    route: {cluster: $up, retry_policy: {retry_on: 5xx}}
//
//	c> GET / HTTP/1.1
//	c> Host: a
//	c>
//
//	u< GET / HTTP/1.1
//	u< host: a
//	u<
//	u> HTTP/1.1 503 Service Unavailable
//	u> content-length: 0
//	u>
//	...
//	log: 200 via_upstream -
//	stat: cluster.$up.upstream_rq_retry 1
//
// Steps run in order. Lines of the same kind that follow each other are one step;
// an empty line ends a step.
//
//	c> LINE      the client sends LINE and CRLF; c, c2, c3... are connections, made
//	             when they are first used
//	c>> TEXT     the same without CRLF
//	c< LINE      the client reads one HTTP message; the lines are what is expected
//	c<head LINE  it reads one message head
//	c<5 LINE     it reads five bytes
//	c<end LINE   it reads until the connection is over
//	c! close     close, shut (half-close), reset
//	u> u< u!     the same for connections that the proxy made to cluster $up, in the
//	             order in which it made them: u, u2, u3...; v, v2... are those to $other
//	admin TEXT   POST to a path of the admin endpoint
//	wait 200ms   let time pass, where time is what the case is about
//	log: TEXT    a line of the access log: code, details, flags (for tcp: flags, bytes
//	             received and sent)
//	stat: N V    a counter or gauge
//
// What is sent may contain \r \n \t \\ \xHH and {{a*70000}}, which repeats. What is read
// is normalised: header fields are sorted by name, bodies are decoded, dates, random
// IDs, times and addresses are replaced by words. A message after which the connection
// must end is followed by "(closed)".
//
// "in one piece: why" after the heading says that how the bytes are cut is part of the
// case, so that it is not played in random pieces.
//
// The configuration is YAML that is merged over a listener with one connection manager
// and one route to $up; see configFor. "differs from Envoy: why" after the heading says
// that mecha deliberately does something else; such a case must then really differ.
package dialogue

import "strings"

// Case is one dialogue.
type Case struct {
	File, Name string
	Line       int      // of the heading
	About      []string // comment lines
	Config     string   // YAML
	Differs    string   // why Envoy does something else, "" if it must not
	Whole      string   // why the case is not played in pieces, "" if it is
	Steps      []Step
	Subject    Subject
}

// Subject is the HTTP filter that cases are about: what "filter" in their configuration
// configures, and "overrides" for routes by path prefix.
type Subject struct{ Name, Type, RouteType string }

// Op is what a step does.
type Op uint8

// The steps.
const (
	Send     Op = iota // Lines are what is sent, escapes resolved
	Read               // one HTTP message
	ReadHead           // one head
	ReadN              // N bytes
	ReadEnd            // until the connection is over
	Act                // Arg: close, shut, reset
	Admin              // Arg: path
	Wait               // Arg: how long
	Log                // Arg: expected line
	Stat               // Arg: name and value
)

// Step is one step of a case.
type Step struct {
	Op    Op
	Who   string // "c", "c2", "u", "v"...
	N     int
	Arg   string
	Data  []byte   // Send
	Lines []string // as in the file; for reads what is expected
	Line  int      // in the file
	Blank bool     // an empty line or comment precedes
	Notes []string // comment lines before the step
}

// reads reports whether the step compares what a connection gets.
func (s *Step) reads() bool { return s.Op >= Read && s.Op <= ReadEnd }

// prefix is how the lines of the step begin in a file.
func (s *Step) prefix() string {
	switch s.Op {
	case Read:
		return s.Who + "<"
	case ReadHead:
		return s.Who + "<head"
	case ReadN:
		return s.Who + "<" + itoa(s.N)
	case ReadEnd:
		return s.Who + "<end"
	}
	return ""
}

// Client reports whether a name is that of a client's connection.
func client(who string) bool { return strings.HasPrefix(who, "c") }
