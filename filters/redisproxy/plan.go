package redisproxy

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// op is a command of the batch, or a reply of our own.
type op struct {
	c     *command
	count *commandCounters // nil: nothing is counted
	parts int              // how many replies of hosts make the reply
	own   int              // bytes of said that are the reply, if there are no parts
	shape shape
}

// shape says what the replies of hosts become.
type shape uint8

const (
	asIs   shape = iota // the only one
	list                // an array of them
	agreed              // +OK, unless one is an error
	sum
	joined
	alike // what all say
	scanned
	merged // INFO
)

// part is what one host is asked for a command.
type part struct {
	l    *link       // nil: it was not sent
	text string      // the error then
	sent *buffer.Buf // what was sent, if it may have to be sent again
	cursor
}

const (
	noHost  = "no upstream host"
	failure = "upstream failure"
	invalid = "invalid request"
)

// alone reports whether the command must not be sent together with others: it may wait, or
// it changes what the connection is.
func (s *session) alone() bool {
	if len(s.args) == 0 {
		return false
	}
	c := s.commands.find(s.args[0])
	return c != nil && (c.blocking || c.kind == subscribe || c.kind == unsubscribe || s.delayed(c))
}

// plan takes the command in args and appends to what hosts are sent, or answers it.
func (s *session) plan() {
	if len(s.args) == 0 || len(s.args[0]) == 0 {
		s.refuse(invalid)
		return
	}
	c := s.commands.find(s.args[0])
	switch {
	case c == nil:
		s.unknown()
		return
	case s.subs.active() && s.version == 2 && !c.subscriber():
		s.sayError("ERR Can't execute '" + c.name + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
		return
	case !s.authed && !c.early():
		s.sayError("NOAUTH Authentication required.")
		return
	case s.c.Version == 3 && s.version != 3 && !c.early():
		s.s.NoProto.Inc()
		s.sayError("NOPROTO unsupported protocol version")
		return
	}
	if c.kind == local {
		s.answer(c)
		return
	}
	count := s.counted(c)
	if len(s.args) < c.least {
		s.short(c, count)
		return
	}
	if s.faulty(c, count) {
		return
	}
	before := len(s.ops)
	s.spread(c)
	for i := before; i < len(s.ops); i++ {
		s.ops[i].c, s.ops[i].count = c, count
	}
}

func (s *session) counted(c *command) *commandCounters {
	count := s.counts.Of(c.name)
	count.Total.Inc()
	return count
}

// refuse answers what is no command.
func (s *session) refuse(text string) {
	s.s.Invalid.Inc()
	s.sayError(text)
}

// short answers a command with too few arguments. Commands without any are told so in other
// words, as Envoy does.
func (s *session) short(c *command, count *commandCounters) {
	switch {
	case len(s.args) < 2:
		s.refuse(invalid)
	case c.kind == single:
		// The host knows better what is wrong.
		s.spread(c)
		s.ops[len(s.ops)-1].count = count
		return
	default:
		s.s.Invalid.Inc()
		s.sayError("wrong number of arguments for '" + strings.ToUpper(c.name) + "' command")
	}
	count.Error.Inc()
}

func (s *session) unknown() {
	s.s.Unsupported.Inc()
	const longest = 128
	var b strings.Builder
	b.WriteString("ERR unknown command '")
	b.Write(s.args[0][:min(len(s.args[0]), longest)])
	b.WriteString("', with args beginning with: ")
	if len(s.args) > 1 {
		b.Write(s.args[1][:min(len(s.args[1]), longest)])
	}
	s.sayError(b.String())
}

// spread sends a command to where it belongs.
func (s *session) spread(c *command) {
	if s.tx.open || s.tx.l != nil {
		if s.inTransaction(c) {
			return
		}
	}
	switch c.kind {
	case single, script:
		s.toKey(c)
	case eachGet, eachSet, eachSum:
		s.toEach(c)
	case allAgree, allSum, allJoin, allInfo, allList:
		s.toAll(c)
	case allScan:
		s.scanNext()
	case oneInfo:
		s.toShard()
	case anyone:
		s.toAnyone()
	case subscribe, unsubscribe:
		s.then = s.subscribe(c, cloneAll(s.args))
	}
}

// toKey sends the command as it is to the host of its key.
func (s *session) toKey(c *command) {
	at := 1 // of a command that tells wrongly which are its keys: the host answers that
	c.keys(s.args, func(i int) bool { at = i; return false })
	if at >= len(s.args) {
		s.refuse(invalid)
		return
	}
	to := s.c.Routes.of(s.args[at])
	l, hash, text := s.linkFor(to, s.args[at], c)
	if l == nil {
		s.ops, s.parts = append(s.ops, op{parts: 1}), append(s.parts, part{text: text})
		return
	}
	args := s.stripped(to, c)
	s.mirrorTo(to, c, hash, args)
	var again *buffer.Buf
	switch {
	case to.remove:
		resp.AppendArgs(&l.out, args)
	case s.in.First()[0] == resp.Array:
		if s.c.Redirection {
			again = new(buffer.Buf)
			s.in.Share(again, s.size)
		}
		l.out.Move(&s.in, s.size)
		s.size = 0
	default: // inline
		resp.AppendArgs(&l.out, args)
	}
	s.ask(l, asIs)
	s.parts[len(s.parts)-1].sent = again
	if c.blocking {
		s.then = s.await
	}
}

// ask notes that the next op has one reply, of l.
func (s *session) ask(l *link, how shape) {
	l.sent(true)
	s.ops, s.parts = append(s.ops, op{parts: 1, shape: how}), append(s.parts, part{l: l})
}

// stripped returns the arguments as the host gets them: keys without their prefix, where the
// route says so. Otherwise they are args itself.
func (s *session) stripped(to *route, c *command) [][]byte {
	if !to.remove {
		return s.args
	}
	args := slices.Clone(s.args)
	c.keys(args, func(i int) bool {
		if s.c.Routes.of(args[i]) == to {
			args[i] = args[i][len(to.prefix):]
		}
		return true
	})
	return args
}

// toEach makes a command of its own for each key.
func (s *session) toEach(c *command) {
	step, name, how := 1, s.args[0], sum
	switch c.kind {
	case eachGet:
		name, how = []byte("get"), list
	case eachSet:
		step, name, how = 2, []byte("set"), agreed
		if len(s.args)%2 == 0 {
			s.s.Invalid.Inc()
			s.sayError("wrong number of arguments for 'MSET' command")
			return
		}
	}
	first := len(s.parts)
	for i := 1; i < len(s.args); i += step {
		to := s.c.Routes.of(s.args[i])
		l, hash, text := s.linkFor(to, s.args[i], c)
		if l == nil {
			s.parts = append(s.parts, part{text: text})
			continue
		}
		key := s.args[i]
		if to.remove {
			key = key[len(to.prefix):]
		}
		one := append(make([][]byte, 0, 3), name, key)
		if step == 2 {
			one = append(one, s.args[i+1])
		}
		s.mirrorTo(to, c, hash, one)
		resp.AppendArgs(&l.out, one)
		l.sent(true)
		s.parts = append(s.parts, part{l: l})
	}
	s.ops = append(s.ops, op{parts: len(s.parts) - first, shape: how})
}

// hosts returns all hosts that commands may go to, in the order of their clusters.
func (s *session) hosts() (found []target) {
	for _, name := range s.c.Routes.clusters {
		if c := s.clusters.Cluster(name); c != nil {
			for _, h := range c.Hosts() {
				found = append(found, target{c, h})
			}
		}
	}
	return found
}

type target struct {
	c *cluster.Cluster
	h *cluster.Host
}

// toAll sends the command to all hosts.
func (s *session) toAll(c *command) {
	how := map[kind]shape{allAgree: alike, allSum: sum, allJoin: joined, allInfo: merged, allList: list}[c.kind]
	if c.kind == allJoin && len(s.args) > 1 && strings.EqualFold(string(s.args[1]), "len") {
		how = sum // SLOWLOG LEN
	}
	first := len(s.parts)
	for _, t := range s.hosts() {
		s.askHost(t, s.args)
	}
	s.finish(first, how)
}

// finish makes an op of the parts since first.
func (s *session) finish(first int, how shape) {
	n := len(s.parts) - first
	if n == 0 {
		s.parts, n, how = append(s.parts, part{text: noHost}), 1, asIs
	}
	s.ops = append(s.ops, op{parts: n, shape: how})
}

func (s *session) askHost(t target, args [][]byte) {
	l, text := s.linkTo(t.c, t.h)
	if l != nil {
		resp.AppendArgs(&l.out, args)
		l.sent(true)
	}
	s.parts = append(s.parts, part{l: l, text: text})
}

func (s *session) toAnyone() {
	first := len(s.parts)
	if all := s.hosts(); len(all) > 0 {
		s.askHost(all[rand.IntN(len(all))], s.args)
	}
	s.finish(first, asIs)
}

// toShard is INFO.SHARD n [section]: INFO of the n-th host.
func (s *session) toShard() {
	n, err := strconv.Atoi(string(s.args[1]))
	all := s.hosts()
	switch {
	case err != nil || n < 0:
		s.sayError("ERR invalid shard_id - must be a numeric shard index")
	case n >= len(all):
		s.sayError("ERR shard_id " + strconv.Itoa(n) + " out of range (0-" + strconv.Itoa(len(all)-1) + ")")
	default:
		first := len(s.parts)
		s.askHost(all[n], append([][]byte{[]byte("INFO")}, s.args[2:]...))
		s.finish(first, asIs)
	}
}

// linkFor returns the link to the host of a key, and the key's hash, or the error to answer
// with.
func (s *session) linkFor(to *route, key []byte, c *command) (l *link, hash uint64, text string) {
	t, hash, ok := s.targetOf(to, key, c)
	if !ok {
		return nil, 0, noHost
	}
	l, text = s.linkTo(t.c, t.h)
	return l, hash, text
}

// targetOf returns the host of a key, and the key's hash. A host that cannot be reached is no
// reason to try another one: it would not have the key.
func (s *session) targetOf(to *route, key []byte, c *command) (t target, hash uint64, ok bool) {
	if to == nil {
		return target{}, 0, false
	}
	name := to.cluster
	if to.reads != "" && !c.write {
		name = to.reads
	}
	cl := s.clusters.Cluster(name)
	if cl == nil {
		return target{}, 0, false
	}
	hash = to.hashed(key, s.c.HashTags)
	s.attempt.Hash, s.attempt.HasHash = hash, true
	h, err := cl.Pick(&s.attempt)
	return target{cl, h}, hash, err == nil
}

// hashed returns what of a key decides on its host.
func (r *route) hashed(key []byte, tags bool) uint64 {
	if r.remove {
		key = key[len(r.prefix):]
	}
	if tags {
		key = stem(key)
	}
	return lb.Murmur2(key)
}

// linkTo returns the link to a host: the one that the batch uses already, or another.
func (s *session) linkTo(cl *cluster.Cluster, h *cluster.Host) (*link, string) {
	for _, l := range s.links {
		if l.host == h && l.err == nil {
			s.choose(l)
			return l, ""
		}
	}
	l, err := s.pool.borrow(s.conn.Engine.Context(), cl, h, &s.attempt, s.now)
	if err != nil {
		return nil, failure
	}
	s.links = append(s.links, l)
	s.choose(l)
	return l, ""
}

// choose makes the link use the database that the client has selected.
func (s *session) choose(l *link) {
	if l.db != s.db {
		resp.AppendCommand(&l.out, "SELECT", strconv.Itoa(s.db))
		l.sent(false)
		l.db = s.db
	}
}

func cloneAll(args [][]byte) [][]byte {
	out := make([][]byte, len(args))
	for i, a := range args {
		out[i] = slices.Clone(a)
	}
	return out
}
