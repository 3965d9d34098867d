package redisproxy

import (
	"strconv"
	"strings"
)

// kind says how a command is spread over hosts, and what becomes of the replies.
type kind uint8

const (
	single   kind = iota // goes to the host of its key
	script               // the same, the key stands behind the number of keys
	eachGet              // one GET for each key, the replies make an array
	eachSet              // one SET for each pair of key and value
	eachSum              // one command for each key, the replies are added up
	allAgree             // to all hosts, which must say the same
	allSum               // to all hosts, whose replies are added up
	allJoin              // to all hosts, whose arrays become one
	allList              // to all hosts, whose replies make an array
	allScan              // one host after the other: the cursor says which
	allInfo              // to all hosts, whose sections are merged
	oneInfo              // INFO.SHARD: to the host with that number
	anyone               // to a host picked by chance
	local                // answered here
	subscribe
	unsubscribe
)

// command is one that this proxy knows.
type command struct {
	name     string // in lower case, as in statistics
	index    int    // in the table
	kind     kind
	key      int  // the index of the argument that is the (first) key, for kind single
	last     int  // that of the last key: 0 is key itself, -1 the last argument
	step     int  // from one key to the next, 0 is 1
	counted  bool // key is the number of keys, which follow
	least    int  // arguments, with the name
	write    bool // it may change data
	blocking bool // it may wait as long as it likes
	streams  bool // the keys are the first half of what follows STREAMS
}

// table is the commands by their names in lower case.
type table map[string]*command

// find returns the command of a name in any case, nil if there is none.
func (t table) find(name []byte) *command {
	var low [32]byte
	if len(name) > len(low) {
		return nil
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	return t[string(low[:len(name)])]
}

// What the names in the lists below have in common. A name may be followed by keys as
// ":FIRST-LAST", counted from the command's name, LAST -1 being the last argument, and
// "/STEP".
const (
	reads = `bitcount bitfield_ro bitpos dump get getbit getrange geodist geohash geopos georadius_ro
		georadiusbymember_ro geosearch hexists hget hgetall hkeys hlen hmget hrandfield hscan hstrlen httl hpttl
		hexpiretime hpexpiretime hvals lindex llen lpos lrange pfcount:1--1 pttl scard sdiff:1--1 sinter:1--1 sismember
		smembers smismember sort_ro srandmember sscan strlen substr sunion:1--1 ttl type xlen xpending xrange xrevrange
		zcard zcount zlexcount zmscore zrandmember zrange zrangebylex zrangebyscore zrank zrevrange zrevrangebylex
		zrevrangebyscore zrevrank zscan zscore expiretime pexpiretime lcs:1-2
		bf.card bf.exists bf.info bf.mexists bf.scandump object:2 xinfo:2 memory:2`
	writes = `append bitfield bitop:2--1 copy:1-2 decr decrby expire expireat geoadd georadius georadiusbymember
		geosearchstore:1-2 getdel getex getset hdel hexpire hexpireat hincrby hincrbyfloat hmset hpersist hpexpire
		hpexpireat hset hsetnx incr incrby incrbyfloat linsert lmove:1-2 lpop lpush lpushx lrem lset ltrim
		msetnx:1--1/2 persist pexpire pexpireat pfadd pfmerge:1--1 psetex publish rename:1-2 renamenx:1-2 restore rpop
		rpoplpush:1-2 rpush rpushx sadd sdiffstore:1--1 set setbit setex setnx setrange sinterstore:1--1 smove:1-2 sort
		spop srem sunionstore:1--1 xack xadd xautoclaim xclaim xdel xtrim xgroup:2 xsetid zadd zdiffstore zincrby
		zinterstore zpopmax zpopmin zrangestore:1-2 zrem zremrangebylex zremrangebyrank zremrangebyscore zunionstore
		bf.add bf.insert bf.loadchunk bf.madd bf.reserve spublish`
	countedReads  = `zdiff zinter zunion sintercard zintercard`
	countedWrites = `lmpop zmpop`
	blockingKeys  = `blpop:1--2 brpop:1--2 bzpopmin:1--2 bzpopmax:1--2 blmove:1-2 brpoplpush:1-2`
)

// newTable returns the commands, with those that are configured by name.
func newTable(custom []string) table {
	t := table{}
	t.words(reads, command{key: 1, least: 2})
	t.words(writes, command{key: 1, least: 2, write: true})
	t.words(countedReads, command{key: 1, least: 3, counted: true})
	t.words(countedWrites, command{key: 1, least: 3, counted: true, write: true})
	t.words(blockingKeys, command{key: 1, least: 3, write: true, blocking: true})
	t.words("blmpop bzmpop", command{key: 2, least: 4, counted: true, write: true, blocking: true})
	t.words("xread xreadgroup", command{least: 4, write: true, blocking: true, streams: true})
	t.words("eval evalsha fcall", command{kind: script, least: 4, write: true})
	t.words("eval_ro evalsha_ro fcall_ro", command{kind: script, least: 4})
	t.words("mget", command{kind: eachGet, least: 2})
	t.words("mset", command{kind: eachSet, least: 3, write: true})
	t.words("exists", command{kind: eachSum, least: 2})
	t.words("del touch unlink", command{kind: eachSum, least: 2, write: true})
	t.words("keys slowlog", command{kind: allJoin, least: 2})
	t.words("role", command{kind: allList, least: 1})
	t.words("config", command{kind: allJoin, least: 2, write: true})
	t.words("flushall flushdb", command{kind: allAgree, least: 1, write: true})
	t.words("script", command{kind: allAgree, least: 2, write: true})
	t.words("select", command{kind: local, least: 2})
	t.words("dbsize", command{kind: allSum, least: 1})
	t.words("scan", command{kind: allScan, least: 1})
	t.words("info", command{kind: allInfo, least: 1})
	t.words("info.shard", command{kind: oneInfo, least: 2})
	t.words("randomkey", command{kind: anyone, least: 1})
	t.words("cluster", command{kind: anyone, least: 2})
	t.words("ping auth hello client echo time quit reset multi exec discard watch unwatch", command{kind: local, least: 1})
	t.words("subscribe ssubscribe", command{kind: subscribe, key: 1, last: -1, least: 2})
	t.words("psubscribe", command{kind: subscribe, least: 2})
	t.words("unsubscribe sunsubscribe punsubscribe", command{kind: unsubscribe, least: 1})
	for _, name := range custom {
		t.words(strings.ToLower(name), command{key: 1, least: 2, write: true})
	}
	return t
}

// words adds the commands of a list. One that is there already stays.
func (t table) words(list string, like command) {
	for word := range strings.FieldsSeq(list) {
		c := like
		name, keys, special := strings.Cut(word, ":")
		if special {
			keys, step, _ := strings.Cut(keys, "/")
			first, last, _ := strings.Cut(keys, "-")
			c.key, c.last, c.step = number(first), number(last), number(step)
			c.least = max(c.least, c.key+1)
		}
		if t[name] != nil || strings.HasSuffix(name, "_") {
			continue
		}
		c.name, c.index = name, len(t)
		t[name] = &c
	}
}

// number is that of a list above, 0 if there is none.
func number(text string) int {
	n, _ := strconv.Atoi(text) // an empty text is 0
	return n
}

// keys calls f with the index of each key among the arguments, until it returns false. It
// reports false if the arguments do not tell which are keys.
func (c *command) keys(args [][]byte, f func(i int) bool) bool {
	first, last, step := c.key, c.last, max(c.step, 1)
	switch {
	case c.kind == script:
		return counted(args, 2, f)
	case c.counted:
		return counted(args, c.key, f)
	case c.streams:
		for i, a := range args {
			if strings.EqualFold(string(a), "streams") {
				n := (len(args) - i - 1) / 2
				first, last = i+1, i+n
				if n == 0 {
					return false
				}
				break
			}
		}
		if first == 0 {
			return false
		}
	case last < 0:
		last += len(args)
	case last == 0:
		last = first
	}
	if last >= len(args) || first > last {
		return false
	}
	for i := first; i <= last; i += step {
		if !f(i) {
			break
		}
	}
	return true
}

// counted is keys of a command that says how many there are.
func counted(args [][]byte, at int, f func(i int) bool) bool {
	if at >= len(args) {
		return false
	}
	n, err := strconv.Atoi(string(args[at]))
	if err != nil || n <= 0 || n >= len(args)-at {
		return false
	}
	for i := range n {
		if !f(at + 1 + i) {
			break
		}
	}
	return true
}
