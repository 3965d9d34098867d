package redisproxy

import (
	"bytes"
	"crypto/subtle"
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// early reports whether a command is allowed before a client has authenticated itself.
func (c *command) early() bool {
	switch c.name {
	case "auth", "hello", "quit":
		return true
	}
	return false
}

// subscriber reports whether a command is allowed while a client of RESP2 has subscriptions.
func (c *command) subscriber() bool {
	switch c.name {
	case "ping", "quit", "reset":
		return true
	}
	return c.kind == subscribe || c.kind == unsubscribe
}

// answer carries out a command that concerns this proxy alone.
func (s *session) answer(c *command) {
	switch c.name {
	case "ping":
		s.ping()
	case "echo":
		if len(s.args) != 2 {
			s.refuse(invalid)
			return
		}
		before := s.said.Len()
		resp.AppendBulk(&s.said, s.args[1])
		s.local(s.said.Len() - before)
	case "time":
		s.tellTime()
	case "auth":
		s.auth()
	case "hello":
		s.hello()
	case "client":
		s.client()
	case "select":
		s.selectDB()
	case "quit":
		s.say("+OK\r\n")
		s.quit = true
	case "reset":
		s.reset()
	default:
		s.transact(c)
	}
}

func (s *session) ping() {
	if s.subs.active() && s.version == 2 {
		before := s.said.Len()
		resp.AppendHeader(&s.said, resp.Array, 2)
		resp.AppendText(&s.said, "pong")
		text := []byte(nil)
		if len(s.args) > 1 {
			text = s.args[1]
		}
		resp.AppendBulk(&s.said, text)
		s.local(s.said.Len() - before)
		return
	}
	s.say("+PONG\r\n")
}

func (s *session) tellTime() {
	now := time.Now()
	before := s.said.Len()
	resp.AppendHeader(&s.said, resp.Array, 2)
	resp.AppendText(&s.said, strconv.FormatInt(now.Unix(), 10))
	resp.AppendText(&s.said, strconv.Itoa(now.Nanosecond()/1000))
	s.local(s.said.Len() - before)
}

// auth is AUTH [username] password.
func (s *session) auth() {
	switch n := len(s.args); {
	case n < 2:
		s.refuse(invalid)
	case len(s.c.Users) == 0 && n == 2:
		s.sayError("ERR Client sent AUTH, but no password is set")
	case len(s.c.Users) == 0 || n > 3:
		s.sayError("ERR Client sent AUTH, but no username-password pair is set")
	case n == 2:
		s.login("", s.args[1], "ERR invalid password")
	default:
		s.login(string(s.args[1]), s.args[2], "WRONGPASS invalid username-password pair")
	}
}

func (s *session) login(name string, password []byte, wrong string) {
	if !s.admits(name, password) {
		s.authed = false
		s.sayError(wrong)
		return
	}
	s.authed = true
	s.say("+OK\r\n")
}

// admits compares with all users in the same time, whoever it may be. The short form of AUTH
// has no name.
func (s *session) admits(name string, password []byte) bool {
	found := 0
	for _, u := range s.c.Users {
		same := subtle.ConstantTimeCompare([]byte(u.password), password)
		who := name == "" || u.name == name || u.name == "" && name == "default"
		if who {
			found |= same
		}
	}
	return found == 1
}

// hello is HELLO [version [AUTH name password] [SETNAME name]].
func (s *session) hello() {
	version := s.version
	if len(s.args) > 1 {
		n, err := strconv.Atoi(string(s.args[1]))
		if err != nil || n != s.c.Version {
			s.noProto()
			return
		}
		version = n
	} else if version != s.c.Version {
		s.noProto()
		return
	}
	for i := 2; i < len(s.args); i++ {
		switch {
		case bytes.EqualFold(s.args[i], []byte("auth")) && i+2 < len(s.args):
			if len(s.c.Users) == 0 {
				s.sayError("ERR Client sent AUTH, but no username-password pair is set")
				return
			}
			if !s.admits(string(s.args[i+1]), s.args[i+2]) {
				s.authed = false
				s.sayError("WRONGPASS invalid username-password pair")
				return
			}
			s.authed = true
			i += 2
		case bytes.EqualFold(s.args[i], []byte("setname")) && i+1 < len(s.args):
			i++
		default:
			s.sayError("ERR syntax error in HELLO")
			return
		}
	}
	if !s.authed {
		s.sayError("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	s.version = version
	s.greeting()
}

func (s *session) noProto() {
	s.sayError("NOPROTO unsupported protocol version")
}

func (s *session) greeting() {
	before := s.said.Len()
	if s.version == 3 {
		resp.AppendHeader(&s.said, resp.Map, 7)
	} else {
		resp.AppendHeader(&s.said, resp.Array, 14)
	}
	text := func(name, value string) {
		resp.AppendText(&s.said, name)
		resp.AppendText(&s.said, value)
	}
	text("server", "mecha-redis-proxy")
	text("version", "6.0.0")
	resp.AppendText(&s.said, "proto")
	resp.AppendInteger(&s.said, int64(s.version))
	resp.AppendText(&s.said, "id")
	resp.AppendInteger(&s.said, 0)
	text("mode", "standalone")
	text("role", "master")
	resp.AppendText(&s.said, "modules")
	resp.AppendHeader(&s.said, resp.Array, 0)
	s.local(s.said.Len() - before)
}

// client takes what clients say of themselves; what would need a connection of their own at
// the host is refused.
func (s *session) client() {
	if len(s.args) < 2 {
		s.refuse(invalid)
		return
	}
	switch sub := strings.ToLower(string(s.args[1])); sub {
	case "setname", "setinfo":
		s.say("+OK\r\n")
	default:
		s.sayError("ERR CLIENT subcommand '" + strings.ToUpper(sub[:min(len(sub), 64)]) + "' is not supported by the proxy")
	}
}

// selectDB makes the commands that follow use another database. Envoy sends SELECT to all
// hosts on connections that other clients use, too; here it is the client's own choice.
func (s *session) selectDB() {
	if len(s.args) < 2 {
		s.refuse(invalid)
		return
	}
	n, err := strconv.Atoi(string(s.args[1]))
	if err != nil || n < 0 || n > 1<<16 {
		s.sayError("ERR invalid DB index")
		return
	}
	s.db = n
	s.say("+OK\r\n")
}

// reset forgets what the client has said of itself.
func (s *session) reset() {
	s.tx.drop()
	s.subs.end()
	s.db, s.version = 0, 2
	s.authed = len(s.c.Users) == 0
	s.say("+RESET\r\n")
}
