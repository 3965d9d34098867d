package idempotency

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/redistest"
)

// server is a Redis of a test's own.
type server struct {
	*redistest.Server
	t    *testing.T
	spec RedisSpec
}

// startRedis starts a Redis that loses nothing, with these arguments besides.
func startRedis(t *testing.T, args ...string) *server {
	t.Helper()
	x := &server{t: t, Server: redistest.Start(t, append([]string{"--appendonly", "yes", "--appendfsync", "always"}, args...)...)}
	x.spec = RedisSpec{Address: x.Address, Prefix: "test:", Timeout: 10 * time.Second, Lease: time.Minute, Conns: 4}
	return x
}

func (x *server) open(change ...func(*RedisSpec)) *remote {
	spec := x.spec
	for _, f := range change {
		f(&spec)
	}
	r := openRedis(spec, nil, func() {})
	x.t.Cleanup(r.close)
	return r
}

// TestLease: a key is its proxy's as long as that one lives; then nobody knows how its request
// has ended, unless it says so after all.
func TestLease(t *testing.T) {
	x := startRedis(t)
	short := func(s *RedisSpec) { s.Lease = time.Second }
	a, b := x.open(short), x.open(short)
	soon, k := time.Now().Add(time.Hour), Key{1}
	mine := claim(t, a, k, soon)
	if again, err := a.Claim(t.Context(), k, mine); err != nil || again.State != Fresh {
		t.Errorf("who has lost the answer gets %+v, %v", again, err)
	}
	until := func() int64 {
		n, err := b.client.HGet(t.Context(), b.key(k)[0], "lease").Int64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := until()
	eventually(t, "a renewal", func() bool { return until() > first })
	eventually(t, "another one", func() bool { return claim(t, b, k, soon).State == Running })
	a.drop(k) // as if the process were gone
	eventually(t, "the end of the lease", func() bool { return claim(t, b, k, soon).State == Unknown })
	mine.State, mine.Response = Done, &Response{Code: 200, Body: []byte("late")}
	if err := a.Settle(t.Context(), k, mine); err != nil {
		t.Fatal(err)
	}
	if r := claim(t, b, k, soon); r.State != Done || string(r.Response.Body) != "late" {
		t.Errorf("settled late: %+v", r)
	}
}

// TestTaken: who has lost a key to another proxy neither writes nor frees it.
func TestTaken(t *testing.T) {
	x := startRedis(t)
	a, b := x.open(), x.open()
	soon, k := time.Now().Add(time.Hour), Key{1}
	mine := claim(t, a, k, soon)
	if err := a.client.FlushAll(t.Context()).Err(); err != nil { // Redis has lost it
		t.Fatal(err)
	}
	if r := claim(t, b, k, soon); r.State != Fresh {
		t.Fatalf("lost: %+v", r)
	}
	mine.State = Unknown
	if err := a.Settle(t.Context(), k, mine); !errors.Is(err, errTaken) {
		t.Errorf("settled: %v", err)
	}
	if err := a.Forget(t.Context(), k, mine.Owner); err != nil {
		t.Error(err)
	}
	if r := claim(t, a, k, soon); r.State != Running {
		t.Errorf("the other one's: %+v", r)
	}
}

// TestRedisForgets: keys do not outlive their time.
func TestRedisForgets(t *testing.T) {
	x := startRedis(t)
	r := x.open()
	mine := claim(t, r, Key{1}, time.Now().Add(time.Hour))
	mine.State, mine.Response, mine.Until = Done, &Response{Code: 200}, time.Now().Add(50*time.Millisecond)
	if err := r.Settle(t.Context(), Key{1}, mine); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an empty Redis", func() bool { return r.client.DBSize(t.Context()).Val() == 0 })
}

// TestRedisGoes: nobody waits longer than the time limit for a Redis that has stopped, and a
// claim that may or may not be there is taken back when it goes on.
func TestRedisGoes(t *testing.T) {
	x := startRedis(t)
	r := x.open(func(s *RedisSpec) { s.Timeout, s.Lease = 300*time.Millisecond, 600*time.Millisecond })
	eventually(t, "a first answer", func() bool { _, err := r.Claim(t.Context(), Key{9}, newClaim(time.Now())); return err == nil })
	x.Signal(syscall.SIGSTOP)
	begun := time.Now()
	if _, err := r.Claim(t.Context(), Key{1}, newClaim(begun.Add(time.Hour))); err == nil {
		t.Error("a Redis that has stopped answers")
	}
	if d := time.Since(begun); d > 15*time.Second {
		t.Errorf("it took %v to give up", d)
	}
	x.Signal(syscall.SIGCONT)
	eventually(t, "the claim to be taken back", func() bool {
		rec, err := r.Claim(t.Context(), Key{1}, newClaim(begun.Add(time.Hour)))
		return err == nil && rec.State == Fresh
	})
}

// TestRedisComesBack: what was settled outlives a crash of Redis, if that is set up for it.
func TestRedisComesBack(t *testing.T) {
	x := startRedis(t)
	r := x.open()
	soon := time.Now().Add(time.Hour)
	mine := claim(t, r, Key{1}, soon)
	mine.State, mine.Response = Done, &Response{Code: 201}
	if err := r.Settle(t.Context(), Key{1}, mine); err != nil {
		t.Fatal(err)
	}
	x.Kill()
	if _, err := r.Claim(t.Context(), Key{1}, newClaim(soon)); err == nil {
		t.Error("a Redis that is dead answers")
	}
	x.Again()
	eventually(t, "the response", func() bool {
		rec, err := r.Claim(t.Context(), Key{1}, newClaim(soon))
		return err == nil && rec.State == Done && rec.Response.Code == 201
	})
}

// TestPassword: a password comes from a file, which may change, and is in no error.
func TestPassword(t *testing.T) {
	x := startRedis(t, "--requirepass", "sesame")
	path := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong-one\n")
	m := redisMessage{Address: x.spec.Address, Password: []byte(fmt.Sprintf(`{"filename": %q}`, path))}
	spec, err := m.parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := x.open(func(s *RedisSpec) { s.Password = spec.Password })
	_, err = r.Claim(t.Context(), Key{1}, newClaim(time.Now().Add(time.Hour)))
	if err == nil || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("a wrong password: %v", err)
	}
	write("sesame\n")
	if rec := claim(t, r, Key{2}, time.Now().Add(time.Hour)); rec.State != Fresh {
		t.Errorf("the right password: %+v", rec)
	}
}

// TestParseRedis: what is refused, and that an error never shows a password.
func TestParseRedis(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                               "one of cluster, address is required",
		`{cluster: a, address: "b:1"}`:     "one of cluster, address is required",
		`{address: b}`:                     `address: "b" is not HOST:PORT`,
		`{cluster: a, max_connections: 0}`: "max_connections: 0 is not within",
		`{cluster: a, lease: 0.001s}`:      "lease: 1ms is less than",
		`{cluster: a, timeout: 0s}`:        "timeout: 0s is not more than 0",
		`{cluster: a, password: {inline_string: sesame}}`:                    "password: is to be a filename",
		`{cluster: a, password: sesame}`:                                     "password: is not a DataSource",
		`{cluster: a, password: {filename: /nothing/here}}`:                  "password.filename: open /nothing/here",
		`{cluster: a, password: {filename: /x}, password_secret: {name: x}}`: "not both",
		`{cluster: a, password_secret: {}}`:                                  "password_secret.name: must not be empty",
		`{cluster: a, database: -1}`:                                         "database: -1 is less than 0",
	} {
		_, err := parseText(t, `{store: {redis: `+text+`}}`)
		if err == nil || !strings.Contains(err.Error(), "store.") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzDecode: whatever is under a key, it is an error or a record.
func FuzzDecode(f *testing.F) {
	zero := strings.Repeat("0", 64)
	for _, seed := range [][3]string{
		{"fresh", "", ""}, {"running", zero, ""}, {"unknown", zero, ""}, {"done", zero, `{"code":200}`}, {"done", zero, "null"}, {"done", zero + "00", "{}"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, state, request, response string) {
		r, err := decode([]string{state, request, response}, Record{})
		if err == nil && (r.State == Fresh || r.State == Done && r.Response == nil) {
			t.Errorf("%+v", r)
		}
	})
}

// parseText parses a configuration in YAML.
func parseText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatal(err)
	}
	pb, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	return parse(raw, &filter.Parser{})
}
