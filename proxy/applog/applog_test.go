package applog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// at is a record's moment with different milli-, micro- and nanoseconds.
var at = time.Date(2026, 11, 2, 9, 5, 7, 1_002_003, time.UTC)

// logAt sends one record of the given time through the component's logger.
func logAt(l *slog.Logger, level slog.Level, msg string, args ...any) {
	r := slog.NewRecord(at, level, msg, 0)
	r.Add(args...)
	_ = l.Handler().Handle(context.Background(), r)
}

func TestDefaultLine(t *testing.T) {
	var out bytes.Buffer
	log := New(&out)
	log.Logger("upstream").Warn("no host", "cluster", "web", "tries", 3, "why", "all of them\nare down")
	want := regexp.MustCompile(`^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\]\[\d+\]\[warning\]\[upstream\] no host cluster=web tries=3 why="all of them\\nare down"\n$`)
	if !want.Match(out.Bytes()) {
		t.Errorf("got %q", out.String())
	}
}

func TestPatterns(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, c := range []struct{ pattern, want string }{
		{"%v", `a "b"` + "\n"},
		{"[%Y-%m-%d %T.%e] %l %L %n", "[2026-11-02 09:05:07.001] critical C http\n"},
		{"%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t", "2026-11-02T09:05:07.001002Z\tcritical\tenvoy http :0\ta \"b\"\tthread=" + pid + "\n"},
		{"%F|%H:%M:%S|%R|%D|%C|%E|%z|%a %A %b %B|%I %p|%r", "001002003|09:05:07|09:05|11/02/26|26|1793610307|+00:00|Mon Monday Nov November|09 AM|09:05:07 AM\n"},
		{"%j", `a \"b\"` + "\n"},
		{"100%% %-8l|%5n|%^%$|%", "100% critical| http||%\n"},
		{"%-10l|%10l|%=10n|%3!l|%2l|%=7n", "critical  |  critical|   http   |cri|critical| http  \n"},
	} {
		f, err := ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		var out bytes.Buffer
		log := New(&out)
		log.SetFormat(f)
		logAt(log.Logger("http"), LevelCritical, `a "b"`)
		if out.String() != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.pattern, out.String(), c.want)
		}
	}
	for _, bad := range []string{"%Q", "%v %u", "%5", "%\xff"} {
		if _, err := ParsePattern(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestSourceLocation(t *testing.T) {
	f, err := ParsePattern("%s:%#")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := New(&out)
	log.SetFormat(f)
	log.Logger("main").Info("x")
	if !regexp.MustCompile(`^applog_test\.go:[1-9]\d*\n$`).Match(out.Bytes()) {
		t.Errorf("got %q", out.String())
	}
}

func TestMultilineMessages(t *testing.T) {
	for pattern, want := range map[string]string{"%v": "a\nb\t\"\n", "%_": `a\nb` + "\t\"\n"} {
		f, err := ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		log := New(&out)
		log.SetFormat(f)
		logAt(log.Logger("main"), LevelInfo, "a\nb\t\"")
		if out.String() != want {
			t.Errorf("%s: got %q", pattern, out.String())
		}
		out.Reset()
		log.SetFormat(f.Escaped())
		logAt(log.Logger("main"), LevelInfo, "a\nb\t\"\x01")
		if pattern == "%v" && out.String() != `a\nb\t\"\x01`+"\n" {
			t.Errorf("escaped: got %q", out.String())
		}
	}
}

func TestJSONFormat(t *testing.T) {
	f, err := ParseJSONFormat(map[string]any{
		"time": "%Y-%m-%dT%T.%e", "level": "%l", "message": "%j", "fixed": "a\"b", "n": 1.5, "yes": true, "none": nil,
		"nested": map[string]any{"name": "%n"}, "list": []any{"%l", 1.0},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := New(&out)
	log.SetFormat(f)
	logAt(log.Logger("http"), LevelInfo, "tab\t and \"quotes\"", "peer", "10.0.0.1", "bytes", "\xff\x00")
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	if want := "tab\t and \"quotes\" peer=10.0.0.1 bytes=\"\\xff\\x00\""; got["message"] != want {
		t.Errorf("message %q, want %q", got["message"], want)
	}
	if got["nested"].(map[string]any)["name"] != "http" || got["fixed"] != `a"b` || got["n"] != 1.5 || got["none"] != nil {
		t.Errorf("got %v", got)
	}
	for _, bad := range []string{"%v", "%_", "%Q"} {
		if _, err := ParseJSONFormat(map[string]any{"m": bad}); err == nil || !strings.HasPrefix(err.Error(), "json_format.m: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestComponentLevels(t *testing.T) {
	var out bytes.Buffer
	log := New(&out)
	list, err := ParseComponentLevels("misc:error, http:trace")
	if err != nil {
		t.Fatal(err)
	}
	log.Configure(list)
	http, misc := log.Logger("http"), log.Logger("misc")
	http.Log(context.Background(), LevelTrace, "one")
	misc.Warn("two")
	log.Logger("main").With(ComponentKey, "http", "id", 7).Debug("three")
	log.SetLevel(LevelOff)
	http.Error("four")
	if !log.SetComponentLevel("http", LevelDebug) || log.SetComponentLevel("nobody", LevelDebug) {
		t.Error("SetComponentLevel knows the wrong components")
	}
	http.Debug("five")
	log.Logger("late").Error("six")
	got := out.String()
	for _, want := range []string{"[trace][http] one\n", "[debug][http] three id=7\n", "[debug][http] five\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 3 {
		t.Errorf("%d lines:\n%s", n, got)
	}
	var names []string
	for _, l := range log.Levels() {
		names = append(names, l.Component+"="+LevelName(l.Level))
	}
	if want := "http=debug late=off main=off misc=off"; strings.Join(names, " ") != want {
		t.Errorf("levels %v", names)
	}
}

func TestParseLevels(t *testing.T) {
	for _, name := range []string{"trace", "debug", "info", "warning", "error", "critical", "off"} {
		l, err := ParseLevel(strings.ToUpper(name))
		if err != nil || LevelName(l) != name {
			t.Errorf("%s: %v %v", name, l, err)
		}
	}
	if l, err := ParseLevel("warn"); err != nil || l != LevelWarning {
		t.Errorf("warn: %v %v", l, err)
	}
	for _, bad := range []string{"http", "http:", ":debug", "http:loud", "http=debug"} {
		if _, err := ParseComponentLevels(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if list, err := ParseComponentLevels(""); err != nil || len(list) != 0 {
		t.Errorf("empty: %v %v", list, err)
	}
}

// TestComponentsAreBounded keeps names that arrive as attributes from filling
// memory.
func TestComponentsAreBounded(t *testing.T) {
	log := New(io.Discard)
	for i := range 10 * maxComponents {
		log.Logger(strings.Repeat("x", i+1))
	}
	if n := len(log.Levels()); n != maxComponents {
		t.Errorf("%d components", n)
	}
}

func TestGroupsAndValues(t *testing.T) {
	f, err := ParsePattern("%v")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := New(&out)
	log.SetFormat(f)
	l := log.Logger("main").WithGroup("conn").With("id", uint64(1))
	logAt(l, LevelInfo, "m", "err", errors.New("x y"), "d", 1500*time.Millisecond, "ok", true, "t", at, "empty", "",
		slog.Group("peer", "port", 80, slog.Group("", "ip", "::1")), "eq", "a=b", "uni", "é", "esc", "\x1b[31m")
	want := `m conn.id=1 conn.err="x y" conn.d=1.5s conn.ok=true conn.t=2026-11-02T09:05:07.001002003Z conn.empty="" ` +
		`conn.peer.port=80 conn.peer.ip=::1 conn.eq="a=b" conn.uni=é conn.esc="\x1b[31m"` + "\n"
	if out.String() != want {
		t.Errorf("\n got %s\nwant %s", out.String(), want)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	log.Logger("main").Info("before")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.Logger("main").Info("still before")
	if err := log.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Logger("main").Info("after")
	old, _ := os.ReadFile(path + ".1")
	fresh, _ := os.ReadFile(path)
	if strings.Count(string(old), "before") != 2 || strings.Contains(string(old), "after") || strings.Count(string(fresh), "\n") != 1 {
		t.Errorf("old %q, fresh %q", old, fresh)
	}
	if err := New(io.Discard).Reopen(); err != nil {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(path, "below")); err == nil {
		t.Error("opened a file below a file")
	}
}

func TestConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	log := New(&out)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l := log.Logger("http").With("i", i)
			for range 100 {
				l.Info("message")
				log.SetLevel(LevelInfo)
			}
		})
	}
	wg.Wait()
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, "[info][http] message i=") || strings.Count(line, "message") != 1 {
			t.Fatalf("torn line %q", line)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 800 {
		t.Errorf("%d lines", n)
	}
}

// TestNoAllocations: a record below the level costs nothing, and one that is
// written costs nothing beyond what slog itself needs.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l := New(io.Discard).Logger("http")
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { l.LogAttrs(ctx, LevelDebug, "m", slog.Int("n", 1)) }); n != 0 {
		t.Errorf("%v allocations below the level", n)
	}
	if n := testing.AllocsPerRun(100, func() { l.LogAttrs(ctx, LevelInfo, "m", slog.Int("n", 1), slog.String("s", "x")) }); n != 0 {
		t.Errorf("%v allocations for a line", n)
	}
}

func FuzzParsePattern(f *testing.F) {
	f.Add(DefaultPattern, "m")
	f.Add("%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t", "a\nb")
	f.Add("%-8!5j%%%_", "\xff\"")
	f.Fuzz(func(t *testing.T, pattern, msg string) {
		format, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		e := entry{time: at, level: LevelInfo, component: "main", message: []byte(msg)}
		line := format.Escaped()
		if got := line.appendLine(nil, &e); len(got) == 0 || got[len(got)-1] != '\n' {
			t.Errorf("line %q", got)
		}
		if j, err := ParseJSONFormat(map[string]any{"m": pattern}); err == nil {
			if got := j.appendLine(nil, &e); !json.Valid(got) {
				t.Errorf("not JSON: %s", got)
			}
		}
	})
}
