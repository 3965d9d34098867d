package redisproxy_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.yaml.in/yaml/v3"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/redistest"
)

// world is mecha in front of Redis servers.
type world struct {
	*dialogue.Proxy
	address string
	servers []*redistest.Server
}

// start starts n servers in one cluster with Maglev, and mecha. settings are merged over the
// configuration of the filter.
func start(t *testing.T, n int, settings map[string]any) *world {
	t.Helper()
	w := &world{}
	var hosts []any
	for range n {
		s := redistest.Start(t)
		w.servers = append(w.servers, s)
		hosts = append(hosts, map[string]any{"endpoint": map[string]any{"address": dialogue.SocketAddress(s.Port)}})
	}
	port := ports.Free(t)
	w.address = fmt.Sprintf("127.0.0.1:%d", port)
	filter := map[string]any{
		"@type":         "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
		"stat_prefix":   "r",
		"settings":      map[string]any{"op_timeout": "15s", "enable_command_stats": true},
		"prefix_routes": map[string]any{"catch_all_route": map[string]any{"cluster": "redis"}},
	}
	for k, v := range settings {
		filter[k] = v
	}
	config, err := yaml.Marshal(map[string]any{"static_resources": map[string]any{
		"listeners": []any{map[string]any{
			"name": "redis", "address": dialogue.SocketAddress(port),
			"filter_chains": []any{map[string]any{"filters": []any{map[string]any{"name": "redis", "typed_config": filter}}}},
		}},
		"clusters": []any{map[string]any{
			"name": "redis", "type": "STATIC", "connect_timeout": "5s", "lb_policy": "MAGLEV",
			"load_assignment": map[string]any{"cluster_name": "redis", "endpoints": []any{map[string]any{"lb_endpoints": hosts}}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.Proxy = dialogue.StartMecha(t, config)
	return w
}

// patience is how long anything may take.
const patience = 15 * time.Second

func (w *world) client(t *testing.T, change ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{
		Addr: w.address, Protocol: 2, DisableIdentity: true, MaxRetries: -1,
		ReadTimeout: patience, WriteTimeout: patience, DialTimeout: patience, ContextTimeoutEnabled: true,
	}
	for _, f := range change {
		f(o)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestManyKeys: keys are spread over all hosts, and found again by every way to ask for them.
func TestManyKeys(t *testing.T) {
	w := start(t, 3, nil)
	c, ctx := w.client(t), within(t)
	const n = 300
	var names []string
	pipe := c.Pipeline()
	for i := range n {
		names = append(names, fmt.Sprintf("key:%03d", i))
		pipe.Set(ctx, names[i], i, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range w.servers {
		direct := redis.NewClient(&redis.Options{Addr: s.Address, Protocol: 2, DisableIdentity: true})
		if size := direct.DBSize(ctx).Val(); size < n/10 {
			t.Errorf("a host of three has %d of %d keys", size, n)
		}
		direct.Close()
	}
	values, err := c.MGet(ctx, append(slices.Clone(names), "nothing")...).Result()
	if err != nil || len(values) != n+1 || values[17] != "17" || values[n] != nil {
		t.Errorf("MGET: %d values, %v", len(values), err)
	}
	if size := c.DBSize(ctx).Val(); size != n {
		t.Errorf("DBSIZE is %d", size)
	}
	var scanned []string
	for cursor := uint64(0); ; {
		page, next, err := c.Scan(ctx, cursor, "key:*", 10).Result()
		if err != nil {
			t.Fatal(err)
		}
		scanned = append(scanned, page...)
		if cursor = next; cursor == 0 {
			break
		}
	}
	slices.Sort(scanned)
	if scanned = slices.Compact(scanned); !slices.Equal(scanned, names) {
		t.Errorf("SCAN found %d keys of %d", len(scanned), n)
	}
	found := c.Keys(ctx, "key:*").Val()
	if slices.Sort(found); !slices.Equal(found, names) {
		t.Errorf("KEYS found %d keys of %d", len(found), n)
	}
	if gone := c.Del(ctx, names...).Val(); gone != n {
		t.Errorf("DEL: %d", gone)
	}
	if info := c.Info(ctx, "keyspace").Val(); strings.Contains(info, "db0:keys=1") {
		t.Errorf("INFO: %q", info)
	}
}

// TestLargeValues go through in both directions, and the next command on the connection, too.
func TestLargeValues(t *testing.T) {
	w := start(t, 1, nil)
	c, ctx := w.client(t, func(o *redis.Options) { o.PoolSize = 1 }), within(t)
	big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	for range 3 {
		if err := c.Set(ctx, "big", big, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got := c.Get(ctx, "big").Val(); got != big {
			t.Fatalf("%d bytes came back of %d", len(got), len(big))
		}
		if n := c.StrLen(ctx, "big").Val(); n != int64(len(big)) {
			t.Fatalf("STRLEN: %d", n)
		}
	}
}

// TestScriptsUnderAPrefix: it is the key that has the prefix and decides on the host, for the
// mirror, too, and not the text of the script.
func TestScriptsUnderAPrefix(t *testing.T) {
	w := start(t, 2, map[string]any{"prefix_routes": map[string]any{"routes": []any{map[string]any{
		"prefix": "a prefix longer than scripts:", "cluster": "redis", "remove_prefix": true,
		"request_mirror_policy": []any{map[string]any{"cluster": "redis"}},
	}}}})
	c, ctx := w.client(t), within(t)
	for i := range 5 {
		name := fmt.Sprint("k", i)
		if n, err := c.Eval(ctx, "return #KEYS[1]", []string{"a prefix longer than scripts:" + name}).Int(); err != nil || n != len(name) {
			t.Errorf("the script sees a key of %d bytes, %v", n, err)
		}
	}
	w.WaitStat(t, "redis.r.downstream_rq_active", "0")
}

// TestAClientThatGoes leaves nothing behind: no command counts as being carried out.
func TestAClientThatGoes(t *testing.T) {
	w := start(t, 1, nil)
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("SUBSCRIBE a\r\nUNSUBSCRIBE a\r\nBLPOP queue 0\r\n")); err != nil {
		t.Fatal(err)
	}
	w.WaitStat(t, "redis.r.command.subscribe.total", "1")
	w.WaitStat(t, "redis.r.downstream_rq_active", "1")
	c.Close()
	w.WaitStat(t, "redis.r.downstream_rq_active", "0")
	w.WaitStat(t, "redis.r.downstream_cx_active", "0")
}

func TestTransactions(t *testing.T) {
	w := start(t, 2, nil)
	c, ctx := w.client(t), within(t)
	if _, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, "n")
		p.IncrBy(ctx, "n", 41)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n, _ := c.Get(ctx, "n").Int(); n != 42 {
		t.Errorf("n is %d", n)
	}
	// What is watched and changed by somebody else makes the transaction fail.
	other := w.client(t)
	err := c.Watch(ctx, func(tx *redis.Tx) error {
		if err := other.Set(ctx, "n", 1, 0).Err(); err != nil {
			return err
		}
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "n", 2, 0)
			return nil
		})
		return err
	}, "n")
	if err != redis.TxFailedErr {
		t.Errorf("a transaction whose key was changed: %v", err)
	}
	if n, _ := c.Get(ctx, "n").Int(); n != 1 {
		t.Errorf("n is %d", n)
	}
}

func TestDatabases(t *testing.T) {
	w := start(t, 1, nil)
	ctx := within(t)
	zero, one := w.client(t), w.client(t, func(o *redis.Options) { o.DB = 1 })
	if err := one.Set(ctx, "k", "one", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := zero.Get(ctx, "k").Result(); err != redis.Nil {
		t.Errorf("a client of database 0 sees %q, %v", v, err)
	}
	if v := one.Get(ctx, "k").Val(); v != "one" {
		t.Errorf("a client of database 1 sees %q", v)
	}
}

// TestBlocking: a command that blocks holds nobody else up, outlives the time limit of the
// others, and takes nothing for a client that has gone.
func TestBlocking(t *testing.T) {
	w := start(t, 2, map[string]any{"settings": map[string]any{"op_timeout": "5s"}})
	c, ctx := w.client(t), within(t)
	got := make(chan []string, 1)
	go func() { got <- c.BLPop(ctx, 0, "queue").Val() }()
	w.WaitStat(t, "redis.r.command.blpop.total", "1")
	if err := c.RPush(ctx, "queue", "job").Err(); err != nil {
		t.Fatal(err)
	}
	select {
	case v := <-got:
		if !slices.Equal(v, []string{"queue", "job"}) {
			t.Errorf("BLPOP: %q", v)
		}
	case <-ctx.Done():
		t.Fatal("BLPOP does not return")
	}
	// Raw, so that the client can go without a word.
	gone, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Write([]byte("BLPOP queue 0\r\n")); err != nil {
		t.Fatal(err)
	}
	blocked := func(want int) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			n := 0
			for _, s := range w.servers {
				direct := redis.NewClient(&redis.Options{Addr: s.Address, Protocol: 2, DisableIdentity: true})
				if strings.Contains(direct.Info(ctx, "clients").Val(), "blocked_clients:1") {
					n++
				}
				direct.Close()
			}
			if n == want {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%d clients are blocked, want %d", n, want)
			case <-tick.C:
			}
		}
	}
	blocked(1)
	gone.Close()
	blocked(0)
	if n := c.RPush(ctx, "queue", "kept").Val(); n != 1 {
		t.Errorf("RPUSH: %d", n)
	}
	if v := c.LPop(ctx, "queue").Val(); v != "kept" {
		t.Errorf("what was pushed after the client had gone is %q", v)
	}
}

// TestSubscriptions: messages of channels and patterns of all hosts reach the client, and the
// connection is as before when it has left them all.
func TestSubscriptions(t *testing.T) {
	for _, version := range []int{2, 3} {
		t.Run(fmt.Sprint("RESP", version), func(t *testing.T) {
			settings := map[string]any{}
			if version == 3 {
				settings["protocol_version"] = "RESP3"
			}
			w := start(t, 3, settings)
			ctx := within(t)
			c := w.client(t, func(o *redis.Options) { o.Protocol = version })
			var names []string
			for i := range 12 {
				names = append(names, fmt.Sprint("news.", i))
			}
			sub := c.Subscribe(ctx, names...)
			defer sub.Close()
			for i := range names {
				m, err := sub.Receive(ctx)
				s, ok := m.(*redis.Subscription)
				if err != nil || !ok || s.Count != i+1 {
					t.Fatalf("confirmation %d: %v, %v", i, m, err)
				}
			}
			if err := sub.PSubscribe(ctx, "news.1*"); err != nil {
				t.Fatal(err)
			}
			if m, err := sub.Receive(ctx); err != nil || m.(*redis.Subscription).Count != len(names)+1 {
				t.Fatalf("confirmation of the pattern: %v, %v", m, err)
			}
			for _, name := range names {
				if err := c.Publish(ctx, name, "hello "+name).Err(); err != nil {
					t.Fatal(err)
				}
			}
			seen := map[string]int{}
			for range len(names) + 3 { // news.1, news.10 and news.11 by pattern, too
				m, err := sub.ReceiveMessage(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if m.Payload != "hello "+m.Channel {
					t.Errorf("%q on %q", m.Payload, m.Channel)
				}
				seen[m.Channel]++
			}
			if len(seen) != len(names) || seen["news.10"] != 2 || seen["news.2"] != 1 {
				t.Errorf("seen: %v", seen)
			}
		})
	}
}

// TestAfterSubscriptions: a connection that has left its channels serves commands again.
func TestAfterSubscriptions(t *testing.T) {
	w := start(t, 2, nil)
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	ask := func(say, want string) {
		t.Helper()
		if _, err := c.Write([]byte(say)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 0, len(want))
		for len(got) < len(want) {
			n, err := c.Read(got[len(got):cap(got)])
			got = got[:len(got)+n]
			if err != nil {
				t.Fatalf("%q: %q, %v", say, got, err)
			}
		}
		if string(got) != want {
			t.Errorf("%q: got %q, want %q", say, got, want)
		}
	}
	ask("SUBSCRIBE a b\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n")
	ask("PING x\r\n", "*2\r\n$4\r\npong\r\n$1\r\nx\r\n")
	ask("GET a\r\n", "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n")
	ask("UNSUBSCRIBE a b\r\nSET a 1\r\nGET a\r\n",
		"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n+OK\r\n$1\r\n1\r\n")
	ask("UNSUBSCRIBE\r\n", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n")
}

// TestAHostThatGoes: its keys are told so, those of others are served; then it comes back.
// Who is subscribed there is cut off, to subscribe again.
func TestAHostThatGoes(t *testing.T) {
	w := start(t, 2, nil)
	c, ctx := w.client(t), within(t)
	for i := range 20 {
		if err := c.Set(ctx, fmt.Sprint("k", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w.servers[0].Kill()
	served, failed := 0, 0
	for i := range 20 {
		switch err := c.Get(ctx, fmt.Sprint("k", i)).Err(); {
		case err == nil:
			served++
		case err.Error() == "upstream failure":
			failed++
		default:
			t.Error(err)
		}
	}
	if served == 0 || failed == 0 {
		t.Errorf("%d served, %d failed", served, failed)
	}
	w.servers[0].Again()
	for i := range 20 {
		if err := c.Set(ctx, fmt.Sprint("k", i), i, 0).Err(); err != nil {
			t.Errorf("after the host is back: %v", err)
		}
	}
}

// TestAHostThatIsSlow: the client is told when the time is up, and late replies go to nobody.
func TestAHostThatIsSlow(t *testing.T) {
	w := start(t, 1, map[string]any{"settings": map[string]any{"op_timeout": "1s"}})
	c, ctx := w.client(t, func(o *redis.Options) { o.PoolSize = 1 }), within(t)
	for c.Set(ctx, "k", "v", 0).Err() != nil {
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
	}
	before, _ := strconv.Atoi(w.Stat("cluster.redis.upstream_rq_timeout")) // of a busy machine
	w.servers[0].Signal(syscall.SIGSTOP)
	if err := c.Incr(ctx, "n").Err(); err == nil || err.Error() != "upstream failure" {
		t.Errorf("a host that does not answer: %v", err)
	}
	w.servers[0].Signal(syscall.SIGCONT)
	w.WaitStat(t, "cluster.redis.upstream_rq_timeout", strconv.Itoa(before+1))
	for deadline := time.Now().Add(patience); ; {
		v, err := c.Get(ctx, "k").Result()
		if err == nil {
			if v != "v" {
				t.Errorf("the next reply is %q", v)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
